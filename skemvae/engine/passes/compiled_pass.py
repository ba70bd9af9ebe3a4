"""Passes through the compiled kernel, which stay in registers and cache.

The kernel computes the same as ``scan`` (squared distances, and moments of the features behind
them) on tiles of rows that fit a core's own cache. It uses the widest vectors of the processor,
and only half of each symmetric product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.moments import Moments
from skemvae.core.rows import Rows
from skemvae.core.scan import Scan
from skemvae.engine.passes.sums import SummingPass, Sums
from skemvae.engine.passes.threads import Region, in_region
from skemvae.kernel import native
from skemvae.kernel.small_matrices import readable, symmetric, unwhiten
from skemvae.structures.axis_scan import AxisScan, ExpandedScan, SphericalScan
from skemvae.structures.dense_scan import (
    DenseScan,
    DifferenceScan,
    SingleScan,
    TiedScan,
    UnitScan,
    WhitenedScan,
)
from skemvae.structures.factor_scan import ExpandedFactorScan, FactorMoments, FactorScan

# Bytes of a core's own cache for one tile, and its fewest and most rows. Tiles in float32 need more
# rows, since each ends with adding its sums up in float64 (measured). All are odd multiples of 32:
# features that are powers of two apart would compete for the same cache lines.
_CACHE = 2**18
_FEWEST_ROWS, _MOST_ROWS, _SINGLE_ROWS = 96, 160, 288
# Numbers of scratch memory that alignment to a vector may skip.
_ALIGNMENT = 8
# How many numbers to read at a time if they must be converted, and after how many multiplications
# (a few tenths of a second) to check for Ctrl-C.
_READ, _PATIENCE = 2**17, 2**33
# The cost of a component besides its products (mainly an exponential), in multiplications; how many
# multiplications, some 10 microseconds, justify a run of their own; the largest number of runs; and
# the largest number of sums in all of them (8 MiB).
_OTHER_WORK = 30
_WORTH_A_RUN, _MOST_RUNS, _MOST_SUMS = 2**18, 32, 2**20


# Types that the kernel reads without conversion.
TYPES = (np.dtype(np.float64), np.dtype(np.float32))


@dataclass(frozen=True)
class Cost:
    """The cost of a pass of the kernel, and the resulting division of rows.

    Attributes
    ----------
    n_sums : int
        How many sums over rows it computes.
    n_kept : int
        How many numbers of scratch memory it needs per row of a tile.
    work_per_row : int
        The approximate number of multiplications.
    is_single : bool
        Whether it computes in float32.
    """

    n_sums: int
    n_kept: int
    work_per_row: int
    is_single: bool = False

    @classmethod
    def dense(cls, k: int, d: int) -> Cost:
        """The cost with K covariance matrices of d features."""
        n_sums, work_per_row = k * (1 + d + d * d), k * (d * (d + 5) + _OTHER_WORK)
        return cls(n_sums, k * (d + 1) + 3 * d + 4, work_per_row)

    @classmethod
    def axes(cls, k: int, d: int) -> Cost:
        """The cost with K times d variances."""
        return cls(k * (1 + 2 * d), k + 2 * d + 3, k * (4 * d + _OTHER_WORK))

    @property
    def tile(self) -> int:
        """How many rows are processed at a time."""
        if self.is_single:
            return _SINGLE_ROWS
        return _MOST_ROWS if 8 * self.n_kept * _MOST_ROWS <= _CACHE else _FEWEST_ROWS

    @property
    def n_rows_heard(self) -> int:
        """After how many rows to check for Ctrl-C."""
        return _PATIENCE // self.work_per_row + 1

    def n_runs(self, n: int) -> int:
        """The number of runs, a power of two so that two, four or eight threads share equally."""
        affordable = min(_MOST_SUMS // self.n_sums, _MOST_RUNS)
        worth = min(n * self.work_per_row // _WORTH_A_RUN, n // self.tile, affordable)
        return int(2 ** (max(worth, 1).bit_length() - 1))

    def n_scratch(self, n_runs: int, n_threads: int) -> int:
        """How many numbers of scratch memory a pass needs."""
        per_thread, per_run = self.n_kept * self.tile, self.n_sums + 1
        return n_threads * per_thread + n_runs * per_run + _ALIGNMENT


@dataclass(frozen=True)
class CompiledPass(SummingPass):
    """A pass of the kernel under K given components of d features.

    Attributes
    ----------
    name : str
        The name of the kernel's function.
    log_normaliser : array of shape (K,)
    means, factors : arrays
        The components, in the form that this function takes.
    cost : Cost
    to_moments : callable
        Turns its sums into moments in the coordinates of the table.
    """

    name: str
    log_normaliser: Array
    means: AnyArray
    factors: AnyArray
    cost: Cost
    to_moments: Callable[[Array], Moments]

    def sums(self, rows: Rows, region: Region) -> Sums:
        take = getattr(native.kernel, self.name)
        frame, cost = rows.frame, self.cost
        is_read = getattr(rows.X, "dtype", None) in TYPES
        length = cost.n_rows_heard if is_read else _READ
        sums, evidence = np.zeros(cost.n_sums), 0.0
        for start in range(0, rows.n_rows, length):
            where = slice(start, start + length)
            X = _read(np.asarray(rows.X[where]))
            n_runs = cost.n_runs(len(X))
            n_threads = min(region.n_workers, n_runs)
            scratch = region.workspace.array("kernel", cost.n_scratch(n_runs, n_threads))
            evidence += take(
                native.level,
                cost.tile,
                n_runs,
                n_threads,
                X,
                None if rows.weight is None else readable(rows.weight[where]),
                frame.origin,
                1 / frame.scale,
                self.log_normaliser,
                self.means,
                self.factors,
                scratch,
                sums,
            )
        return Sums((sums,), evidence)

    def moments(self, sums: Sums) -> Moments:
        return self.to_moments(sums.arrays[0])


def _read(X: AnyArray) -> AnyArray:
    """The array as the kernel can read it: float64 or float32 and aligned, with any strides."""
    X = X if X.dtype in TYPES else X.astype(np.float64)
    return X if X.flags.aligned else X.copy()


def compiled_keys(level: str, rows: Rows, slope: Array, shift: float) -> Array:
    """The fractional part of slope · z + shift, for each of a few rows in memory."""
    keys = np.empty(rows.n_rows)
    in_region(
        lambda region: native.kernel.keys(
            level,
            region.n_workers,
            _read(rows.X),
            None if rows.weight is None else readable(rows.weight),
            rows.frame.origin,
            1 / rows.frame.scale,
            slope,
            shift,
            keys,
        )
    )
    return keys


def compiled(scan: Scan, log_normaliser: Array) -> CompiledPass | None:
    """The pass of a scan by the kernel, or None where there is none."""
    # A class that derives from one of these may compute something else.
    make = None if native.level is None else _PASSES.get(type(scan))
    return None if make is None else make(scan, log_normaliser)


def _dense(scan: DenseScan, log_normaliser: Array) -> CompiledPass:
    k, d = scan.means.shape
    means = readable(scan.means)
    return CompiledPass(
        "dense",
        log_normaliser,
        means,
        readable(scan.precision_cholesky.transpose(0, 2, 1)),
        Cost.dense(k, d),
        partial(_dense_moments, means, scan.cholesky),
    )


def _single(scan: SingleScan, log_normaliser: Array) -> CompiledPass:
    double = _dense(scan, log_normaliser)
    means = double.means.astype(np.float32)
    return replace(
        double,
        name="dense_single",
        log_normaliser=log_normaliser + scan.rounding,
        means=means,
        factors=double.factors.astype(np.float32),
        cost=replace(double.cost, is_single=True),
        to_moments=partial(_dense_moments, means.astype(np.float64), scan.cholesky),
    )


def _dense_moments(means: Array, cholesky: Array, sums: Array) -> Moments:
    k, d = means.shape
    sums = sums.reshape(k, 1 + d + d * d)
    return Moments(sums[:, 0], means, *unwhiten(cholesky, sums))


def _shared(scan: TiedScan, log_normaliser: Array) -> CompiledPass:
    k, d = scan.means.shape
    lower, upper = scan.cholesky[0], scan.precision_cholesky[0]

    def moments(sums: Array) -> Moments:
        first = sums[k : k * (1 + d)].reshape(k, d) @ lower.T
        return scan.moments(sums[:k], first, symmetric(sums[k * (1 + d) :].reshape(d, d)))

    return CompiledPass(
        "shared",
        log_normaliser,
        readable(scan.means @ upper),
        readable(upper.T),
        Cost(k * (1 + d) + d * d, k + 3 * d + 3, d * (d + 5) + k * (3 * d + _OTHER_WORK)),
        moments,
    )


def _axes(scan: AxisScan | ExpandedScan, log_normaliser: Array) -> CompiledPass:
    k, d = scan.means.shape

    def moments(sums: Array) -> Moments:
        sums = sums.reshape(k, 1 + 2 * d)
        return Moments(sums[:, 0], scan.means, sums[:, 1 : 1 + d], sums[:, 1 + d :])

    return CompiledPass(
        "axes",
        log_normaliser,
        readable(scan.means),
        readable(1 / scan.variances),
        Cost.axes(k, d),
        moments,
    )


def _spherical(scan: SphericalScan, log_normaliser: Array) -> CompiledPass:
    k, d = scan.means.shape
    # Coefficients of |z|^2 and of z; the constant term is part of the normaliser.
    means, quadratic = readable(scan.means), 1 / scan.variances[:, 0]
    linear = -2 * quadratic[:, None] * means

    def moments(sums: Array) -> Moments:
        sums = sums.reshape(k, 2 + d)
        return scan.moments(sums[:, 0], sums[:, 2:], sums[:, 1:2])

    return CompiledPass(
        "spherical",
        log_normaliser + 0.25 * (linear * means).sum(1),
        linear,
        quadratic,
        Cost(k * (2 + d), k + d + 4, k * (2 * d + _OTHER_WORK)),
        moments,
    )


def _factors(scan: FactorScan, log_normaliser: Array) -> CompiledPass | None:
    if not scan.is_stable:
        return None
    k, d, q = scan.loadings.shape
    means, precisions = readable(scan.means), 1 / scan.noise

    def moments(sums: Array) -> Moments:
        sums = sums.reshape(k, 1 + 2 * d + d * q)
        seen = sums[:, 1 + 2 * d :].reshape(k, d, q)
        second = np.concatenate([seen, sums[:, 1 + d : 1 + 2 * d, None]], axis=2)
        return FactorMoments(sums[:, 0], means, sums[:, 1 : 1 + d], second, scan.directions)

    return CompiledPass(
        "factor_analytic",
        log_normaliser,
        means,
        readable(np.concatenate([scan.directions, precisions[:, None, :]], axis=1)),
        Cost(k * (1 + 2 * d + d * q), k * (q + 1) + 2 * d + 3, k * (d * (2 * q + 6) + _OTHER_WORK)),
        moments,
    )


_PASSES: dict[type[Scan], Callable[[Any, Array], CompiledPass | None]] = {
    DifferenceScan: _dense,
    UnitScan: _dense,
    WhitenedScan: _dense,
    SingleScan: _single,
    TiedScan: _shared,
    AxisScan: _axes,
    ExpandedScan: _axes,
    SphericalScan: _spherical,
    FactorScan: _factors,
    ExpandedFactorScan: _factors,
}
