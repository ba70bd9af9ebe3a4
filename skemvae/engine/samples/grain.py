"""The grain of a table: the typical gap between neighbouring values of each feature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skemvae.core.arrays import Array

# The median gap between n + 1 values of a normal distribution, times n, in standard deviations: the
# median of E / density(Z), for an exponential E and a normal Z.
_NORMAL = 2.6175


@dataclass(frozen=True)
class Grain:
    """The typical gap between neighbouring values of each feature.

    It does not grow if groups of rows move apart or a few values are far away, since it depends
    on the median gap. Order, repetition and weights of rows do not matter.

    Attributes
    ----------
    width : array of shape (d,)
        The standard deviation of a normal distribution of which as many values would have the
        same median gap; with K groups that do not overlap, about K times that of one.
    smallest : array of shape (d,)
        The smallest gap.
    n_gaps : array of shape (d,)
        The number of gaps. If there are none, because all values are equal, the width is 0.
    n_rows : int
        The number of rows, not counting repetition of the whole table; for a long table, the
        number in a sample.
    """

    width: Array
    smallest: Array
    n_gaps: Array
    n_rows: int

    @classmethod
    def of(cls, X: Array, rounding: Array, n_rows: int) -> Grain:
        """The grain of distinct rows; values closer than ``rounding``, shape (d,), are equal."""
        gaps = np.diff(np.sort(X, axis=0), axis=0, append=np.inf)
        gaps[gaps <= rounding] = np.inf
        gaps.sort(axis=0)
        n_gaps = np.isfinite(gaps).sum(0)
        # Take the smaller of two middle gaps: the grain of 0, 1 and a far code is that of 0 and 1.
        median = np.take_along_axis(gaps, np.maximum(n_gaps - 1, 0)[None] // 2, axis=0)[0]
        smallest, median = (np.where(n_gaps > 0, gap, 0.0) for gap in (gaps[0], median))
        return cls(n_gaps * median / _NORMAL, smallest, n_gaps.astype(float), n_rows)

    def scaled(self, scale: Array) -> Grain:
        """The grain of the features multiplied by ``scale``, shape (d,)."""
        return Grain(self.width * scale, self.smallest * scale, self.n_gaps, self.n_rows)

    def blend(self, other: Grain, share: float) -> Grain:
        """An average over the gaps of both tables, in which the other one has weight ``share``.

        So a batch of a few rows, which does not show which values are close, counts little.
        """
        own, others = (1 - share) * self.n_gaps, share * other.n_gaps
        n_gaps = own + others
        total = own * self.width + others * other.width
        some = [np.where(grain.n_gaps > 0, grain.smallest, np.inf) for grain in (self, other)]
        smallest = np.minimum(*some)
        return Grain(
            total / np.where(n_gaps > 0, n_gaps, 1.0),
            np.where(np.isfinite(smallest), smallest, 0.0),
            n_gaps,
            self.n_rows + other.n_rows,
        )
