"""Expected sufficient statistics: small, additive, float64, independent of n."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from skemvae.core.arrays import EPS, TINY, AnyArray, Array


@dataclass(frozen=True)
class Moments:
    """Weighted sums over rows, for each of K components about its own origin.

    ``a + b`` are the moments of the rows of both, and ``g * a`` those with
    every weight multiplied by g. Sums about the current means keep full
    precision however far the data are from zero; ``+`` translates its
    right-hand side to the origin of the left.

    Attributes
    ----------
    count : array of shape (K,)
        Sum of the responsibilities.
    origin : array of shape (K, d)
    first : array of shape (K, d)
        Sum of r (x - origin).
    second : array of shape (K, d, d) or (K, d)
        Sum of r (x - origin)(x - origin)^T, or its diagonal.
    """

    count: Array
    origin: Array
    first: Array
    second: Array

    @classmethod
    def of_groups(
        cls, X: Array, weight: Array, labels: AnyArray, shape: tuple[int, ...]
    ) -> Moments:
        """The moments of a small table in which each row belongs to one component.

        This costs K times less than responsibilities do. ``shape`` is the shape
        of ``second``.
        """
        count, origin, second = np.zeros(shape[0]), np.zeros(shape[:2]), np.zeros(shape)
        for k in range(shape[0]):
            (where,) = np.nonzero(labels == k)
            own, own_weight = X.take(where, axis=0), weight.take(where)
            count[k] = own_weight.sum()
            if count[k] > 0:
                origin[k] = own_weight @ own / count[k]
                own -= origin[k]
                if len(shape) == 2:
                    second[k] = own_weight @ (own * own)
                else:
                    second[k] = (own.T * own_weight) @ own
        return cls(count, origin, np.zeros_like(origin), second)

    def __add__(self, other: Moments) -> Moments:
        other = other.about(self.origin)
        return replace(
            self,
            count=self.count + other.count,
            first=self.first + other.first,
            second=self.second + other.second,
        )

    def __rmul__(self, factor: float) -> Moments:
        return replace(
            self,
            count=factor * self.count,
            first=factor * self.first,
            second=factor * self.second,
        )

    def take(self, components: AnyArray) -> Moments:
        """The moments of some components, in the given order."""
        parts = (getattr(self, field.name)[components] for field in fields(self))
        return type(self)(*parts)

    def padded(self, n_components: int) -> Moments:
        """The same moments, followed by empty components up to ``n_components``."""
        n_empty = n_components - len(self.count)
        parts = (self.count, self.origin, self.first, self.second)
        return Moments(
            *(np.concatenate([part, np.zeros((n_empty, *part.shape[1:]))]) for part in parts)
        )

    def merged(self, to: AnyArray) -> Moments:
        """The moments after component k has been merged into component ``to[k]``."""
        moved = self.about(self.origin[to])
        parts = [np.zeros_like(part) for part in (self.count, self.first, self.second)]
        for whole, part in zip(parts, (moved.count, moved.first, moved.second), strict=True):
            np.add.at(whole, to, part)
        count, first, second = parts
        return Moments(count, self.origin, first, second)

    def about(self, origin: Array) -> Moments:
        """Return the same moments about another origin of shape (K, d)."""
        if origin is self.origin:
            return self
        shift = self.origin - origin
        first = self.first + self.count[:, None] * shift
        second = self.second + self._outer(shift, self.first) + self._outer(first, shift)
        return replace(self, origin=origin, first=first, second=second)

    @property
    def shares(self) -> Array:
        """How much of all rows each component holds, shape (K,): the counts."""
        return self.count

    @cached_property
    def means(self) -> Array:
        """The mean of each component, shape (K, d); the origin where the count is zero."""
        return self.origin + self._mean_shift

    @cached_property
    def covariances(self) -> Array:
        """The central second moments divided by the counts, in the shape of ``second``."""
        count = self._safe_count.reshape(-1, *(1,) * (self.second.ndim - 1))
        shift = self._mean_shift
        return self.second / count - self._outer(shift, shift)

    @property
    def variances(self) -> Array:
        """The variances of each component, shape (K, d)."""
        covariances = self.covariances
        if covariances.ndim == 2:
            return covariances
        return covariances.diagonal(axis1=1, axis2=2)

    @property
    def counted(self) -> AnyArray:
        """Which components have enough weight to divide by, shape (K,), boolean."""
        return self.count > self._least

    @cached_property
    def _least(self) -> float:
        return TINY / EPS * max(float(self.count.sum()), TINY)

    @cached_property
    def _all_counted(self) -> bool:
        return bool(self.count.min() > self._least)

    def where_counted(self, values: Array, otherwise: Callable[[], Array]) -> Array:
        """``values`` where a component has enough weight, ``otherwise()`` elsewhere."""
        if self._all_counted:
            return values
        return np.where(self.counted.reshape(-1, *(1,) * (values.ndim - 1)), values, otherwise())

    @cached_property
    def _safe_count(self) -> Array:
        return np.maximum(self.count, TINY)

    @cached_property
    def _mean_shift(self) -> Array:
        return self.first / self._safe_count[:, None]

    def _outer(self, a: Array, b: Array) -> Array:
        """The product of two (K, d) arrays, in the shape of ``second``."""
        return a * b if self.second.ndim == 2 else a[:, :, None] * b[:, None, :]
