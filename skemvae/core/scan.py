"""The arithmetic of one block of rows, under K fixed Gaussian components.

A scan holds what is constant during a pass over the data. For each block it
makes ``features``, from which both the squared Mahalanobis distances (E step)
and the second moments (M step) follow; ``moments`` turns their sums over
blocks into data coordinates. Arrays run along the rows of the table in their
last axis, which is the long one, and live in a workspace until the next block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.special import gammaln

from skemvae.core.arrays import Array
from skemvae.core.moments import Moments
from skemvae.core.workspace import Workspace

# Standard deviations between a mean and the origin of its moments that cost
# less than five of the sixteen digits of a variance; and a variance that is
# none, in a frame where the data have unit scale.
_RESOLVED = 300.0
_NO_VARIANCE = 1e-26
# The logarithm of a larger square would not matter any more, and its sums might overflow.
_FAR_SQUARE = 1e300


class Metric(ABC):
    """How far rows are from K components: the part of a pass that scoring needs."""

    @property
    @abstractmethod
    def width(self) -> int:
        """How many numbers ``features`` makes for one row; sets the block size."""

    @abstractmethod
    def features(self, z: Array, workspace: Workspace) -> Array:
        """What the structure needs to know of a block ``z`` of shape (d + 1, n)."""

    @abstractmethod
    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        """-2 log density, but for a constant, shape (K, n)."""

    @abstractmethod
    def log_conditionals(self, features: Array) -> Array:
        """log p(x_j | all other features) under each component, shape (K, d, n)."""


@dataclass(frozen=True)
class Scan(Metric):
    """One pass over rows under K Gaussian components with given means.

    The squared distance is (x - mean)^T precision (x - mean).

    Attributes
    ----------
    means : array of shape (K, d)
    """

    means: Array

    @abstractmethod
    def residuals(self, features: Array) -> tuple[Array, Array]:
        """How far each feature is from its regression on all others.

        Returns
        -------
        squares : array of shape (K, d, n)
            Relative to the variance about the regression.
        variances : array of shape (K, d)
        """

    def log_conditionals(self, features: Array) -> Array:
        squares, variances = self.residuals(features)
        return -0.5 * (squares + np.log(2 * np.pi * variances)[:, :, None])

    @abstractmethod
    def second(self, features: Array, weight: Array, workspace: Workspace) -> Array:
        """Weighted second moments in the scan's own coordinates; may overwrite ``features``.

        ``weight`` has shape (K, n).
        """

    @abstractmethod
    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        """Moments about the means, from sums of r, of r x and of ``second``."""

    @property
    def origin(self) -> Array:
        """What the second moments are taken about, shape (K, d)."""
        return self.means

    @abstractmethod
    def about(self, means: Array) -> Scan:
        """A scan of the same kind that takes second moments about other means, by differences."""

    def sharper(self, moments: Moments) -> Scan | None:
        """A scan that resolves ``moments`` about the new means, if this one could not.

        Second moments about an origin lose the digits of a variance that is
        far smaller than the squared distance of the mean from the origin.
        """
        variances = moments.variances
        shift = moments.means - self.origin
        lost = shift**2 > _RESOLVED**2 * np.maximum(variances, _NO_VARIANCE)
        return self.about(moments.means) if lost[moments.counted].any() else None


class StandardisedScan(Scan):
    """Scans whose features are standardised differences from the means, shape (K, d, n)."""

    @property
    def width(self) -> int:
        return int(self.means.size)

    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        distances = workspace.array("distances", len(features), features.shape[2])
        np.einsum("kdn,kdn->kn", features, features, out=distances)
        return distances

    def _differences(self, z: Array, out: Array) -> Array:
        return np.subtract(z[None, :-1], self.means[:, :, None], out=out)


@dataclass(frozen=True)
class DenseScan(StandardisedScan):
    """Dense precisions: differences whitened by the factors of the precisions.

    The second moments are taken of the whitened differences, which are of
    order 1 whatever the condition of the covariances is.

    Attributes
    ----------
    cholesky : array of shape (K, d, d)
        Lower factors of the covariances.
    precision_cholesky : array of shape (K, d, d)
        Upper factors U of the precisions, U U^T.
    """

    cholesky: Array
    precision_cholesky: Array

    def residuals(self, features: Array) -> tuple[Array, Array]:
        # precision (x - mean) = U (U^T (x - mean)), and precision_jj = 1 / variance.
        precisions = (self.precision_cholesky**2).sum(2)
        unit = self.precision_cholesky / np.sqrt(precisions)[:, :, None]
        return (unit @ features) ** 2, 1 / precisions

    def second(self, features: Array, weight: Array, workspace: Workspace) -> Array:
        root = np.sqrt(weight, out=workspace.array("root", *weight.shape))
        features *= root[:, None, :]
        second: Array = features @ features.transpose(0, 2, 1)
        return second

    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        second = self.cholesky @ second @ self.cholesky.transpose(0, 2, 1)
        return Moments(count, self.means, first - count[:, None] * self.means, second)

    def about(self, means: Array) -> Scan:
        unit = np.broadcast_to(np.eye(means.shape[1]), self.cholesky.shape)
        return DifferenceScan(means, unit, unit)


@dataclass(frozen=True)
class WhitenedScan(DenseScan):
    """Whitens by one matrix product for all components.

    The error of a difference is about eps (mean / standard deviation), so it
    serves only while the means lie within ``LIMIT`` standard deviations of
    the origin.
    """

    LIMIT: ClassVar[float] = 1e4

    @cached_property
    def _whitener(self) -> Array:
        """[U^T, -U^T mean] of all components, shape (K d, d + 1)."""
        k, d = self.means.shape
        whitener = np.empty((k, d, d + 1))
        whitener[:, :, :d] = self.precision_cholesky.transpose(0, 2, 1)
        whitener[:, :, d] = -(self.means[:, None, :] @ self.precision_cholesky)[:, 0, :]
        return whitener.reshape(k * d, d + 1)

    def features(self, z: Array, workspace: Workspace) -> Array:
        whitened = workspace.array("features", self.means.size, z.shape[1])
        np.matmul(self._whitener, z, out=whitened)
        return whitened.reshape(*self.means.shape, -1)


@dataclass(frozen=True)
class DifferenceScan(DenseScan):
    """Subtracts the means before it whitens: exact wherever they lie, and slower."""

    def features(self, z: Array, workspace: Workspace) -> Array:
        shape = (*self.means.shape, z.shape[1])
        differences = self._differences(z, workspace.array("differences", *shape))
        whitened = workspace.array("features", *shape)
        return np.matmul(self.precision_cholesky.transpose(0, 2, 1), differences, out=whitened)


@dataclass(frozen=True)
class AxisScan(StandardisedScan):
    """Axis-aligned variances: differences divided by the standard deviations.

    Attributes
    ----------
    variances : array of shape (K, d)
    """

    variances: Array

    def features(self, z: Array, workspace: Workspace) -> Array:
        shape = (*self.means.shape, z.shape[1])
        differences = self._differences(z, workspace.array("features", *shape))
        differences /= np.sqrt(self.variances)[:, :, None]
        return differences

    def residuals(self, features: Array) -> tuple[Array, Array]:
        return features**2, self.variances

    def second(self, features: Array, weight: Array, workspace: Workspace) -> Array:
        second: Array = np.einsum("kdn,kdn,kn->kd", features, features, weight)
        return second

    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        first = first - count[:, None] * self.means
        return Moments(count, self.means, first, second * self.variances)

    def about(self, means: Array) -> Scan:
        return AxisScan(means, np.ones_like(means))


@dataclass(frozen=True)
class ExpandedScan(Scan):
    """Axis-aligned variances with the square multiplied out: two thin matrix products.

    Several times faster than differences, but the terms cancel: the error of
    a squared distance is about eps (mean / standard deviation)^2, so it
    serves only while the means lie within ``LIMIT`` standard deviations of
    the origin.

    Attributes
    ----------
    variances : array of shape (K, d)
    """

    LIMIT: ClassVar[float] = _RESOLVED

    variances: Array

    @property
    def width(self) -> int:
        return int(2 * self.means.shape[1] + self.means.shape[0])

    @cached_property
    def _coefficients(self) -> Array:
        """Of x^2, x and 1 in the squared distances, shape (K, 2 d + 1)."""
        precisions = 1 / self.variances
        linear = precisions * self.means
        constant = (linear * self.means).sum(1, keepdims=True)
        return np.concatenate([precisions, -2 * linear, constant], axis=1)

    @property
    def origin(self) -> Array:
        return np.zeros_like(self.means)

    def features(self, z: Array, workspace: Workspace) -> Array:
        d = len(z) - 1
        features = workspace.array("features", 2 * d + 1, z.shape[1])
        with np.errstate(over="ignore"):
            np.multiply(z[:d], z[:d], out=features[:d])
        features[d:] = z
        return features

    def residuals(self, features: Array) -> tuple[Array, Array]:
        z = features[self.means.shape[1] : -1]
        differences = z - self.means[:, :, None]
        return differences**2 / self.variances[:, :, None], self.variances

    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        distances = workspace.array("distances", len(self.means), features.shape[1])
        return np.matmul(self._coefficients, features, out=distances)

    def second(self, features: Array, weight: Array, workspace: Workspace) -> Array:
        second: Array = weight @ features[: self.means.shape[1]].T
        return second

    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        about_zero = Moments(count, self.origin, first, second)
        return about_zero.about(self.means)

    def about(self, means: Array) -> Scan:
        return AxisScan(means, np.ones_like(means))


@dataclass(frozen=True)
class StudentMetric(Metric):
    """Student's t: power log(1 + shrinkage (x - mean)^T precision (x - mean)).

    Attributes
    ----------
    gaussian : Scan
    power, shrinkage : arrays of shape (K,)
    """

    gaussian: Scan
    power: Array
    shrinkage: Array

    @property
    def width(self) -> int:
        return self.gaussian.width

    def features(self, z: Array, workspace: Workspace) -> Array:
        return self.gaussian.features(z, workspace)

    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        distances = self.gaussian.squared_distances(features, workspace)
        distances *= self.shrinkage[:, None]
        np.log1p(distances, out=distances)
        distances *= self.power[:, None]
        return distances

    def log_conditionals(self, features: Array) -> Array:
        """Student's t again, of one degree of freedom more for each other feature.

        Its scale grows with how far the other features are from their means.
        """
        squares, variances = self.gaussian.residuals(features)
        squares = self.shrinkage[:, None, None] * np.minimum(squares, _FAR_SQUARE)
        others = self._others(features, squares)
        power = self.power[:, None]
        constant = (
            gammaln(power / 2)
            - gammaln((power - 1) / 2)
            + 0.5 * np.log(self.shrinkage / np.pi)[:, None]
            - 0.5 * np.log(variances)
        )
        falls = np.log1p(others) + power[:, :, None] * np.log1p(squares / (1 + others))
        conditionals: Array = constant[:, :, None] - 0.5 * falls
        return conditionals

    def _others(self, features: Array, squares: Array) -> Array:
        """The shrunk squared distances in all features but one, where ``squares`` are of that."""
        total = self.gaussian.squared_distances(features, Workspace())
        total = self.shrinkage[:, None] * np.minimum(total, _FAR_SQUARE)
        return np.maximum(total[:, None, :] - squares, 0.0)


class StudentProductMetric(StudentMetric):
    """A t of its own for each feature; the Gaussian metric is an ``AxisScan``."""

    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        logs = workspace.array("logs", *features.shape)
        np.multiply(features, features, out=logs)
        logs *= self.shrinkage[:, None, None]
        np.log1p(logs, out=logs)
        distances = workspace.array("distances", len(logs), logs.shape[2])
        logs.sum(1, out=distances)
        distances *= self.power[:, None]
        return distances

    def _others(self, features: Array, squares: Array) -> Array:
        return np.zeros_like(squares)
