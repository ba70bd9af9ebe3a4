"""Unconstrained, unit-free coordinates of models near a given model, the origin.

The origin has coordinates 0, and there the complete-data Fisher information of one row (with its
component) is the identity. So half the squared length is in nats per row whatever the units of
x, and the convergence rates of EM are the eigenvalues of a symmetric matrix.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.covariance import Covariance

C = TypeVar("C")


class Coordinates(Protocol[C]):
    """Coordinates of models relative to one of them, the origin.

    Where the bound is quadratic and the complete-data information is the identity, an EM step
    is the gradient of the bound.
    """

    @property
    def n_parameters(self) -> int:
        """The number of free parameters."""

    def coordinates(self, model: C) -> Array:
        """The coordinates of a model, a vector."""

    def model(self, coordinates: Array, near: C) -> C | None:
        """The model with these coordinates, or None if floating point cannot represent it.

        Parameters that belong to rows, such as q, start from those of the model ``near``.
        """


class Movable(Protocol):
    """A model that has coordinates around it."""

    def chart(self) -> Coordinates[Any]:
        """Coordinates with this model as the origin."""


class Point(NamedTuple):
    """The free parameters of a mixture.

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
    """A mixture that a point determines."""

    @property
    def point(self) -> Point:
        """The free parameters."""

    def at(self, point: Point) -> Self:
        """The same mixture with other free parameters."""


M = TypeVar("M", bound=Charted)


class Chart(Generic[M]):
    """Coordinates of mixtures relative to one of them.

    A parameter that components or features share has one coordinate in each of
    them; together these carry its information.

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

    @property
    def n_parameters(self) -> int:
        """The number of free parameters."""
        return self._point.n_parameters

    def coordinates(self, model: M) -> Array:
        """The coordinates of a mixture, a vector; not finite where weights are zero."""
        weights, means, covariance = model.point
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            log_ratios = np.log(weights / self._point.weights)
            log_ratios -= self._share @ log_ratios
            whitened = self._axes.whitened(means - self._point.means)
            parts = (log_ratios[:, None], whitened, self._axes.log_ratios(covariance))
            coordinates = np.concatenate(parts, axis=1)
            coordinates *= self._unit
        return coordinates.ravel()

    def model(self, coordinates: Array, near: M | None = None) -> M | None:
        """The mixture with these coordinates, or None if floating point cannot represent it."""
        k, d = self._point.means.shape
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            parts = coordinates.reshape(k, -1) / self._unit
            weights = self._point.weights * np.exp(parts[:, 0])
            means = self._point.means + self._axes.unwhitened(parts[:, 1 : d + 1])
            values = self._axes.values(parts[:, d + 1 :])
            covariance = self._point.covariance.near(values, weights)
            # A sum is finite only if each term is.
            finite = np.isfinite(weights.sum() + means.sum() + covariance.values.sum())
        if not (finite and weights.min() > 0) or covariance.is_singular():
            return None
        return self._origin.at(Point(weights, means, covariance))
