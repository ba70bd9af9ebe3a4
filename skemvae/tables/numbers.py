"""Checks that a table holds finite numbers; one error names all columns that do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import assert_all_finite

from skemvae.validation import escaped, shown

_REMEDY = (
    "Leave such columns out, or make numbers of them, for example of a date the days since the "
    "first. VAEEstimator(likelihood=[...]) and VariationalEM(FactorModel(likelihood=[...])) take "
    "labels, as ('categorical', columns)."
)
_REMEDIES = {"NaN": "drop such rows, or fill the gaps", "infinity": "drop such rows"}
# Largest number of columns that an error lists.
_MOST_NAMED = 50


def check_is_table(X: Any) -> None:
    """Raise TypeError or ValueError for input that is clearly not a table of rows.

    Parameters
    ----------
    X : object
        As passed by the user.
    """
    if X is None:
        raise TypeError("X=None: give rows, an array or a frame of shape (n_samples, n_features).")
    if isinstance(X, str | bytes | PathLike):
        raise TypeError(f"X={shown(X)} is not a table: if it names a file, {how_to_read(X)}.")
    check_is_collected("X", X)
    if np.ma.is_masked(X):
        row, column = np.argwhere(np.atleast_2d(np.ma.getmaskarray(X)))[0].tolist()
        raise ValueError(
            f"X is a masked array that lacks the value in row {row}, column {column} (counted from "
            f"0): {_REMEDIES['NaN']}."
        )
    if hasattr(X, "columns") and len(getattr(X, "shape", ())) == 2 and X.shape[1] == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required: X "
            "is a frame without columns."
        )


def check_is_collected(name: str, table: Any) -> None:
    """Raise TypeError for a polars LazyFrame, which has no rows until it is collected."""
    if type(table).__name__ == "LazyFrame":
        raise TypeError(f"{name} is a LazyFrame, which holds no rows yet: give {name}.collect().")


def how_to_read(path: Any) -> str:
    """Advice on reading the rows of a file, by its name."""
    name = path if isinstance(path, str | bytes) else str(path)
    if name[-8:] in (".parquet", b".parquet"):
        return f"give from_batches(pyarrow.parquet.ParquetFile({shown(name)})), or a frame of it"
    return f"read it first, for example with pandas.read_csv({shown(name)})"


@dataclass(frozen=True)
class NoNumbers:
    """A column with a value that is not a number.

    Attributes
    ----------
    name : str or int
        Name or position of the column.
    dtype : str
    value : object
        The first value that is not a number.
    error : Exception
        Why this value cannot become a number.
    """

    name: Any
    dtype: str
    value: Any
    error: Exception

    def __str__(self) -> str:
        value = repr(self.value) if isinstance(self.value, str) else str(self.value)
        return f"{_called(self.name)} ({escaped(self.dtype)}, such as {escaped(value, 40)})"


def as_numbers(name: Any, column: Any) -> Any:
    """Convert a column to float64, with gaps as NaN, or return ``NoNumbers``."""
    dtype = str(getattr(column, "dtype", getattr(column, "type", type(column).__name__)))
    array = np.asarray(column)
    if array.dtype.kind in "mMc" or (array.dtype == object and _hold_times(array)):
        value = next((v for v in array.tolist() if not is_missing(v)), None)
        return NoNumbers(name, dtype, value, _refusal(array.dtype, dtype))
    try:
        return np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        if array.ndim != 1:  # nested sequences
            return NoNumbers(name, dtype, array[0], error)
    numbers = np.full(len(array), np.nan)
    for i, value in enumerate(array.tolist()):
        if is_missing(value):
            continue
        try:
            numbers[i] = float(value)
        except (TypeError, ValueError) as error:
            return NoNumbers(name, dtype, value, error)
    return numbers


def error_naming(refused: Sequence[NoNumbers]) -> Exception:
    """The error for one or more columns that do not hold numbers."""
    named = ", ".join(map(str, refused[:_MOST_NAMED]))
    more = len(refused) - _MOST_NAMED
    named += f" and {more} others" if more > 0 else ""
    kind = TypeError if isinstance(refused[0].error, TypeError) else ValueError
    columns = "column" if len(refused) == 1 else f"{len(refused)} columns"
    return kind(f"X holds no numbers in {columns} {named}: {escaped(refused[0].error)}. {_REMEDY}")


@contextmanager
def naming_columns(X: Any) -> Iterator[None]:
    """Context in which to convert X; an error due to its columns names them all.

    Dates are rejected first, because NumPy would turn them into numbers.
    """
    if _kinds(X) & set("mM") or (_kinds(X) == {"O"} and _hold_times(_objects(X))):
        raise error_naming(no_numbers(X))
    try:
        yield
    except (TypeError, ValueError) as error:
        refused = no_numbers(X)
        if refused:
            raise error_naming(refused) from error
        if "NAType" in str(error):  # pandas.NA among objects
            check_finite(np.column_stack([as_numbers(*one) for one in _columns(X)]), names_of(X))
        raise


def no_numbers(X: Any) -> list[NoNumbers]:
    """The columns of a table that do not hold numbers."""
    as_read = (as_numbers(name, column) for name, column in _columns(X))
    return [column for column in as_read if isinstance(column, NoNumbers)]


def _refusal(dtype: Any, name: str) -> Exception:
    if dtype.kind == "c":
        return ValueError("Complex data not supported")
    return TypeError(f"float() argument must be a string or a real number, not {name}")


def check_finite(X: Any, names: Sequence[Any] | None = None) -> None:
    """Raise ValueError that locates the first value that is not finite, if there is one.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    names : sequence of length d, default=None
        Names of the columns.
    """
    try:
        assert_all_finite(X)
    except ValueError:
        finite = np.isfinite(X)
        row, column = np.argwhere(~finite)[0].tolist()
        raise not_finite(X[row, column], row, column, names) from None


def check_no_gaps(X: Any) -> None:
    """Raise ValueError that locates a gap, NaN or infinity of a frame, if there is one."""
    for j, (_, column) in enumerate(_columns(X)):
        values = np.asarray(column)
        if values.dtype.kind == "f":
            gaps = ~np.isfinite(values)
        elif values.dtype.kind == "O":
            gaps = np.fromiter(map(is_missing, values), dtype=bool, count=len(values))
        else:
            gaps = values != values  # NaT
        for row in np.flatnonzero(gaps):
            value = values[row] if values.dtype.kind == "f" else np.nan
            raise not_finite(value, int(row), j, names_of(X))


def not_finite(value: Any, row: int, column: int, names: Sequence[Any] | None) -> ValueError:
    """The error for a value that is NaN or infinite."""
    kind = "NaN" if np.isnan(value) else "infinity"
    where = _called(column if names is None else names[column])
    return ValueError(
        f"Input X contains {kind}, first in row {row}, column {where} (counted from 0): "
        f"{_REMEDIES[kind]}."
    )


def _called(name: Any) -> str:
    """A name in quotes, or a position."""
    return str(name) if str(name).isdigit() else shown(str(name))


def names_of(X: Any) -> list[Any] | None:
    """Column names, of any type, of a frame or an Arrow table; None for arrays."""
    names = getattr(X, "column_names", None)
    names = getattr(X, "columns", None) if names is None else names
    return None if names is None or callable(names) else list(names)


def _columns(X: Any) -> Iterable[tuple[Any, Any]]:
    """Names or positions with the columns of a table; empty if X is not a table."""
    names = names_of(X)
    if issparse(X):
        return ()
    if names is None:
        array = X if hasattr(X, "dtype") else np.asarray(X, dtype=object)
        return enumerate(np.asarray(array).T) if array.ndim == 2 else ()
    if hasattr(X, "iloc"):
        return ((name, X.iloc[:, j]) for j, name in enumerate(names))
    if hasattr(X, "column"):  # Arrow
        return ((name, X.column(j)) for j, name in enumerate(names))
    return ((name, X[name]) for name in names)


def _kinds(X: Any) -> set[str]:
    """NumPy's one-letter kinds of the dtypes of an array or frame, "" if NumPy has none."""
    if isinstance(X, list | tuple):
        return {"O"} if all(isinstance(row, list | tuple) for row in X) else set()
    if hasattr(X, "column_names"):  # Arrow
        return {np.asarray(column[:0]).dtype.kind for column in X.columns}
    dtypes = X.dtypes if hasattr(X, "dtypes") else [getattr(X, "dtype", None)]
    kinds = {getattr(dtype, "kind", "") for dtype in dtypes}
    polars_dates = any(getattr(dtype, "is_temporal", bool)() for dtype in dtypes)
    return kinds | {"M"} if polars_dates else kinds


def _objects(X: Any) -> Any:
    return np.asarray(X, dtype=object)


def _hold_times(array: Any) -> bool:
    """Whether objects include NumPy's times, which NumPy would turn into numbers."""
    return not {np.datetime64, np.timedelta64}.isdisjoint(map(type, array.ravel()))


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT, pandas.NA or the like."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True
    except ValueError:  # for example an array
        return False
