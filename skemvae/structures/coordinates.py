"""Coordinates of the means and covariances of Gaussian components near given ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.covariance import Axes
from skemvae.kernel.small_matrices import relate, restore

_ROOT_2 = float(np.sqrt(2))


@dataclass(frozen=True)
class DenseAxes(Axes):
    """Coordinates of dense covariances, from L = L_0 V D with V unit lower triangular, D diagonal.

    The coordinates are sqrt(2) log D and the elements of V below its diagonal.

    Attributes
    ----------
    cholesky, precision_cholesky : arrays of shape (K, d, d)
        Lower factors of the covariances, upper factors of the precisions.
    """

    cholesky: Array
    precision_cholesky: Array

    def whitened(self, differences: Array) -> Array:
        whitened: Array = (differences[:, None, :] @ self.precision_cholesky)[:, 0]
        return whitened

    def unwhitened(self, whitened: Array) -> Array:
        differences: Array = (self.cholesky @ whitened[:, :, None])[:, :, 0]
        return differences

    def log_ratios(self, covariance: Any) -> Array:
        log_ratios = relate(self.precision_cholesky, covariance.cholesky)
        log_ratios[:, : self.cholesky.shape[1]] *= _ROOT_2
        return log_ratios

    def values(self, log_ratios: Array) -> Array:
        coordinates = log_ratios.copy()
        coordinates[:, : self.cholesky.shape[1]] /= _ROOT_2
        return restore(self.cholesky, coordinates)


@dataclass(frozen=True)
class AlignedAxes(Axes):
    """Coordinates of diagonal covariances: sqrt(2) log sigma, relative to the origin.

    Attributes
    ----------
    variances : array of shape (K, d)
    """

    variances: Array

    def whitened(self, differences: Array) -> Array:
        whitened: Array = differences / np.sqrt(self.variances)
        return whitened

    def unwhitened(self, whitened: Array) -> Array:
        differences: Array = whitened * np.sqrt(self.variances)
        return differences

    def log_ratios(self, covariance: Any) -> Array:
        log_ratios: Array = np.log(covariance.values / self.variances) / _ROOT_2
        return log_ratios

    def values(self, log_ratios: Array) -> Array:
        values: Array = self.variances * np.exp(_ROOT_2 * log_ratios)
        return values
