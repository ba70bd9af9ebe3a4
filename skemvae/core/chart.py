"""Coordinates of mixtures near one of them: unconstrained, and free of units.

In the coordinates of a chart the origin is 0, and the Fisher information of one row together
with its component is the identity there. So lengths are half squared nats per row whatever the
units of x are, and the rates at which EM converges are the eigenvalues of a symmetric matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from skemvae.core.arrays import AnyArray, Array

if TYPE_CHECKING:
    from skemvae.core.covariance import Covariance


class Point(NamedTuple):
    """What moves when a mixture is fitted.

    Attributes
    ----------
    weights : array of shape (K,)
        Positive; only their ratios matter.
    means : array of shape (K, d)
    covariance : Covariance
    """

    weights: Array
    means: Array
    covariance: Covariance

    @property
    def n_parameters(self) -> int:
        """The number of free parameters."""
        return len(self.weights) - 1 + self.means.size + self.covariance.n_parameters


class Charted(Protocol):
    """A mixture that is determined by a point."""

    @property
    def point(self) -> Point:
        """Where it is."""

    def at(self, point: Point) -> Self:
        """The same mixture elsewhere."""


M = TypeVar("M", bound=Charted)
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


class Chart(Generic[M]):
    """Coordinates of mixtures seen from one of them.

    A parameter that components or features share has a coordinate in each of
    them, which adds up to its information.

    Parameters
    ----------
    origin : Charted
    """

    def __init__(self, origin: M):
        self._origin = origin
        self._point = origin.point
        self._axes = self._point.covariance.axes()
        self._share = self._point.weights / self._point.weights.sum()
        self._unit = np.sqrt(self._share)[:, None]

    def coordinates(self, model: M) -> Array:
        """The coordinates of a mixture, a vector; not finite where weights are zero."""
        weights, means, covariance = model.point
        with np.errstate(divide="ignore", invalid="ignore"):
            log_ratios = np.log(weights / self._point.weights)
            parts = (
                (log_ratios - self._share @ log_ratios)[:, None],
                self._axes.whitened(means - self._point.means),
                self._axes.log_ratios(covariance),
            )
            coordinates: Array = self._unit * np.concatenate(parts, axis=1)
        return coordinates.ravel()

    def model(self, coordinates: Array) -> M | None:
        """The mixture with these coordinates, or None where floating point does not reach."""
        k, d = self._point.means.shape
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            parts = coordinates.reshape(k, -1) / self._unit
            weights = self._point.weights * np.exp(parts[:, 0])
            means = self._point.means + self._axes.unwhitened(parts[:, 1 : d + 1])
            values = self._axes.values(parts[:, d + 1 :])
            # A sum is finite only if each term is.
            finite = np.isfinite(weights.sum() + means.sum() + values.sum())
        if not (finite and weights.min() > 0):
            return None
        structure = type(self._point.covariance)
        covariance = structure(structure.pool(values, weights))
        if covariance.is_singular():
            return None
        return self._origin.at(Point(weights, means, covariance))
