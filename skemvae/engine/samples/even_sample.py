"""A sample of a table at even steps of weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.rows import Rows


def at_even_steps(n: int, weight: Array | None, size: int) -> AnyArray:
    """Positions of at most ``size`` of n rows: all rows, or those at even steps of weight."""
    if n <= size:
        return np.arange(n)
    steps = (np.arange(size) + 0.5) / size
    if weight is None:
        return np.ceil(steps * n).astype(np.intp) - 1
    total = np.cumsum(weight)
    positions: AnyArray = np.searchsorted(total, steps * total[-1])
    return positions


@dataclass(frozen=True)
class EvenSample:
    """At most ``size`` rows that represent a table, in their order.

    Attributes
    ----------
    X : array of shape (m, d)
    weight : array of shape (m,)
        All equal if the rows are a sample.
    size : int
    """

    X: AnyArray
    weight: Array
    size: int

    @classmethod
    def of(cls, rows: Rows, size: int) -> EvenSample:
        """Sample one part."""
        positions = at_even_steps(rows.n_rows, rows.weight, size)
        if rows.n_rows > size:
            weight = np.full(size, rows.total / size)
        else:
            weight = np.ones(rows.n_rows) if rows.weight is None else rows.weight
        return cls(np.asarray(rows.X[positions]), weight, size)

    def __add__(self, other: EvenSample) -> EvenSample:
        """A sample of both tables, taken from their samples."""
        both = Rows.of(
            np.concatenate([self.X, other.X]), np.concatenate([self.weight, other.weight])
        )
        return EvenSample.of(both, self.size)
