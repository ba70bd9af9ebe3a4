"""A bounded sample of the distinct rows of a table, in an order of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.rows import Rows

# Folds a projection so often that neighbouring rows get unrelated keys.
_FOLDS = 2.0**16
# Far above rounding, far below what matters to a start.
_MOVE = 1e-6


def _distinct(keys: Array, X: Array, weights: Array, size: int) -> tuple[Array, Array, Array]:
    """The rows of the smallest ``size`` keys, each once, with the sums of their weights."""
    keys, index, group = np.unique(keys, return_index=True, return_inverse=True)
    weights = np.bincount(group, weights, minlength=len(keys)).astype(np.float64)
    return keys[:size], X[index[:size]], weights[:size]


@dataclass(frozen=True)
class Sketch:
    """Distinct rows of a table, their total weights, and how each feature is scaled.

    Rows are chosen and ordered by a pseudo-random key that is computed from
    the features themselves. Neither the order of the table, nor whether a row
    is repeated or weighted, nor the units of the features matter; so nothing
    that is computed from a sketch depends on them.

    Attributes
    ----------
    rows : Rows
        The chosen rows, already in the frame of the table.
    keys : array of shape (m,)
        In [0, 1), ascending.
    size : int
        At most so many are kept.
    origin, scale : arrays of shape (d,)
        Mean and standard deviation of the table, in its frame; the scale is
        negative where a feature is turned round.
    """

    rows: Rows
    keys: Array
    size: int
    origin: Array
    scale: Array

    @classmethod
    def of(cls, rows: Rows, origin: Array, scale: Array, direction: Array, size: int) -> Sketch:
        """Keep at most ``size`` distinct rows, in one pass and bounded memory.

        ``origin`` and ``scale`` standardise the table in its frame, and a
        negative scale turns a feature round; ``direction`` of shape (d,) is
        where the randomness comes from.
        """
        d = len(origin)
        keys, kept, weights = np.empty(0), np.empty((0, d)), np.empty(0)
        for _, z, weight in rows.blocks():
            z = z[:d]
            weight = np.ones(z.shape[1]) if weight is None else weight
            # Feature by feature, so that equal rows get equal keys to the last bit.
            projection = np.zeros(z.shape[1])
            for j in range(d):
                projection += (direction[j] / scale[j]) * (z[j] - origin[j])
            projection *= _FOLDS
            new = projection - np.floor(projection)
            present = weight > 0
            if len(keys) == size:
                present &= new <= keys[-1]
            keys, kept, weights = _distinct(
                np.concatenate([keys, new[present]]),
                np.concatenate([kept, z[:, present].T]),
                np.concatenate([weights, weight[present]]),
                size,
            )
        return cls(Rows.of(kept, weights), keys, size, origin, scale)

    def __add__(self, other: Sketch) -> Sketch:
        """The sketch of both tables: whatever it keeps of a table, the sketch of that has kept."""
        keys, kept, weights = _distinct(
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.rows.X, other.rows.X]),
            np.concatenate([self.weights, other.weights]),
            self.size,
        )
        return replace(self, rows=Rows.of(kept, weights), keys=keys)

    @property
    def weights(self) -> Array:
        """The total weight of each distinct row."""
        weights: Array = self.rows.weight  # type: ignore[assignment]
        return weights

    @property
    def fraction(self) -> float:
        """Which part of the distinct rows was kept, about."""
        # Keys are uniform on [0, 1), and the smallest of them were kept.
        return float(self.keys[-1]) if self.n_rows == self.size else 1.0

    @cached_property
    def standardised(self) -> Array:
        """The rows with mean 0 and unit scale, shape (m, d), a little moved.

        What is decided by comparing distances, ties between integers say,
        must not be decided by rounding: so each row is moved by its key.
        """
        d = len(self.origin)
        # Squared, because a linear function of the row would keep the ties of a lattice.
        moved = (self.keys[:, None] ** 2 * (1e4 + np.arange(d))) % 1.0 - 0.5
        standardised: Array = (self.rows.X - self.origin) / self.scale + _MOVE * moved
        return standardised

    @property
    def n_rows(self) -> int:
        """The number of distinct rows kept."""
        return self.rows.n_rows

    def part(self, n_rows: int) -> Sketch:
        """The smaller sketch that holds the first ``n_rows`` of these rows only."""
        if n_rows >= self.n_rows:
            return self
        rows = Rows.of(self.rows.X[:n_rows], self.weights[:n_rows])
        return replace(self, rows=rows, keys=self.keys[:n_rows], size=n_rows)

    def effective_rows(self, responsibilities: Array) -> Array:
        """How many distinct rows each component rests on, shape (K,).

        (sum r)^2 / sum r^2, which counts rows that share a component and
        ignores how often each of them occurs.
        """
        total = responsibilities.sum(0)
        squares = (responsibilities**2).sum(0)
        rows: Array = np.where(total > 0, total**2 / np.where(squares > 0, squares, 1.0), 0.0)
        return rows
