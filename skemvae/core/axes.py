"""Coordinates of Gaussian components near given ones, of their means and their covariances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skemvae.core.arrays import AnyArray, Array

_ROOT_2 = float(np.sqrt(2))


class Axes(ABC):
    """Whitened coordinates of the components, seen from components with a mean and a covariance."""

    @abstractmethod
    def whitened(self, differences: Array) -> Array:
        """Differences of means in standard deviations, shape (K, d)."""

    @abstractmethod
    def unwhitened(self, whitened: Array) -> Array:
        """The inverse."""

    @abstractmethod
    def log_ratios(self, covariance: Any) -> Array:
        """Covariances relative to those of the origin, shape (K, p); 0 for the same."""

    @abstractmethod
    def values(self, log_ratios: Array) -> Array:
        """The inverse."""


@dataclass(frozen=True)
class DenseAxes(Axes):
    """Factors of dense covariances, L = L_0 V D: V unit lower triangular, D diagonal.

    The coordinates are those of V below its diagonal and sqrt(2) log D.
    Products of lower triangles are such, so all of them stand for covariances.

    Attributes
    ----------
    cholesky, precision_cholesky : arrays of shape (K, d, d)
        Lower factors of the covariances, upper ones of the precisions.
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
        factors = self.precision_cholesky.transpose(0, 2, 1) @ covariance.cholesky
        diagonal = factors.diagonal(axis1=1, axis2=2)
        unit = (factors / diagonal[:, None, :]).reshape(len(factors), -1)
        below = unit.take(self._below, axis=1)
        log_ratios: Array = np.concatenate([_ROOT_2 * np.log(diagonal), below], axis=1)
        return log_ratios

    def values(self, log_ratios: Array) -> Array:
        k, d = self.cholesky.shape[:2]
        unit = np.zeros((k, d * d))
        unit[:, :: d + 1] = 1.0
        unit[:, self._below] = log_ratios[:, d:]
        diagonal = np.exp(log_ratios[:, None, :d] / _ROOT_2)
        factors = self.cholesky @ (unit.reshape(k, d, d) * diagonal)
        values: Array = factors @ factors.transpose(0, 2, 1)
        return values

    @cached_property
    def _below(self) -> AnyArray:
        """Where the elements below the diagonal stand in a matrix that is written as a row."""
        d = self.cholesky.shape[1]
        return np.ravel_multi_index(np.tril_indices(d, -1), (d, d))


@dataclass(frozen=True)
class AlignedAxes(Axes):
    """Standard deviations, each relative to that of the origin: sqrt(2) log sigma.

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
