"""The grain of a table: how far apart the values of a feature lie where they lie densely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skemvae.core.arrays import Array

# The median gap between n + 1 values of a normal distribution is so many standard deviations / n:
# the median of E / density(Z), for an exponential E and a normal Z.
_NORMAL = 2.6175


@dataclass(frozen=True)
class Grain:
    """How far apart neighbouring values of each feature lie, as a rule.

    It does not grow when groups of rows move apart, nor with a few values that lie far away: at
    least half of all gaps are as small. Neither order nor repetition nor weights of rows matter.

    Attributes
    ----------
    width : array of shape (d,)
        The standard deviation of a normal distribution whose values, if they were as many, had
        the same median gap; of K groups that do not overlap about K times that of one.
    smallest : array of shape (d,)
        The smallest gap.
    n_gaps : array of shape (d,)
        How many gaps there are. If there is none, because all values are equal, the widths are 0.
    n_rows : int
        How many rows there are, but for repetition of all; of a long table those of a sample.
    """

    width: Array
    smallest: Array
    n_gaps: Array
    n_rows: int

    @classmethod
    def of(cls, X: Array, rounding: Array, n_rows: int) -> Grain:
        """The grain of distinct rows; values that differ by ``rounding``, shape (d,), are one."""
        gaps = np.diff(np.sort(X, axis=0), axis=0, append=np.inf)
        gaps[gaps <= rounding] = np.inf
        gaps.sort(axis=0)
        n_gaps = np.isfinite(gaps).sum(0)
        # Of two in the middle the smaller: 0, 1 and a far code have their grain from 0 and 1.
        median = np.take_along_axis(gaps, np.maximum(n_gaps - 1, 0)[None] // 2, axis=0)[0]
        smallest, median = (np.where(n_gaps > 0, gap, 0.0) for gap in (gaps[0], median))
        return cls(n_gaps * median / _NORMAL, smallest, n_gaps.astype(float), n_rows)

    def scaled(self, scale: Array) -> Grain:
        """The grain of features that are multiplied by ``scale``, shape (d,)."""
        return Grain(self.width * scale, self.smallest * scale, self.n_gaps, self.n_rows)

    def blend(self, other: Grain, share: float) -> Grain:
        """An average over the gaps of both tables, with ``share`` of the weight in the other one.

        So a batch of a few rows, which does not show what lies densely, counts little.
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
