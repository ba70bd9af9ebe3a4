"""The arithmetic of a block under covariances with off-diagonal elements.

The factors of the precisions whiten the differences from the means. Second
moments are taken of the whitened differences, which are of order 1 however
ill-conditioned the covariances are.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from skemvae.core.arrays import TINY, AnyArray, Array
from skemvae.core.moments import Moments
from skemvae.core.scan import RESOLVED, Scan
from skemvae.core.workspace import Workspace
from skemvae.kernel.small_matrices import SMALL, congruent

# The number of features whitened together (a slab), and the largest number of slabs; more slabs
# would make the products thin and slow.
_SLAB_FEATURES, _MOST_SLABS = 24, 4
# From this many features on, products in float32 save more than the conversions cost.
_WORTH_SINGLE = 32
# Beyond this a square overflows float32; such a row has density 0.
_FAR = 1e15


@dataclass(frozen=True)
class DenseScan(Scan):
    """One pass under dense covariances, given by their factors.

    Attributes
    ----------
    cholesky : array of shape (K, d, d)
        Lower factors of the covariances.
    precision_cholesky : array of shape (K, d, d)
        Upper factors U of the precisions, U U^T.
    """

    cholesky: Array
    precision_cholesky: Array

    @property
    def width(self) -> int:
        return int(self.means.size)

    @abstractmethod
    def whitened(self, features: AnyArray) -> AnyArray:
        """U^T (x - mean), shape (K, d, n)."""

    def residuals(self, features: Array) -> tuple[Array, Array]:
        # precision (x - mean) = U (U^T (x - mean)), and precision_jj = 1 / variance.
        precisions = (self.precision_cholesky**2).sum(2)
        unit = self.precision_cholesky / np.sqrt(precisions)[:, :, None]
        return (unit @ self.whitened(features)) ** 2, 1 / precisions

    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        second = congruent(self.cholesky, second)
        return Moments(count, self.means, first - count[:, None] * self.means, second)

    def about(self, means: Array) -> Scan:
        unit = np.broadcast_to(np.eye(means.shape[1]), self.cholesky.shape)
        return UnitScan(means, unit, unit)

    def second_scan(self, n_rows: int) -> Scan:
        # For few rows, undoing the whitening costs more than taking moments of unwhitened rows.
        # So few rows do not span all directions, so no small variance can lose precision.
        return self.about(self.means) if SMALL < self.means.shape[1] >= n_rows else self


@dataclass(frozen=True)
class DifferenceScan(DenseScan):
    """Subtracts the means before whitening: accurate wherever they are, but slower."""

    def features(self, z: Array, workspace: Workspace) -> Array:
        shape = (*self.means.shape, z.shape[1])
        differences = workspace.array("differences", *shape)
        np.subtract(z[None, :-1], self.means[:, :, None], out=differences)
        whitened = workspace.array("features", *shape)
        return np.matmul(self.precision_cholesky.transpose(0, 2, 1), differences, out=whitened)

    def whitened(self, features: Array) -> Array:
        return features

    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        distances = workspace.array("distances", len(features), features.shape[2])
        return np.einsum("kdn,kdn->kn", features, features, out=distances)

    def second(self, features: Array, weight: Array, workspace: Workspace) -> Array:
        root = np.sqrt(weight, out=workspace.array("root", *weight.shape))
        features *= root[:, None, :]
        second: Array = features @ features.transpose(0, 2, 1)
        return second


@dataclass(frozen=True)
class UnitScan(DifferenceScan):
    """Takes differences without whitening, as for unit covariances."""

    def features(self, z: Array, workspace: Workspace) -> Array:
        differences = workspace.array("features", *self.means.shape, z.shape[1])
        return np.subtract(z[None, :-1], self.means[:, :, None], out=differences)

    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        return Moments(count, self.means, first - count[:, None] * self.means, second)


@dataclass(frozen=True)
class WhitenedScan(DenseScan):
    """Whitens with a few matrix products for all components together.

    The error of a difference is about eps (mean / standard deviation), so this
    scan is used only if the means are within ``LIMIT`` standard deviations of
    the origin.

    U^T is lower triangular, so whitening a feature needs only itself and those
    before it. The features are therefore whitened, and stored, slab by slab.
    """

    LIMIT: ClassVar[float] = 1e4
    WIDE: ClassVar[float] = 112
    dtype: ClassVar[type[np.floating[Any]]] = np.float64

    @cached_property
    def _slabs(self) -> list[slice]:
        """Consecutive features, in slabs of about equal size."""
        d = self.means.shape[1]
        n_slabs = min(max(d // _SLAB_FEATURES, 1), _MOST_SLABS)
        return [slice(*ends) for ends in pairwise(d * i // n_slabs for i in range(n_slabs + 1))]

    @cached_property
    def _whiteners(self) -> list[AnyArray]:
        """[U^T, -U^T mean] of each slab, with one row per component and feature."""
        upper = self.precision_cholesky
        constant = -(self.means[:, None, :] @ upper)
        whiteners = [
            np.concatenate([upper[:, : slab.stop, slab], constant[:, :, slab]], axis=1)
            for slab in self._slabs
        ]
        return [
            np.ascontiguousarray(each.transpose(0, 2, 1), self.dtype).reshape(-1, each.shape[1])
            for each in whiteners
        ]

    def _by_slab(self, features: AnyArray) -> list[AnyArray]:
        """Views of the features of each slab, shape (K, features of the slab, n)."""
        k, n = len(self.means), features.shape[1]
        return [features[k * slab.start : k * slab.stop].reshape(k, -1, n) for slab in self._slabs]

    def features(self, z: AnyArray, workspace: Workspace) -> AnyArray:
        n = z.shape[1]
        features = workspace.array("features", self.means.size, n, dtype=self.dtype)
        for slab, whitener, out in zip(
            self._slabs, self._whiteners, self._by_slab(features), strict=True
        ):
            needed = z
            if slab.stop < len(z) - 1:
                needed = workspace.array("needed", slab.stop + 1, n, dtype=self.dtype)
                needed[:-1], needed[-1] = z[: slab.stop], 1.0
            np.matmul(whitener, needed, out=out.reshape(-1, n))
        return features

    def whitened(self, features: AnyArray) -> AnyArray:
        return np.concatenate(self._by_slab(features), axis=1)

    def squared_distances(self, features: AnyArray, workspace: Workspace) -> Array:
        distances = workspace.array("distances", len(self.means), features.shape[1])
        distances.fill(0.0)
        for slab in self._by_slab(features):
            distances += np.einsum("kdn,kdn->kn", slab, slab)
        return distances

    def second(self, features: AnyArray, weight: Array, workspace: Workspace) -> Array:
        root = np.sqrt(weight).astype(self.dtype, copy=False)[:, None, :]
        weighted = workspace.array("weighted", *self.means.shape, root.shape[2], dtype=self.dtype)
        for where, slab in zip(self._slabs, self._by_slab(features), strict=True):
            np.multiply(slab, root, out=weighted[:, where])
        second: Array = (weighted @ weighted.transpose(0, 2, 1)).astype(np.float64, copy=False)
        return second

    def single(self) -> Scan | None:
        scan = SingleScan(self.means, self.cholesky, self.precision_cholesky)
        return scan if scan.serves else None


@dataclass(frozen=True)
class SingleScan(WhitenedScan):
    """Whitens in float32, which is twice as fast, and sums blocks in float64.

    Rounding the factors gives a slightly different model. The distances are
    those of that model, including its determinant, so at a maximum the bound
    changes only to second order. What remains is the rounding of single rows,
    which averages out.

    The error of a whitened feature is about 6e-8 times the sum of the absolute
    entries in its row of the whitener. The scan is used if that sum is at most
    ``LIMIT``.
    """

    LIMIT: ClassVar[float] = 100.0
    WIDE: ClassVar[float] = 80
    dtype: ClassVar[type[np.floating[Any]]] = np.float32

    @property
    def serves(self) -> bool:
        """Whether products in float32 are accurate enough and save time."""
        if self.means.shape[1] < _WORTH_SINGLE:
            return False
        sums = [np.abs(whitener).sum(1).max() for whitener in self._whiteners]
        return bool(max(sums) <= self.LIMIT)

    def features(self, z: Array, workspace: Workspace) -> AnyArray:
        single = workspace.array("single", *z.shape, dtype=self.dtype)
        np.clip(z, -_FAR, _FAR, out=single, casting="same_kind")
        return super().features(single, workspace)

    @cached_property
    def rounding(self) -> Array:
        """The change of the log determinants of the factors by rounding, shape (K,)."""
        exact = self.precision_cholesky.diagonal(axis1=1, axis2=2)
        rounded = exact.astype(self.dtype).astype(np.float64)
        change: Array = np.log(rounded / exact).sum(1)
        return change

    def squared_distances(self, features: AnyArray, workspace: Workspace) -> Array:
        distances = super().squared_distances(features, workspace)
        distances -= 2 * self.rounding[:, None]
        return distances


@dataclass(frozen=True)
class TiedScan(DenseScan):
    """Whitens rows once, for a covariance that all components share, and expands the squares.

    Only the pooled covariance matters, so one scatter about the origin is
    enough: the moments of each component hold the pooled covariance instead of
    its own. The terms cancel as in ``ExpandedScan``, so this scan is used only if
    the means are within ``LIMIT`` standard deviations of the origin.
    """

    LIMIT: ClassVar[float] = RESOLVED
    WIDE: ClassVar[float] = 6

    @property
    def width(self) -> int:
        return int(sum(self.means.shape))

    @property
    def origin(self) -> Array:
        return np.zeros_like(self.means)

    @cached_property
    def whitener(self) -> Array:
        """U^T, and 1 for the last row of z, shape (d + 1, d + 1)."""
        d = self.means.shape[1]
        whitener = np.eye(d + 1)
        whitener[:d, :d] = self.precision_cholesky[0].T
        return whitener

    @cached_property
    def coefficients(self) -> Array:
        """Coefficients of y = U^T x, 1 and |y|^2 in the squared distances, shape (K, d + 2)."""
        means = self.means @ self.precision_cholesky[0]
        constant = (means**2).sum(1, keepdims=True)
        return np.concatenate([-2 * means, constant, np.ones_like(constant)], axis=1)

    def features(self, z: Array, workspace: Workspace) -> Array:
        """The rows y, 1 and |y|^2."""
        features = workspace.array("features", len(z) + 1, z.shape[1])
        y = np.matmul(self.whitener, z, out=features[:-1])[:-1]
        np.einsum("dn,dn->n", y, y, out=features[-1])
        return features

    def whitened(self, features: Array) -> Array:
        means = self.means @ self.precision_cholesky[0]
        whitened: Array = features[None, :-2] - means[:, :, None]
        return whitened

    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        distances = workspace.array("distances", len(self.means), features.shape[1])
        return np.matmul(self.coefficients, features, out=distances)

    def second(self, features: Array, weight: Array, workspace: Workspace) -> Array:
        y = features[:-2]
        y *= np.sqrt(weight.sum(0))
        second: Array = y @ y.T
        return second

    def second_scan(self, n_rows: int) -> Scan:
        return self  # only one whitening must be undone, not K

    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        lower, upper = self.cholesky[0], self.precision_cholesky[0]
        shifts = first - count[:, None] * self.means
        means = self.means + shifts / np.maximum(count, TINY)[:, None]
        whitened = means @ upper
        within = second - (count[:, None] * whitened).T @ whitened
        pooled = lower @ within @ lower.T / max(count.sum(), TINY)
        return Moments(count, means, np.zeros_like(means), count[:, None, None] * pooled)
