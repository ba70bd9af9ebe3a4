"""A table of mixed columns: which likelihood is whose, and its rows as codes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.utils import check_array

from skemvae.likelihoods.base import Likelihood
from skemvae.likelihoods.continuous import Gaussian, StudentT
from skemvae.likelihoods.discrete import Bernoulli, Categorical, NegativeBinomial, Poisson
from skemvae.likelihoods.units import Categories, Units
from skemvae.validation import check_choice, select_columns

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
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
                    f"Column {names[j]} has two likelihoods: {owners[j]} and {head!r}."
                )
            owners[j] = repr(head)
        if len(columns):
            blocks.append((head, columns))
    missing = [names[j] for j in range(d) if j not in owners]
    if missing:
        raise ValueError(f"Columns {missing} have no likelihood: name them in likelihood=[...].")
    return blocks


def _values(X: Any, columns: Any, numeric: bool) -> Any:
    """Some columns of an array or a frame: finite numbers, or values of any kind."""
    if hasattr(X, "iloc"):
        block = X.iloc[:, columns].to_numpy()
    elif hasattr(X, "columns"):
        block = X[:, columns.tolist()].to_numpy()
    else:
        block = X[:, columns]
    if not numeric:
        return block
    return check_array(block, dtype=[np.float64, np.float32], input_name="X")


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
        units = tuple(
            head.units(
                _values(X, columns, head.numeric),
                tuple(str(names[j]) for j in columns),
                weight,
                standardize,
            )
            for head, columns in blocks
        )
        return cls(tuple(columns for _, columns in blocks), units)

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
                codes[:, where] = units.encode(_values(X, columns, units.numeric), exact=exact)
        return codes

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
