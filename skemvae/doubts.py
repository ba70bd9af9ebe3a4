"""Warnings about fits that succeed but are doubtful, such as densities without bound."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.covariance import Covariance
from skemvae.core.table import Table
from skemvae.engine.samples.even_sample import EvenSample
from skemvae.structures.dense import DenseCovariance
from skemvae.validation import escaped

# Number of rows to inspect if a fit looks doubtful. A value is repeated if at least this many of
# them have it, and at least this share of the rows near it.
_ROWS, _REPEATED, _SHARE = 2000, 10, 0.9
# With fewer rows per column, columns may be linearly dependent by chance.
_ROWS_PER_COLUMN = 10
# A component has collapsed if its variance is at most this multiple of the regularisation.
_COLLAPSED = 2.0
# Standardised columns are dependent if their own variance in a direction is below the first plus
# the second times the regularisation; it involves columns with products of loadings above the last.
_OWN, _OWN_PART, _INVOLVED = 1e-8, 1e-4, 1e-4
# If columns are dependent, some component is at least this flat, absolutely or as a multiple of
# the regularisation.
_FLAT, _FLAT_PART = 1e-2, 400.0
# Largest number of names in a message.
_NAMED = 5


class DoubtfulFitWarning(UserWarning):
    """A fit succeeded, but its density or its components may be misleading."""


def warn_of_doubts(doubts: Iterable[str]) -> None:
    """Issue a warning for each doubt; must be called by ``fit`` itself."""
    for doubt in doubts:
        warnings.warn(doubt, DoubtfulFitWarning, stacklevel=3)


def is_beyond_doubt(covariance: Covariance, floor: Array, varies: AnyArray) -> bool:
    """Whether no component is as narrow or as flat as its regularisation; a quick check.

    Parameters
    ----------
    covariance : Covariance
        In a frame where the columns have unit scale.
    floor : array of shape (d,)
        The variances that regularise it.
    varies : array of shape (d,)
        Whether each column varies.
    """
    if ((covariance.variances <= _COLLAPSED * floor) & varies).any():
        return False
    if not isinstance(covariance, DenseCovariance):
        return True
    return not covariance.is_singular(max(_FLAT, _FLAT_PART * float(floor.max())))


@dataclass(frozen=True)
class Columns:
    """The columns of a fitted table, of which some rows are inspected on demand.

    Attributes
    ----------
    table : Table
    names : sequence
        Names of the columns in messages.
    varies : array of shape (d,)
        Whether each column varies.
    regularisation : str
        Name of the parameter that keeps the density bounded.
    """

    table: Table
    names: Sequence[Any]
    varies: AnyArray
    regularisation: str

    def dependence(self, covariance: Array, noise: Array) -> Iterator[str]:
        """Yield a message if columns depend on each other linearly.

        Parameters
        ----------
        covariance : array of shape (d, d)
            Covariance of all rows, in the frame of the table, regularised.
        noise : array of shape (d,)
            The variances that regularise it.
        """
        which = np.flatnonzero(self.varies)
        total = covariance.diagonal()[which]
        own = covariance[np.ix_(which, which)] - np.diag(noise[which])
        correlation = own / np.sqrt(np.outer(total, total))
        least = _OWN + _OWN_PART * float((noise[which] / total).max(initial=0))
        if _is_regular(correlation, least) or len(self._rows) < _ROWS_PER_COLUMN * len(which):
            return
        values, directions = np.linalg.eigh(correlation)
        without_variance = directions[:, values < least]
        sets = _connected(np.abs(without_variance @ without_variance.T) > _INVOLVED)
        said = listed([f"({listed([self._name(which[j]) for j in one])})" for one in sets])
        if said:
            yield (
                f"Columns depend on each other linearly: {said}. The density lies on a plane, "
                f"and its height there depends on {self.regularisation} alone. Leave out one of "
                "them (of one-hot columns, too), or give labels as one column with "
                "likelihood='categorical' to VAEEstimator or FactorModel."
            )

    def collapse(self, means: Array, variances: Array, floor: Array) -> Iterator[str]:
        """Yield a message if components have collapsed on repeated values of a column.

        Parameters
        ----------
        means : array of shape (K, d)
            In the units of the rows.
        variances : array of shape (K, d)
            In the frame of the table; NaN in components without rows.
        floor : array of shape (d,) or (K, d)
            The variances if all rows of a component were equal.
        """
        collapsed = (variances <= _COLLAPSED * floor) & self.varies
        if not collapsed.any():
            return
        widths = np.sqrt(variances) * self.table.frame.scale
        found = [
            (k, j, value)
            for k, j in np.argwhere(collapsed)
            if (value := self._repeated(j, means[k, j], 2 * widths[k, j])) is not None
        ]
        if not found:
            return
        of_components = listed([str(k) for k in sorted({int(k) for k, _, _ in found})])
        of_columns = listed([self._name(j) for j in sorted({j for _, j, _ in found})])
        values = listed([f"{x:.6g}" for x in sorted({x for _, _, x in found})])
        yield (
            f"Components ({of_components}) have collapsed in columns ({of_columns}) on values that "
            f"are repeated ({values}): their variance there depends on {self.regularisation} "
            "alone, so log densities mean little. Use fewer components, a larger "
            f"{self.regularisation}, a likelihood for counts or labels (VAEEstimator, "
            "FactorModel), or add noise as wide as the gaps between the values."
        )

    @cached_property
    def _rows(self) -> AnyArray:
        sample = self.table.fold(partial(EvenSample.of, size=_ROWS))
        rows: AnyArray = sample.X[sample.weight > 0]
        return rows

    def _repeated(self, column: int, middle: float, reach: float) -> float | None:
        """The value that almost all rows near ``middle`` share in a column, or None."""
        values = self._rows[:, column]
        near, counts = np.unique(values[np.abs(values - middle) <= reach], return_counts=True)
        most = counts.max(initial=0)
        repeated = most >= _REPEATED and most >= _SHARE * counts.sum()
        return float(near[counts.argmax()]) if repeated else None

    def _name(self, j: int) -> str:
        return escaped(self.names[j])


def _is_regular(matrix: Array, least: float) -> bool:
    """Whether no eigenvalue is near 0; a quick test that can miss regular matrices."""
    try:
        pivots = np.linalg.cholesky(matrix).diagonal()
    except np.linalg.LinAlgError:
        return False
    return bool((pivots**2 > 100 * len(matrix) * least).all())


def _connected(edges: AnyArray) -> list[list[int]]:
    """Connected components of a graph with two or more nodes."""
    left, sets = set(range(len(edges))), []
    while left:
        new = {left.pop()}
        one = set(new)
        while new:
            new = {int(j) for i in new for j in np.flatnonzero(edges[i])} & left
            left -= new
            one |= new
        if len(one) > 1:
            sets.append(sorted(one))
    return sets


def listed(names: Sequence[str], comma: str = ", ") -> str:
    """Join the first names, and say how many more there are."""
    more = len(names) - _NAMED
    return comma.join([*names[:_NAMED], *([f"and {more} more"] if more > 0 else [])])
