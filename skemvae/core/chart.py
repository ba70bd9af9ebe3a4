"""Coordinates of models near one of them: unconstrained, and free of units.

In the coordinates of a chart the origin is 0, and the Fisher information of one row together
with its component is the identity there. So lengths are half squared nats per row whatever the
units of x are, and the rates at which EM converges are the eigenvalues of a symmetric matrix.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.covariance import Covariance

C = TypeVar("C")


class Coordinates(Protocol[C]):
    """Coordinates of models seen from one of them, the origin.

    Where the bound is quadratic and complete information is the identity, an EM step is its
    gradient.
    """

    @property
    def n_parameters(self) -> int:
        """The number of free parameters."""

    def coordinates(self, model: C) -> Array:
        """The coordinates of a model, a vector."""

    def model(self, coordinates: Array, near: C) -> C | None:
        """The model with these coordinates, or None where floating point does not reach.

        What belongs to rows, such as q, begins where it is in a model that is ``near``.
        """


class Movable(Protocol):
    """A model that has coordinates around it."""

    def chart(self) -> Coordinates[Any]:
        """Those of which it is the origin."""


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
        """The mixture with these coordinates, or None where floating point does not reach."""
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
