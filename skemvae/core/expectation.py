"""The one function that touches rows, and the pass over blocks that it shares with scoring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.bound import Posterior
from skemvae.core.moments import Moments
from skemvae.core.rows import Block, Rows
from skemvae.core.scan import Scan

# The working set of a block, in numbers: 1 MiB, what a core's own cache holds.
_BLOCK_NUMBERS = 2**17
_FEWEST_ROWS, _MOST_ROWS = 128, 4096


class MixtureModel(Protocol):
    """p(x, z) with enumerable z: what the E step needs to know of a mixture."""

    @property
    def log_normaliser(self) -> Array:
        """The part of log p(x, z=k) that does not depend on x, shape (K,)."""

    def scan(self) -> Scan:
        """The arithmetic of a pass over rows."""


class Seen(NamedTuple):
    """A block of rows as a model sees it."""

    block: Block
    features: Array
    log_joint: Array  # (n, K)


def observe(model: MixtureModel, rows: Rows, scan: Scan | None = None) -> Iterator[Seen]:
    """Pass over the rows once, block by block, and yield log p(x, z=k) in the rows' frame."""
    scan = model.scan() if scan is None else scan
    log_normaliser = model.log_normaliser[:, None]
    size = min(max(_BLOCK_NUMBERS // scan.width, _FEWEST_ROWS), _MOST_ROWS)
    for block in rows.blocks(size):
        features = scan.features(block.z)
        with np.errstate(over="ignore"):
            log_joint = scan.squared_distances(features)
        log_joint *= -0.5
        log_joint += log_normaliser
        yield Seen(block, features, log_joint.T)


@dataclass(frozen=True)
class Expectation:
    """What an E step leaves behind of the rows.

    Attributes
    ----------
    moments : Moments
    evidence : float
        The weighted sum of log p(x) in the rows' frame, nats.
    total : float
        The sum of the weights.
    """

    moments: Moments
    evidence: float
    total: float

    def __add__(self, other: Expectation) -> Expectation:
        return Expectation(
            self.moments + other.moments,
            self.evidence + other.evidence,
            self.total + other.total,
        )

    @property
    def bound(self) -> float:
        """The objective in nats per sample, in the rows' frame."""
        return self.evidence / self.total


def expectation(model: MixtureModel, rows: Rows) -> Expectation:
    """The E step: expected sufficient statistics under the exact posterior, and the bound."""
    scan = model.scan()
    first = second = evidence = 0.0
    for (_, z, weight), features, log_joint in observe(model, rows, scan):
        posterior = Posterior.exact(log_joint)
        responsibility = posterior.weight.T
        if weight is None:
            evidence += posterior.log_evidence.sum()
        else:
            responsibility *= weight
            evidence += weight @ posterior.log_evidence
        first = first + responsibility @ z.T
        second = second + scan.second(features, responsibility)
    return Expectation(_moments(scan, first, second), float(evidence), rows.total)


def moments_given(responsibilities: Array, scan: Scan, rows: Rows) -> Moments:
    """Expected sufficient statistics under given responsibilities of shape (n, K)."""
    first = second = 0.0
    for where, z, weight in rows.blocks():
        responsibility = np.ascontiguousarray(responsibilities[where].T, dtype=float)
        if weight is not None:
            responsibility *= weight
        first = first + responsibility @ z.T
        second = second + scan.second(scan.features(z), responsibility)
    return _moments(scan, first, second)


def _moments(scan: Scan, first: Array, second: Array) -> Moments:
    # The last row of z holds ones, so the last column of ``first`` holds the counts.
    return scan.moments(first[:, -1], first[:, :-1], second)
