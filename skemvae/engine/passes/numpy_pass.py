"""Passes over rows through NumPy and BLAS, block by block, for E steps and scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.bound import Posterior, log_conditionals
from skemvae.core.expectation import ScoringModel
from skemvae.core.moments import Moments
from skemvae.core.rows import Block, Rows
from skemvae.core.scan import Metric, Scan
from skemvae.core.workspace import Workspace
from skemvae.engine.passes.sums import SummingPass, Sums
from skemvae.engine.passes.threads import Region, in_region
from skemvae.structures.matrices import MatrixCovariance

# Numbers in the working set of a block. Fewer would fit a core's own cache, but
# then threads mostly wait for the interpreter (measured).
_BLOCK_NUMBERS = 2**18
_FEWEST_ROWS, _MOST_ROWS = 128, 8192


class Seen(NamedTuple):
    """A block of rows and its scores under a model, valid until the next block."""

    block: Block
    features: Array
    log_joint: Array  # (n, K)
    scan: Metric


def _block_size(width: int) -> int:
    return min(max(_BLOCK_NUMBERS // width, _FEWEST_ROWS), _MOST_ROWS)


def _observe(
    log_normaliser: Array, scan: Metric, rows: Rows, run: range, workspace: Workspace
) -> Iterator[Seen]:
    for block in rows.blocks(run, workspace):
        features = scan.features(block.z, workspace)
        log_joint = scan.log_joint(features, log_normaliser, workspace)
        yield Seen(block, features, log_joint.T, scan)


def each_block(
    model: ScoringModel, rows: Rows, visit: Callable[[Seen], None], width: int = 1
) -> None:
    """Call ``visit`` on each block of the rows, on several threads.

    log p(x, z=k) is in the rows' frame. ``width`` is how many numbers ``visit``
    computes per row and component.
    """
    scan, log_normaliser = model.scan(), model.log_normaliser
    block = _block_size(max(width * len(log_normaliser), scan.width))

    def visit_all(region: Region) -> None:
        def visit_run(run: range) -> None:
            for seen in _observe(log_normaliser, scan, rows, run, region.workspace):
                visit(seen)

        region.map(visit_run, rows.runs(block, block))

    in_region(visit_all)


def map_rows(
    model: ScoringModel,
    rows: Rows,
    function: Callable[[Posterior], AnyArray],
    out: AnyArray,
) -> AnyArray:
    """Apply ``function`` to the exact posterior of each block; return ``out``, with the results."""

    def visit(seen: Seen) -> None:
        values = function(Posterior.exact(seen.log_joint))
        with np.errstate(over="ignore"):  # float32 may round a log density to -inf
            out[seen.block.where] = values

    each_block(model, rows, visit)
    return out


def map_conditionals(model: ScoringModel, rows: Rows, out: AnyArray) -> AnyArray:
    """Compute log p(x_j | x_-j) in the rows' frame; return ``out``, of shape (n, d)."""

    def visit(seen: Seen) -> None:
        with np.errstate(over="ignore"):
            log_given = seen.scan.log_conditionals(seen.features)
            values = log_conditionals(seen.log_joint, log_given.transpose(2, 0, 1))
            out[seen.block.where] = values

    each_block(model, rows, visit, width=out.shape[1])
    return out


@dataclass(frozen=True)
class ScannedPass(SummingPass):
    """A pass through NumPy and BLAS.

    Attributes
    ----------
    log_normaliser : array of shape (K,)
    scan : Scan
        Computes the responsibilities.
    second_scan : Scan
        Computes the second moments.
    posterior : callable
        One of ``POSTERIORS``.
    """

    log_normaliser: Array
    scan: Scan
    second_scan: Scan
    posterior: Callable[..., Posterior] = Posterior.exact

    def sums(self, rows: Rows, region: Region) -> Sums:
        block = _block_size(self.scan.width)

        def sums_of_run(run: range) -> Sums:
            workspace = region.workspace
            blocks = _observe(self.log_normaliser, self.scan, rows, run, workspace)
            return reduce(add, (self._sums_of_block(seen, workspace) for seen in blocks))

        return reduce(add, region.map(sums_of_run, rows.runs(block, block)))

    def _sums_of_block(self, seen: Seen, workspace: Workspace) -> Sums:
        (_, z, weight), features, log_joint, _ = seen
        posterior = self.posterior(log_joint, out=log_joint)
        responsibility, evidence = posterior.weight.T, posterior.log_evidence
        if weight is not None:
            responsibility *= weight
        total = evidence.sum() if weight is None else weight @ evidence
        if self.second_scan is not self.scan:
            features = self.second_scan.features(z, workspace)
        first = self.second_scan.reweighted(features, responsibility) @ z.T
        second = self.second_scan.second(features, responsibility, workspace)
        return Sums((first, second), float(total))

    def moments(self, sums: Sums) -> Moments:
        # The last row of z holds ones, so the last column of the first moments holds the counts.
        first, second = sums.arrays
        return self.second_scan.moments(first[:, -1], first[:, :-1], second)


def moments_given(responsibilities: Array, unit: MatrixCovariance, rows: Rows) -> Moments:
    """Compute expected sufficient statistics under given responsibilities, shape (n, K).

    A second pass takes the second moments about the means, so nothing cancels.
    ``unit`` holds K unit matrices of the structure for which the moments are.
    """
    workspace = Workspace()

    def blocks(size: int) -> Iterator[tuple[Array, Array]]:
        for where, z, weight in rows.blocks(range(0, rows.n_rows, size), workspace):
            responsibility = np.array(responsibilities[where].T, dtype=float, order="C")
            yield z, responsibility if weight is None else responsibility * weight

    first: Array = reduce(add, (r @ z.T for z, r in blocks(_MOST_ROWS)))
    count = first[:, -1:]
    means = first[:, :-1] / np.where(count > 0, count, 1.0)
    scan = unit.scan(means).about(means)
    second = reduce(
        add,
        (
            scan.second(scan.features(z, workspace), r, workspace)
            for z, r in blocks(_block_size(scan.width))
        ),
    )
    return scan.moments(first[:, -1], first[:, :-1], second)
