"""The arithmetic of a block under Student's t, that is, Gaussians of uncertain scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from skemvae.core.arrays import Array
from skemvae.core.scan import Metric, Scan
from skemvae.core.workspace import Workspace
from skemvae.structures.axis_scan import AxisScan
from skemvae.structures.matrices import MatrixCovariance

# Larger squares are clipped: their logarithms do not matter, and their sums might overflow.
_FAR_SQUARE = 1e300


@dataclass(frozen=True)
class StudentMetric(Metric):
    """Distances under Student's t: power log(1 + shrinkage (x - mean)^T precision (x - mean)).

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
        """Log density of the conditionals: Student's t, one more degree of freedom per feature.

        Their scale grows with the distance of the other features from their means.
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
        """The shrunk squared distances in all other features; ``squares`` are those of one."""
        total = self.gaussian.squared_distances(features, Workspace())
        total = self.shrinkage[:, None] * np.minimum(total, _FAR_SQUARE)
        return np.maximum(total[:, None, :] - squares, 0.0)


class StudentProductMetric(StudentMetric):
    """Distances under one Student's t per feature; the Gaussian metric is an ``AxisScan``."""

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


def student_metric(
    covariance: MatrixCovariance, means: Array, power: Array, shrinkage: Array
) -> Metric:
    """The metric that scores rows if the scale of each component is uncertain."""
    if covariance.radial_size == 1 and covariance.values.ndim == 2:
        return StudentProductMetric(AxisScan(means, covariance.values), power, shrinkage)
    return StudentMetric(covariance.scan(means), power, shrinkage)
