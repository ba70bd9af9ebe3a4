"""Thresholds that hold for new rows: detect rows that recur, and find the lower tail of scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from skemvae.core.arrays import quietly
from skemvae.typing import BoolArray, FloatArray, IntArray

# With fewer distinct rows, counts may share a factor by chance.
_ENOUGH_FOR_A_FACTOR = 10
# A table with a larger mean count has few distinct values; a bootstrap sample has 1.6.
_MOST_ON_AVERAGE = 3.0
# Log densities with a smaller relative difference count as equal.
_ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class Occurrences:
    """The distinct rows of a table, and how often each occurs.

    New rows may equal rows of the table: by Good and Turing's argument, the probability that a new
    row equals none is the share of rows that occur once. But copies may also be artefacts (a table
    written twice, a bootstrap sample, an oversampled class), which new rows do not repeat.
    Artefacts affect many rows alike, so a row recurs only if it occurs more than twice as often as
    95 % of the distinct rows. In a table of few values, where each occurs more than three times on
    average, all rows that occur more than twice recur. A common factor of all counts is divided
    out first, because a table written twice holds no more information than once.

    Attributes
    ----------
    rows : ndarray of shape (n_counting,)
        Rows of positive weight.
    number : ndarray of shape (n_counting,)
        Number of the distinct row that each equals, in sorted order.
    weight : ndarray of shape (n_distinct,)
        Total weight of each distinct row.
    count : ndarray of shape (n_distinct,)
        How often each distinct row occurs: its weight if all weights are integers, otherwise the
        number of its rows; divided by the common factor of all.
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
        """Count the distinct rows of a table with weights or None."""
        n = np.shape(X)[0]
        weights: Any = np.ones(n) if sample_weight is None else sample_weight
        rows = np.flatnonzero(weights)
        number = _numbered(_safe_indexing(X, rows))
        weight: Any = np.bincount(number, weights[rows])
        count = _counts(weights[rows], weight, number)
        return cls(rows, number, weight, count, count > _most_by_accident(count))

    @property
    def first(self) -> IntArray:
        """Position in the table of one row for each distinct row."""
        return self.rows[np.unique(self.number, return_index=True)[1]]

    @property
    def unit(self) -> float:
        """The weight of one row."""
        return float(self.weight.sum() / self.count.sum())

    def folds(self, n_folds: int) -> Iterator[tuple[IntArray, FloatArray, IntArray]]:
        """Yield the rows to fit to, the share of each that counts, and the distinct rows held out.

        Rows that do not recur are held out together with all their copies. Rows that recur stay in
        all training sets, each with the same share of its copies as the rest of the table.
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
        """Select some of these rows, so that a given share of each distinct row is left."""
        number = self.number[np.searchsorted(self.rows, rows)]
        order = np.argsort(number, kind="stable")
        place = np.empty(len(rows), dtype=int)
        place[order] = np.arange(len(rows)) - np.searchsorted(number[order], number[order])
        return rows[place < np.round(share * np.bincount(number)[number])]


def lower_tail(scores: Any, weight: Any, share: float, one_more: Any = 0.0) -> float:
    """Return the highest threshold below which at most ``share`` of new rows are expected.

    Rows that recur get exactly the same score again. Any other new row takes each of the n + 1
    places among the scores of the n others with the same probability, so ``k + 1`` of ``n + 1``
    are expected below a score that has k below it. If no score is low enough, the lowest one is
    the threshold.

    Parameters
    ----------
    scores, weight : ndarray of shape (n,), weight or None
    share : float
    one_more : float or ndarray of shape (n,)
        Weight of one new row; 0 for a row that recurs.
    """
    order = np.argsort(scores)
    ordered = scores[order].astype(np.float64)
    weight = np.ones(len(scores)) if weight is None else weight[order]
    one_more = np.broadcast_to(one_more, scores.shape)[order]
    # Keep equal rows on one side of the threshold, despite rounding.
    margin = _ROUNDING * np.maximum(1.0, np.abs(ordered))
    is_higher = quietly(np.subtract, ordered[1:], ordered[:-1]) > margin[1:]
    start = np.r_[0, np.flatnonzero(is_higher) + 1]
    below = np.cumsum(weight)[start] - weight[start] + np.maximum.reduceat(one_more, start)
    allowed = share * (weight.sum() + one_more.max()) * (1 + 1e-9)
    (low,) = np.nonzero(below <= allowed)
    place = start[low[-1]] if len(low) else 0
    return float(ordered[place] - margin[place])


def _numbered(X: Any) -> IntArray:
    """Number of the distinct row that each row equals, in sorted order."""
    values = np.asarray(X)
    if values.dtype == object:
        values = values.astype(str)
    codes = [np.unique(column, return_inverse=True)[1] for column in values.T]  # NaN equals NaN
    number: IntArray = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1]
    return number.reshape(-1)


def _counts(weights: FloatArray, total: FloatArray, number: IntArray) -> FloatArray:
    """How often each distinct row occurs, from weights per row and per distinct row."""
    if (weights != np.round(weights)).any() or total.max() > 2**53:
        total = np.bincount(number).astype(np.float64)
    if len(total) < _ENOUGH_FOR_A_FACTOR:
        return total
    return total / np.gcd.reduce(total.astype(np.int64))


def _most_by_accident(count: FloatArray) -> float:
    """The largest count of a row that does not recur."""
    if count.mean() > _MOST_ON_AVERAGE:
        return 2.0
    return 2 * float(np.quantile(count, 0.95, method="lower"))
