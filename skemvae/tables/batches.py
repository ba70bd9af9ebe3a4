"""``from_batches``: rows in batches, for tables of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, NamedTuple, cast

import numpy as np
from sklearn.utils.validation import check_array

from skemvae.array_api import as_numpy
from skemvae.core.rows import Frame
from skemvae.core.table import Parts
from skemvae.tables.numbers import (
    check_is_collected,
    check_is_table,
    how_to_read,
    names_of,
    naming_columns,
)
from skemvae.validation import check_each_weight, shown

# Least size of a part, in numbers (2 MiB). Smaller batches are joined, because each part costs
# some arithmetic whatever its number of rows.
_PART_NUMBERS = 2**18


def from_batches(source: object, sample_weight: str | None = None) -> Batches:
    """Wrap a source of batches, which ``fit`` takes as X when the table is not in memory.

    Parameters
    ----------
    source : iterable, callable or object with batches
        A fit passes over the rows many times, so the source must yield the
        batches again for each pass. It is a list or another iterable that can
        be iterated repeatedly; a function without arguments that returns a new
        iterator; or an object with ``iter_batches`` or ``to_batches``, such as
        a Parquet file, an Arrow table or a dataset. A batch is a table of
        numbers (an array, a pandas or polars DataFrame, an Arrow record batch)
        or a tuple ``(X, sample_weight)``.
    sample_weight : str, default=None
        Name of the column of weights, if the batches have one.

    Returns
    -------
    Batches
        An iterable over the batches, for ``fit``.

    Raises
    ------
    TypeError
        If the source is an iterator, which can be read only once, or no source
        of batches, for example the name of a file.

    Notes
    -----
    Each batch is checked when it is read: its columns must be those of the
    first batch, and its values finite. Each iteration reads all batches, one
    at a time, and joins small ones to parts of 2 MiB. The result is the same
    as for these rows in memory, up to rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from skemvae import EMGaussianMixture, from_batches
    >>> def batches():
    ...     for seed in range(100):
    ...         rng = np.random.default_rng(seed)
    ...         yield rng.normal(1 + 3 * rng.integers(2, size=(1000, 1)), 1.0)
    >>> mixture = EMGaussianMixture(n_components=2, random_state=0).fit(from_batches(batches))
    >>> np.sort(mixture.means_.ravel()).round(1)
    array([1., 4.])
    """
    return Batches(source, sample_weight)


class Batches:
    """Rows in batches, read again for each pass.

    ``from_batches`` makes one and explains the parameters.

    Parameters
    ----------
    source : iterable, callable or object with batches
        Source of the batches.
    sample_weight : str or None
        Name of the column of weights.
    """

    def __init__(self, source: object, sample_weight: str | None):
        if isinstance(source, str | bytes | PathLike):
            how = how_to_read(source)
            raise TypeError(f"source={shown(source)} holds no batches: if it names a file, {how}.")
        if source is None:
            raise TypeError(
                "source=None holds no batches: give a list of tables, a function that returns a "
                "new iterator over them, or an object with iter_batches or to_batches."
            )
        check_is_collected("source", source)
        if isinstance(source, Iterator):
            raise TypeError(
                f"source={source!r} can be read only once, but a fit passes over the rows many "
                "times: give a function that returns a new iterator, such as "
                "`lambda: pandas.read_csv(path, chunksize=100_000)`."
            )
        self._begin = _how_to_begin(source)
        self._weight_column = sample_weight

    def __iter__(self) -> Iterator[object]:
        """Iterate over the batches, unchecked."""
        return iter(self._begin())

    def open(self) -> tuple[Parts, list[str] | None]:
        """Read the first batch, and return a table of all batches.

        Returns
        -------
        table : Parts
            Each ``fold`` reads all batches again.
        names : list of str or None
            Names of the columns.

        Raises
        ------
        ValueError
            If there is no batch, or the first is not a table of numbers.
        """
        with _closing(self._read()) as batches:
            layout = next((batch.layout for batch in batches), None)
        if layout is None:
            raise ValueError("source yields no batch, so there is nothing to fit.")
        n_rows: int | None = None

        def one_pass() -> Iterator[tuple[Any, Any]]:
            nonlocal n_rows
            seen = 0
            for part in _parts(self._read(layout)):
                seen += len(part[0])
                yield part
            if seen == 0 and n_rows is None:
                raise ValueError("source yields no row, so there is nothing to fit.")
            if n_rows not in (None, seen):
                raise ValueError(
                    f"source yields {seen} rows in this pass, and {n_rows} in the first: it must "
                    "yield all batches in each pass; a function must return a new iterator at "
                    "each call."
                )
            n_rows = seen

        return Parts(one_pass, Frame.identity(layout.n_features)), layout.names

    def _read(self, expected: _Layout | None = None) -> Iterator[_Batch]:
        """Iterate over the batches, and check each."""
        with _closing(iter(self)) as batches:
            for number, raw in enumerate(batches):
                try:
                    batch = _Batch(raw, self._weight_column)
                    if expected is not None:
                        batch.layout.check(expected)
                except (TypeError, ValueError) as error:
                    kind = TypeError if isinstance(error, TypeError) else ValueError
                    raise kind(f"Batch {number} (counted from 0): {error}") from error
                yield batch


@contextmanager
def _closing(batches: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """Close the source of the batches, such as a file, even if a pass ends early."""
    try:
        yield batches
    finally:
        if hasattr(batches, "close"):
            batches.close()


class _Layout(NamedTuple):
    """What all batches must have in common."""

    names: list[str] | None
    n_features: int
    has_weights: bool

    def check(self, expected: _Layout) -> None:
        """Raise ValueError unless this layout equals that of the first batch."""
        if self.n_features != expected.n_features:
            raise ValueError(
                f"it has {self.n_features} columns, but the first batch has {expected.n_features}."
            )
        if self.names != expected.names:
            raise ValueError(
                f"its columns are {shown(self.names)}, but those of the first batch are "
                f"{shown(expected.names)}."
            )
        if self.has_weights != expected.has_weights:
            with_weights = "has weights" if expected.has_weights else "has none"
            raise ValueError(
                f"all batches must have weights, or none of them; the first {with_weights}."
            )


class _Batch:
    """The numbers and weights of a batch."""

    def __init__(self, raw: Any, weight_column: str | None):
        X, weight = raw if isinstance(raw, tuple) and len(raw) == 2 else (raw, None)
        check_is_table(X)
        X = as_numpy(X)
        names = _names(X)
        if weight_column is not None:
            if weight_column not in (names or ()):
                raise ValueError(
                    f"sample_weight={shown(weight_column)} is none of the columns {shown(names)}."
                )
            weight = X[weight_column]
            names = [name for name in names or () if name != weight_column]
            X = X.select(names) if hasattr(X, "select") else X[names]
        with naming_columns(X):
            self.X = check_array(
                X,
                dtype=[np.float64, np.float32],
                ensure_all_finite=False,  # the first pass finds and locates such values
                ensure_min_samples=0,
            )
        self.weight = None if weight is None else check_each_weight(weight, self.X)
        self.layout = _Layout(names, self.X.shape[1], weight is not None)


def _how_to_begin(source: Any) -> Callable[[], Iterable[Any]]:
    for name in ("iter_batches", "to_batches"):  # Parquet files; Arrow tables and datasets
        if hasattr(source, name):
            return cast(Callable[[], Iterable[Any]], getattr(source, name))
    if callable(source):
        return cast(Callable[[], Iterable[Any]], source)
    if not hasattr(source, "__iter__"):
        raise TypeError(f"source={source!r} is neither iterable nor a function that makes batches.")
    return lambda: source


def _names(X: Any) -> list[str] | None:
    """The names of the columns, if they are strings."""
    names = names_of(X)
    return names if names and all(isinstance(name, str) for name in names) else None


def _parts(batches: Iterable[_Batch]) -> Iterator[tuple[Any, Any]]:
    """Rows and weights of batches; small batches are joined, empty ones left out."""
    held: list[_Batch] = []
    for batch in batches:
        if len(batch.X):
            held.append(batch)
        if sum(batch.X.size for batch in held) >= _PART_NUMBERS:
            part, held = _joined(held), []
            yield part
    if held:
        yield _joined(held)


def _joined(batches: list[_Batch]) -> tuple[Any, Any]:
    """Join several batches to one part."""
    if len(batches) == 1:
        return batches[0].X, batches[0].weight
    X = np.concatenate([batch.X for batch in batches])
    if batches[0].weight is None:
        return X, None
    return X, np.concatenate([batch.weight for batch in batches])
