"""The arithmetic of a block under axis-aligned covariances."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from skemvae.core.arrays import TINY, Array
from skemvae.core.moments import Moments
from skemvae.core.scan import RESOLVED, Scan
from skemvae.core.workspace import Workspace


@dataclass(frozen=True)
class AxisScan(Scan):
    """Computes differences from the means in standard deviations, of shape (K, d, n).

    It is accurate wherever the means are, but slower.

    Attributes
    ----------
    variances : array of shape (K, d)
    """

    variances: Array

    @property
    def width(self) -> int:
        return int(self.means.size)

    def features(self, z: Array, workspace: Workspace) -> Array:
        differences = workspace.array("features", *self.means.shape, z.shape[1])
        np.subtract(z[None, :-1], self.means[:, :, None], out=differences)
        differences /= np.sqrt(self.variances)[:, :, None]
        return differences

    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        distances = workspace.array("distances", len(features), features.shape[2])
        return np.einsum("kdn,kdn->kn", features, features, out=distances)

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
    """Expands the squares, which needs only two thin matrix products.

    It is several times faster than differences, but the terms cancel: the error
    of a squared distance is about eps (mean / standard deviation)^2. So it is
    used only if the means are within ``LIMIT`` standard deviations of the origin.

    Attributes
    ----------
    variances : array of shape (K, d)
    """

    LIMIT: ClassVar[float] = RESOLVED

    variances: Array

    @property
    def width(self) -> int:
        return int(2 * self.means.shape[1] + self.means.shape[0])

    @property
    def origin(self) -> Array:
        return np.zeros_like(self.means)

    @cached_property
    def coefficients(self) -> Array:
        """Coefficients of the features in the squared distances, one row per component."""
        precisions = 1 / self.variances
        linear = precisions * self.means
        constant = (linear * self.means).sum(1, keepdims=True)
        return np.concatenate([self._of_squares(precisions), -2 * linear, constant], axis=1)

    def _of_squares(self, precisions: Array) -> Array:
        return precisions

    def features(self, z: Array, workspace: Workspace) -> Array:
        """The squares, then z itself, whose last row holds ones."""
        n_squares = self.coefficients.shape[1] - len(z)
        features = workspace.array("features", n_squares + len(z), z.shape[1])
        with np.errstate(over="ignore"):
            self._squares(z[:-1], features[:n_squares])
        features[n_squares:] = z
        return features

    def _squares(self, z: Array, out: Array) -> None:
        np.multiply(z, z, out=out)

    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        distances = workspace.array("distances", len(self.means), features.shape[1])
        return np.matmul(self.coefficients, features, out=distances)

    def log_joint(self, features: Array, log_normaliser: Array, workspace: Workspace) -> Array:
        if log_normaliser.min() == -np.inf:
            # BLAS pads with zeros and multiplies them, and -inf times 0 is NaN.
            return super().log_joint(features, log_normaliser, workspace)
        # One product suffices, since the last feature is 1.
        coefficients = -0.5 * self.coefficients
        coefficients[:, -1] += log_normaliser
        log_joint = workspace.array("distances", len(self.means), features.shape[1])
        with np.errstate(over="ignore"):
            return np.matmul(coefficients, features, out=log_joint)

    def residuals(self, features: Array) -> tuple[Array, Array]:
        z = features[-1 - self.means.shape[1] : -1]
        differences = z - self.means[:, :, None]
        return differences**2 / self.variances[:, :, None], self.variances

    def second(self, features: Array, weight: Array, workspace: Workspace) -> Array:
        n_squares = len(features) - 1 - self.means.shape[1]
        second: Array = weight @ features[:n_squares].T
        return second

    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        about_zero = Moments(count, self.origin, first, second)
        return about_zero.about(self.means)

    def about(self, means: Array) -> Scan:
        return AxisScan(means, np.ones_like(means))


@dataclass(frozen=True)
class SphericalScan(ExpandedScan):
    """Expands the squares for one variance per component, which needs only their sum.

    Each feature of ``moments`` gets the mean of the variances of all features.
    """

    @property
    def width(self) -> int:
        return int(sum(self.means.shape))

    def _of_squares(self, precisions: Array) -> Array:
        return precisions[:, :1]

    def _squares(self, z: Array, out: Array) -> None:
        np.einsum("dn,dn->n", z, z, out=out[0])

    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        counts = count[:, None]
        means = self.means + (first - counts * self.means) / np.maximum(counts, TINY)
        scatter = second - counts * (means * means).sum(1, keepdims=True)
        d = self.means.shape[1]
        return Moments(count, means, np.zeros_like(means), np.repeat(scatter / d, d, axis=1))
