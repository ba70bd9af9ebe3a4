"""A bounded sample of the distinct rows of a table, in an order of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.rows import Frame, Rows

# Folds a projection so often that neighbouring rows get unrelated keys.
_FOLDS = 2.0**16
# Far above rounding, far below what matters to a start.
_MOVE = 1e-6


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
    fraction : float
        Which part of the distinct rows was kept, about.
    keys : array of shape (m,)
        In [0, 1), ascending.
    origin, scale : arrays of shape (d,)
        Mean and standard deviation of the table, in its frame; the scale is
        negative where a feature is turned round.
    """

    rows: Rows
    fraction: float
    keys: Array
    origin: Array
    scale: Array

    @classmethod
    def of(cls, rows: Rows, origin: Array, scale: Array, direction: Array, size: int) -> Sketch:
        """Keep at most ``size`` distinct rows of a table, in one pass and bounded memory.

        ``origin`` and ``scale`` standardise the table in its frame, and a
        negative scale turns a feature round; ``direction`` of shape (d,) is
        where the randomness comes from.
        """
        d = len(origin)
        keys: Array = np.empty(0)
        weights: Array = np.empty(0)
        kept: Array = np.empty((d, 0))
        for _, z, weight in rows.blocks():
            z = z[:d]
            weight = np.ones(z.shape[1]) if weight is None else weight
            # Feature by feature, so that equal rows get equal keys to the last bit.
            projection = np.zeros(z.shape[1])
            for j in range(d):
                projection += (direction[j] / scale[j]) * (z[j] - origin[j])
            new = (projection * _FOLDS) % 1.0
            present = weight > 0
            if len(keys) == size:
                present &= new <= keys[-1]
            keys = np.concatenate([keys, new[present]])
            weights = np.concatenate([weights, weight[present]])
            kept = np.concatenate([kept, z[:, present]], axis=1)
            keys, index, group = np.unique(keys, return_index=True, return_inverse=True)
            weights = np.bincount(group, weights)[:size].astype(np.float64)
            keys, kept = keys[:size], kept[:, index[:size]]
        table = np.ascontiguousarray(kept.T)
        # Keys are uniform on [0, 1), and the smallest of them were kept.
        fraction = float(keys[-1]) if len(keys) == size else 1.0
        return cls(Rows(table, weights, Frame.identity(d)), fraction, keys, origin, scale)

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

    def effective_rows(self, responsibilities: Array) -> Array:
        """How many distinct rows each component rests on, shape (K,).

        (sum r)^2 / sum r^2, which counts rows that share a component and
        ignores how often each of them occurs.
        """
        total = responsibilities.sum(0)
        squares = (responsibilities**2).sum(0)
        rows: Array = np.where(total > 0, total**2 / np.where(squares > 0, squares, 1.0), 0.0)
        return rows
