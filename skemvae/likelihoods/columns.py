"""A table of mixed columns: the likelihood of each column, and the rows as codes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from skemvae.core.arrays import quietly
from skemvae.likelihoods.base import Likelihood
from skemvae.likelihoods.continuous import Gaussian, LogNormal, StudentT
from skemvae.likelihoods.discrete import Bernoulli, Categorical, NegativeBinomial, Poisson
from skemvae.likelihoods.units import Binary, Categories, Units
from skemvae.tables.numbers import NoNumbers, as_numbers, check_finite, error_naming
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
    """Return a new unbound likelihood for a name, or a copy of an object."""
    if isinstance(value, Likelihood):
        return copy.deepcopy(value)
    check_choice("likelihood", value, LIKELIHOODS)
    return LIKELIHOODS[value]()


def is_numeric(likelihood: Any) -> bool:
    """Whether ``likelihood`` is a single one that needs finite numbers in all columns."""
    return isinstance(likelihood, str | Likelihood) and named_likelihood(likelihood).numeric


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
    """Return the blocks ``(likelihood, positions)`` that the parameter describes.

    Parameters
    ----------
    likelihood : str, Likelihood or list of (str or Likelihood, columns)
        Columns as in scikit-learn's ``ColumnTransformer``.
    X : array or frame
        Passed to ``columns`` if that is callable.
    names : sequence of str
        One for each column.

    Raises
    ------
    ValueError
        If a column has no likelihood, or two, or a pair names a column that does not
        exist. The message also tells what else is wrong with the columns.
    """
    d = len(names)
    if isinstance(likelihood, str | Likelihood):
        return [(named_likelihood(likelihood), np.arange(d))]
    owners: dict[int, str] = {}
    blocks: list[tuple[Likelihood, Any]] = []
    wrong: list[str] = []
    for name, columns in _pairs(likelihood):
        head = named_likelihood(name)
        if callable(columns):
            columns = columns(X)
        try:
            columns = select_columns(
                columns, d, names, or_none=True, parameter=f"likelihood=[({name!r}, ...)]: columns"
            )
        except ValueError as error:
            wrong.append(str(error))
            there = isinstance(columns, list | tuple) and set(columns) & set(names)
            columns = [list(names).index(column) for column in there or ()]
        for j in columns:
            if j in owners:
                wrong.append(
                    f"Column {escaped(names[j])} has two likelihoods: {owners[j]} and {head!r}."
                )
            owners[j] = repr(head)
        if len(columns):
            blocks.append((head, columns))
    missing = [names[j] for j in range(d) if j not in owners]
    if missing:
        wrong.append(f"Columns {shown(missing)} have no likelihood: name them in likelihood=[...].")
    if wrong:
        columns = [j for head, columns in blocks if head.numeric for j in columns]
        _, refused = _numbers(_series(X, columns), [names[j] for j in columns])
        raise ValueError(" ".join([*wrong, *([str(error_naming(refused))] if refused else [])]))
    return blocks


def _series(X: Any, columns: Any) -> list[Any]:
    """Some columns of an array or a frame, one by one."""
    if not hasattr(X, "columns"):
        return [X[:, j] for j in columns]
    take = X.iloc.__getitem__ if hasattr(X, "iloc") else X.__getitem__
    return [take((slice(None), int(j))) for j in columns]


def _labels(X: Any, columns: Any) -> Any:
    """Some columns of an array or a frame as objects of any kind."""
    if not hasattr(X, "columns"):
        block = X[:, columns]
        if block.dtype.kind in "mM":  # NumPy turns times in nanoseconds into integers
            block = block.astype(block.dtype.kind + "8[us]")
        return block.astype(object)
    block = np.empty((X.shape[0], len(columns)), dtype=object)  # labels keep their types
    for i, one in enumerate(_series(X, columns)):
        block[:, i] = one.to_list()
    return block


def _numbers(series: Sequence[Any], names: Sequence[Any]) -> tuple[Any, list[NoNumbers]]:
    """Columns as numbers (None if one fails), and the columns that do not hold numbers."""
    as_read = [as_numbers(*one) for one in zip(names, series, strict=True)]
    refused = [one for one in as_read if isinstance(one, NoNumbers)]
    return None if refused or not as_read else np.array(as_read).T, refused


def _values(X: Any, blocks: Iterable[tuple[Any, Sequence[str], bool]]) -> list[Any]:
    """The columns of each block: finite numbers, or objects of any kind.

    Parameters
    ----------
    X : array or frame
    blocks : iterable of (positions, names, whether they are numbers)

    Raises
    ------
    TypeError, ValueError
        If a column that should hold numbers does not, or a value is not finite. The message
        names all such columns, or the first such value.
    """
    values, refused = [], []
    for columns, names, numeric in blocks:
        if not numeric:
            values.append(_labels(X, columns))
        elif getattr(getattr(X, "dtype", None), "kind", "") == "f":
            values.append(X[:, columns])
            check_finite(values[-1], names)
        else:
            block, without = _numbers(_series(X, columns), names)
            refused += without
            if block is not None:
                check_finite(block, names)
            values.append(block)
    if refused:
        raise error_naming(refused)
    return values


@dataclass(frozen=True)
class Table:
    """The blocks of a table and the units of their columns.

    Codes are stored block after block: those of block b are in the columns
    ``slices[b]`` of the matrix of codes.
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
        """Determine the units from the training rows."""
        of = [tuple(str(names[j]) for j in columns) for _, columns in blocks]
        pairs = zip(blocks, of, strict=True)
        values = _values(X, ((columns, own, head.numeric) for (head, columns), own in pairs))
        units = (
            head.units(one, own, weight, standardize)
            for (head, _), one, own in zip(blocks, values, of, strict=True)
        )
        return cls(tuple(columns for _, columns in blocks), tuple(units))

    @property
    def slices(self) -> list[slice]:
        """The columns of codes of each block."""
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
        quietly(self._encode, X, exact, codes)
        return codes

    def _encode(self, X: Any, exact: bool, codes: Any) -> None:
        pairs = list(zip(self.columns, self.blocks, strict=True))
        values = _values(X, ((columns, units.names, units.numeric) for columns, units in pairs))
        for where, units, one in zip(self.slices, self.blocks, values, strict=True):
            codes[:, where] = units.encode(one, exact=exact)

    def probabilities(self, codes: Any) -> list[str]:
        """The names of binary columns that hold values other than 0 and 1."""
        names: list[str] = []
        for where, units in zip(self.slices, self.blocks, strict=True):
            if isinstance(units, Binary):
                bits = codes[:, where]
                grey = ((bits != 0) & (bits != 1)).any(0)
                names += [units.names[j] for j in np.flatnonzero(grey)]
        return names

    def in_order(self, values: Any) -> Any:
        """Reorder an (n, d) array from the columns of the codes to those of the table."""
        ordered = np.empty_like(values)
        ordered[:, np.concatenate(self.columns)] = values
        return ordered

    def decode(self, codes: Any) -> Any:
        """Turn codes into rows, with the columns in the order of the table."""
        labels = [units for units in self.blocks if isinstance(units, Categories)]
        dtype = codes.dtype
        if labels:  # they may not fit in float32
            dtype = np.float64 if all(units.all_numbers for units in labels) else object
        X = np.empty(codes.shape, dtype=dtype)
        for where, columns, units in zip(self.slices, self.columns, self.blocks, strict=True):
            X[:, columns] = units.decode(codes[:, where])
        return X
