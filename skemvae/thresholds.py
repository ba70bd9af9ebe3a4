"""Thresholds that hold for new rows: which rows recur, and where the lower tail of scores ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from skemvae.core.arrays import quietly
from skemvae.typing import BoolArray, FloatArray, IntArray

# The counts of fewer distinct rows share a factor by chance.
_ENOUGH_FOR_A_FACTOR = 10
# Beyond this mean count (a bootstrap sample has 1.6), a table has few values.
_MOST_ON_AVERAGE = 3.0
# Log densities that differ by less, relatively, are the same.
_ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class Occurrences:
    """The distinct rows of a table, and how often each occurs.

    Rows are draws, so a row that recurs comes again: by Good and Turing's argument, new rows are
    unlike all rows of the table with the frequency of rows that occur once. But copies may be
    accidents, too (a table written twice, a bootstrap sample, a class that was oversampled), and
    then new rows are not like them. Accidents befall many rows alike, so a row recurs if it is
    repeated far more often than others are: more than twice as often as 95 % of the distinct rows.
    In a table of few values, where each occurs more than three times on average, all that occur
    more than twice recur. A factor that all counts share is taken out first, for a table that is
    written twice says no more than once.

    Attributes
    ----------
    rows : ndarray of shape (n_counting,)
        Rows of positive weight.
    number : ndarray of shape (n_counting,)
        Which distinct row each of them is, in sorted order.
    weight : ndarray of shape (n_distinct,)
        Total weight of each distinct row.
    count : ndarray of shape (n_distinct,)
        How often it occurs: its weight where all weights are integers, less their common factor;
        else the number of its rows.
    recurs : ndarray of bool of shape (n_distinct,)
        Whether new rows are expected to equal it.

    References
    ----------
    Good (1953), "The population frequencies of species and the estimation of population
    parameters".
    """

    rows: IntArray
    number: IntArray
    weight: FloatArray
    count: FloatArray
    recurs: BoolArray

    @classmethod
    def of(cls, X: Any, sample_weight: Any) -> Occurrences:
        """Count the distinct rows of a table, with weights or None."""
        n = np.shape(X)[0]
        weights: Any = np.ones(n) if sample_weight is None else sample_weight
        rows = np.flatnonzero(weights)
        number = _numbered(_safe_indexing(X, rows))
        weight: Any = np.bincount(number, weights[rows])
        count = _counts(weights[rows], weight, number)
        return cls(rows, number, weight, count, count > _most_by_accident(count))

    @property
    def first(self) -> IntArray:
        """A row of the table for each distinct row."""
        return self.rows[np.unique(self.number, return_index=True)[1]]

    @property
    def unit(self) -> float:
        """The weight of one row."""
        return float(self.weight.sum() / self.count.sum())

    def folds(self, n_folds: int) -> Iterator[tuple[IntArray, FloatArray, IntArray]]:
        """Rows to fit to, the share of each that counts, and the distinct rows held out.

        Rows that do not recur are held out together with all their copies. Those that recur stay,
        but of each a fit is given as small a share as of the others.
        """
        lone = np.flatnonzero(~self.recurs)
        n_folds = min(n_folds, len(lone))
        fold = np.full(len(self.weight), -1)
        fold[lone] = np.random.RandomState(0).permutation(len(lone)) % max(n_folds, 1)
        left_out = np.where(self.recurs & (n_folds > 1), self.count // max(n_folds, 1), 0)
        share = (1 - left_out / self.count)[self.number]
        for f in range(n_folds):
            kept = fold[self.number] != f
            yield self.rows[kept], share[kept], np.flatnonzero(fold == f)

    def thinned(self, rows: IntArray, share: FloatArray) -> IntArray:
        """Some of these rows, such that of each distinct row a share is left."""
        number = self.number[np.searchsorted(self.rows, rows)]
        order = np.argsort(number, kind="stable")
        place = np.empty(len(rows), dtype=int)
        place[order] = np.arange(len(rows)) - np.searchsorted(number[order], number[order])
        return rows[place < np.round(share * np.bincount(number)[number])]


def lower_tail(scores: Any, weight: Any, share: float, one_more: Any = 0.0) -> float:
    """The highest threshold below which at most ``share`` of new rows are expected.

    Rows that recur score exactly so again. A new row that is like none of n others takes each of
    the n + 1 places among their scores with the same probability, so that ``k + 1`` of ``n + 1``
    are expected below a score that has k below it. Where no score is low enough, the lowest is the
    threshold.

    Parameters
    ----------
    scores, weight : ndarray of shape (n,), weight or None
    share : float
    one_more : float or ndarray of shape (n,)
        Weight of one more row; 0 for a row that recurs.
    """
    order = np.argsort(scores)
    ordered = scores[order].astype(np.float64)
    weight = np.ones(len(scores)) if weight is None else weight[order]
    one_more = np.broadcast_to(one_more, scores.shape)[order]
    # Equal rows are on one side, though rounding may tell them apart.
    margin = _ROUNDING * np.maximum(1.0, np.abs(ordered))
    is_higher = quietly(np.subtract, ordered[1:], ordered[:-1]) > margin[1:]
    start = np.r_[0, np.flatnonzero(is_higher) + 1]
    below = np.cumsum(weight)[start] - weight[start] + np.maximum.reduceat(one_more, start)
    allowed = share * (weight.sum() + one_more.max()) * (1 + 1e-9)
    (low,) = np.nonzero(below <= allowed)
    place = start[low[-1]] if len(low) else 0
    return float(ordered[place] - margin[place])


def _numbered(X: Any) -> IntArray:
    """The number of each row among the distinct rows in sorted order."""
    values = np.asarray(X)
    if values.dtype == object:
        values = values.astype(str)
    codes = [np.unique(column, return_inverse=True)[1] for column in values.T]  # NaN equals NaN
    number: IntArray = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1]
    return number.reshape(-1)


def _counts(weights: FloatArray, total: FloatArray, number: IntArray) -> FloatArray:
    """How often each distinct row occurs, of weights for each row and in total."""
    if (weights != np.round(weights)).any() or total.max() > 2**53:
        total = np.bincount(number).astype(np.float64)
    if len(total) < _ENOUGH_FOR_A_FACTOR:
        return total
    return total / np.gcd.reduce(total.astype(np.int64))


def _most_by_accident(count: FloatArray) -> float:
    """The largest count that need not mean anything."""
    if count.mean() > _MOST_ON_AVERAGE:
        return 2.0
    return 2 * float(np.quantile(count, 0.95, method="lower"))
