"""The compiled kernel: a pass over rows that stays in registers and cache.

It does what ``scan`` does (differences, whitened or standardised, and their moments) on tiles of
rows that never leave a core's own cache, with vectors as wide as the processor has them, and with
half of each symmetric product. Its C++ stands in ``kernel/``. It is optional: where it was not
built, passes go through NumPy and BLAS.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, singledispatch

import numpy as np

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.axis_scan import AxisScan, ExpandedScan, SphericalScan
from skemvae.core.dense_scan import DenseScan, SingleScan, TiedScan
from skemvae.core.moments import Moments
from skemvae.core.rows import Rows
from skemvae.core.scan import Scan
from skemvae.core.sums import Sums
from skemvae.core.workspace import Workspace

try:
    from skemvae.core import _kernel

    LEVELS: tuple[str, ...] = tuple(_kernel.levels())
except ImportError:  # no compiler was at hand when skemvae was installed
    LEVELS = ()

# Bytes that a tile may take of a core's own cache, and its fewest and most rows; what is computed
# in float32 needs more, since its sums are added up as float64 at the end of each tile (measured).
# Odd multiples of 32: what the features of a row take of the cache would overlap, were they powers
# of two apart.
_CACHE = 2**18
_FEWEST_ROWS, _MOST_ROWS, _SINGLE_ROWS = 96, 160, 288
# Numbers that may be passed over in scratch memory, until an address suits a vector.
_ALIGNMENT = 8
# How many numbers of a table are read at a time, where it is not in memory.
_READ = 2**17
# What a component costs beside its products, an exponential above all, in multiplications; and how
# many of them, some 50 microseconds, are worth waking a thread for.
_OTHER_WORK = 30
_WORTH_A_THREAD = 2**20


def _chosen_level() -> str | None:
    chosen = os.environ.get("SKEMVAE_KERNEL", "auto")
    if chosen == "auto":
        return LEVELS[0] if LEVELS else None
    if chosen != "none" and chosen not in LEVELS:
        choices = ", ".join(("auto", "none", *LEVELS))
        raise ValueError(f"The environment has SKEMVAE_KERNEL={chosen}; choose from {choices}.")
    return None if chosen == "none" else chosen


# The vector width in use, one of LEVELS, the fastest first; None where passes go through BLAS.
level: str | None = _chosen_level()


@dataclass(frozen=True)
class CompiledPass:
    """A pass under K given components of d features.

    Attributes
    ----------
    name : str
        Of the kernel's function.
    log_normaliser : array of shape (K,)
    means, factors : arrays
        What that function takes the components as.
    n_sums : int
        How many sums over rows it makes.
    n_kept : int
        How many numbers of scratch memory it needs for each row of a tile.
    work_per_row : int
        Multiplications, about.
    moments : callable
        Turns its sums into moments in the coordinates of the table.
    """

    name: str
    log_normaliser: Array
    means: AnyArray
    factors: AnyArray
    n_sums: int
    n_kept: int
    work_per_row: int
    to_moments: Callable[[Array], Moments]

    @property
    def fewest_rows(self) -> int:
        return int(_WORTH_A_THREAD // self.work_per_row + 1)

    @property
    def block_rows(self) -> int:
        return int(_READ // len(self.means[0]) + 1)

    @property
    def _tile(self) -> int:
        if self.factors.dtype == np.float32:
            return _SINGLE_ROWS
        return _MOST_ROWS if 8 * self.n_kept * _MOST_ROWS <= _CACHE else _FEWEST_ROWS

    def sums(self, rows: Rows, run: range, workspace: Workspace) -> Sums:
        """Sums over the blocks that begin at ``run``."""
        take = getattr(_kernel, self.name)
        frame = rows.frame
        scratch = workspace.array("kernel", self.n_kept * self._tile + _ALIGNMENT)
        sums, evidence = np.zeros(self.n_sums), 0.0
        for start in run:
            where = slice(start, min(start + run.step, run.stop))
            X = np.asarray(rows.X[where])
            if X.dtype not in (np.float32, np.float64):
                X = X.astype(np.float64)
            X = X if X.flags.aligned else X.copy()
            weight = None if rows.weight is None else _readable(rows.weight[where])
            evidence += take(
                level,
                self._tile,
                X,
                weight,
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
        """What sums over rows say of them."""
        return self.to_moments(sums.arrays[0])


def compiled(scan: Scan, log_normaliser: Array) -> CompiledPass | None:
    """The pass of a scan by the kernel, or None where there is none."""
    return None if level is None else _pass(scan, log_normaliser)


@singledispatch
def _pass(scan: Scan, log_normaliser: Array) -> CompiledPass | None:
    return None


@_pass.register
def _dense(scan: DenseScan, log_normaliser: Array) -> CompiledPass:
    k, d = scan.means.shape
    means = _readable(scan.means)
    return CompiledPass(
        "dense",
        log_normaliser,
        means,
        _readable(scan.precision_cholesky.transpose(0, 2, 1)),
        n_sums=k * (1 + d + d * d),
        n_kept=k * (d + 1) + 3 * d + 4,
        work_per_row=k * (d * (d + 5) + _OTHER_WORK),
        to_moments=partial(_dense_moments, means, scan.cholesky),
    )


@_pass.register
def _single(scan: SingleScan, log_normaliser: Array) -> CompiledPass:
    double = _dense(scan, log_normaliser)
    means = double.means.astype(np.float32)
    return replace(
        double,
        name="dense_single",
        log_normaliser=log_normaliser + scan.rounding,
        means=means,
        factors=double.factors.astype(np.float32),
        to_moments=partial(_dense_moments, means.astype(np.float64), scan.cholesky),
    )


def _dense_moments(means: Array, cholesky: Array, sums: Array) -> Moments:
    k, d = means.shape
    sums = sums.reshape(k, 1 + d + d * d)
    first = cholesky @ sums[:, 1 : 1 + d, None]
    second = cholesky @ _symmetric(sums[:, 1 + d :].reshape(k, d, d))
    return Moments(sums[:, 0], means, first[:, :, 0], second @ cholesky.transpose(0, 2, 1))


@_pass.register
def _shared(scan: TiedScan, log_normaliser: Array) -> CompiledPass:
    k, d = scan.means.shape
    lower, upper = scan.cholesky[0], scan.precision_cholesky[0]

    def moments(sums: Array) -> Moments:
        first = sums[k : k * (1 + d)].reshape(k, d) @ lower.T
        return scan.moments(sums[:k], first, _symmetric(sums[k * (1 + d) :].reshape(d, d)))

    return CompiledPass(
        "shared",
        log_normaliser,
        _readable(scan.means @ upper),
        _readable(upper.T),
        n_sums=k * (1 + d) + d * d,
        n_kept=k + 3 * d + 3,
        work_per_row=d * (d + 5) + k * (3 * d + _OTHER_WORK),
        to_moments=moments,
    )


@_pass.register(AxisScan)
@_pass.register(ExpandedScan)
def _axes(scan: AxisScan | ExpandedScan, log_normaliser: Array) -> CompiledPass:
    k, d = scan.means.shape

    def moments(sums: Array) -> Moments:
        sums = sums.reshape(k, 1 + 2 * d)
        return Moments(sums[:, 0], scan.means, sums[:, 1 : 1 + d], sums[:, 1 + d :])

    return CompiledPass(
        "axes",
        log_normaliser,
        _readable(scan.means),
        _readable(1 / scan.variances),
        n_sums=k * (1 + 2 * d),
        n_kept=k + 2 * d + 3,
        work_per_row=k * (4 * d + _OTHER_WORK),
        to_moments=moments,
    )


@_pass.register
def _spherical(scan: SphericalScan, log_normaliser: Array) -> CompiledPass:
    k, d = scan.means.shape

    def moments(sums: Array) -> Moments:
        sums = sums.reshape(k, 2 + d)
        # Of the second moments only the mean over features is known, and counts.
        second = np.repeat(sums[:, 1:2] / d, d, axis=1)
        about_old = Moments(sums[:, 0], scan.means, sums[:, 2:], second)
        central = about_old.about(about_old.means)
        shared = central.second.mean(1, keepdims=True)
        return replace(central, second=np.broadcast_to(shared, (k, d)))

    return CompiledPass(
        "spherical",
        log_normaliser,
        _readable(scan.means),
        _readable(1 / scan.variances[:, 0]),
        n_sums=k * (2 + d),
        n_kept=2 * (k + d) + 3,
        work_per_row=k * (2 * d + _OTHER_WORK),
        to_moments=moments,
    )


def _readable(array: Array) -> Array:
    """As the kernel reads it: in one piece, at an address that suits its type."""
    array = np.ascontiguousarray(array, dtype=np.float64)
    return array if array.flags.aligned else array.copy()


def _symmetric(lower: Array) -> Array:
    """The matrices whose lower triangles the kernel has summed; the rest is zero."""
    symmetric: Array = lower + lower.swapaxes(-1, -2)
    np.einsum("...ii->...i", symmetric)[...] /= 2
    return symmetric
