"""A table of mixed columns: which likelihood is whose, and its rows as codes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from skemvae.likelihoods.base import Likelihood
from skemvae.likelihoods.continuous import Gaussian, LogNormal, StudentT
from skemvae.likelihoods.discrete import Bernoulli, Categorical, NegativeBinomial, Poisson
from skemvae.likelihoods.units import Categories, Units
from skemvae.validation import check_choice, escaped, select_columns, shown

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "lognormal": LogNormal,
    "student_t": StudentT,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "categorical": Categorical,
}


def named_likelihood(value: Any) -> Likelihood:
    """Return an unbound likelihood of one's own for a name or an object."""
    if isinstance(value, Likelihood):
        return copy.deepcopy(value)
    check_choice("likelihood", value, LIKELIHOODS)
    return LIKELIHOODS[value]()


def is_numeric(likelihood: Any) -> bool:
    """Whether all columns must be finite numbers."""
    if isinstance(likelihood, str | Likelihood):
        return named_likelihood(likelihood).numeric
    return all(named_likelihood(entry[0]).numeric for entry in _pairs(likelihood))


def _pairs(likelihood: Any) -> list[tuple[Any, Any]]:
    pairs = list(likelihood) if isinstance(likelihood, list | tuple) else [likelihood]
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(
                f"likelihood holds {pair!r}, expected a name, an object of skemvae.likelihoods or "
                "a list of pairs (likelihood, columns)."
            )
    return pairs


def assign_columns(likelihood: Any, X: Any, names: Sequence[Any]) -> list[tuple[Likelihood, Any]]:
    """Return the blocks ``(likelihood, positions)`` that a parameter asks for.

    Parameters
    ----------
    likelihood : str, Likelihood or list of (str or Likelihood, columns)
        Columns as in scikit-learn's ``ColumnTransformer``.
    X : array or frame
        A callable is asked for its columns of it.
    names : sequence of str
        One for each column.

    Raises
    ------
    ValueError
        If a column has no likelihood, or two.
    """
    d = len(names)
    if isinstance(likelihood, str | Likelihood):
        return [(named_likelihood(likelihood), np.arange(d))]
    owners: dict[int, str] = {}
    blocks = []
    for name, columns in _pairs(likelihood):
        head = named_likelihood(name)
        if callable(columns):
            columns = columns(X)
        columns = select_columns(columns, d, names, or_none=True)
        for j in columns:
            if j in owners:
                raise ValueError(
                    f"Column {escaped(names[j])} has two likelihoods: {owners[j]} and {head!r}."
                )
            owners[j] = repr(head)
        if len(columns):
            blocks.append((head, columns))
    missing = [names[j] for j in range(d) if j not in owners]
    if missing:
        raise ValueError(
            f"Columns {shown(missing)} have no likelihood: name them in likelihood=[...]."
        )
    return blocks


def _values(X: Any, columns: Any, names: Sequence[str], numeric: bool) -> Any:
    """Some columns of an array or a frame: finite numbers, or objects of any kind."""
    if not hasattr(X, "columns"):
        block = X[:, columns]
        if block.dtype.kind in "mM":  # in nanoseconds, NumPy makes integers of times
            block = block.astype(block.dtype.kind + "8[us]")
        if not numeric:
            return block.astype(object)
        return block if _all_finite(block) else _numbers(block.T, names)
    take = X.iloc.__getitem__ if hasattr(X, "iloc") else X.__getitem__
    series = [take((slice(None), int(j))) for j in columns]
    if numeric:
        return _numbers(series, names)
    block = np.empty((X.shape[0], len(series)), dtype=object)  # labels keep their types
    for i, one in enumerate(series):
        block[:, i] = one.to_list()
    return block


def _all_finite(block: Any) -> bool:
    return block.dtype.kind == "f" and bool(np.isfinite(block).all())


def _numbers(columns: Any, names: Sequence[str]) -> Any:
    """Finite numbers, or an error that names the column."""
    block = np.empty((len(columns[0]), len(columns)), order="F")
    for i, (name, column) in enumerate(zip(names, columns, strict=True)):
        try:
            block[:, i] = np.asarray(column, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Column {escaped(name)} must hold numbers: {escaped(error)}."
            ) from None
        for row in np.flatnonzero(~np.isfinite(block[:, i])):
            raise ValueError(
                f"Column {escaped(name)} holds {block[row, i]} in row {row}: NaN and infinity are "
                "not supported, drop or impute such values."
            )
    return block


@dataclass(frozen=True)
class Table:
    """The blocks of a table, and the units of their columns.

    Codes are stored block after block: those of block b are the columns
    ``slices[b]`` of a matrix of codes.
    """

    columns: tuple[Any, ...]
    blocks: tuple[Units, ...]

    @classmethod
    def of(
        cls,
        blocks: list[tuple[Likelihood, Any]],
        X: Any,
        names: Any,
        weight: Any,
        standardize: bool,
    ) -> Self:
        """Learn the units of training rows."""
        units = []
        for head, columns in blocks:
            of = tuple(str(names[j]) for j in columns)
            values = _values(X, columns, of, head.numeric)
            units.append(head.units(values, of, weight, standardize))
        return cls(tuple(columns for _, columns in blocks), tuple(units))

    @property
    def slices(self) -> list[slice]:
        """Where the codes of each block are."""
        ends = np.cumsum([len(columns) for columns in self.columns]).tolist()
        return [slice(end - len(c), end) for c, end in zip(self.columns, ends, strict=True)]

    @property
    def log_volume(self) -> float:
        """Logarithm of the volume of a unit of the codes, in the units of the table."""
        return sum(units.log_volume for units in self.blocks)

    @property
    def numeric(self) -> bool:
        """Whether all columns must be finite numbers."""
        return all(units.numeric for units in self.blocks)

    def encode(self, X: Any, dtype: Any, *, exact: bool) -> Any:
        """Codes of the rows, of the given dtype and shape (n, d); infinite if they overflow it."""
        codes = np.empty((X.shape[0], sum(map(len, self.columns))), dtype=dtype)
        with np.errstate(over="ignore"):
            for where, columns, units in zip(self.slices, self.columns, self.blocks, strict=True):
                values = _values(X, columns, units.names, units.numeric)
                codes[:, where] = units.encode(values, exact=exact)
        return codes

    def in_order(self, values: Any) -> Any:
        """Numbers (n, d) for the columns of the codes, in the order of the table."""
        ordered = np.empty_like(values)
        ordered[:, np.concatenate(self.columns)] = values
        return ordered

    def decode(self, codes: Any) -> Any:
        """Rows of the codes, in the order of the table's columns."""
        labels = [units for units in self.blocks if isinstance(units, Categories)]
        dtype = codes.dtype
        if labels:  # which float32 need not hold
            dtype = np.float64 if all(units.all_numbers for units in labels) else object
        X = np.empty(codes.shape, dtype=dtype)
        for where, columns, units in zip(self.slices, self.columns, self.blocks, strict=True):
            X[:, columns] = units.decode(codes[:, where])
        return X
