"""``from_batches``: rows that come in batches, for tables of any length."""

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

# Numbers in a part, at least: 2 MiB. Smaller batches are joined, for every part costs some
# arithmetic that does not depend on its rows.
_PART_NUMBERS = 2**18


def from_batches(source: object, sample_weight: str | None = None) -> Batches:
    """Rows that come in batches: what ``fit`` takes as X where the table is not in memory.

    Parameters
    ----------
    source : iterable, callable or object with batches
        A fit passes over the rows many times, so batches must come anew each
        time: from a list or another iterable that can begin again; from a
        function without arguments that returns an iterator; or from what has
        ``iter_batches`` or ``to_batches``, as Parquet files, Arrow tables and
        datasets have. A batch is a table of numbers: an array, a pandas or
        polars DataFrame, an Arrow record batch; or a tuple ``(X, sample_weight)``.
    sample_weight : str, default=None
        Name of the column that holds the weights, if batches have one.

    Returns
    -------
    Batches
        Iterates over the batches.

    Raises
    ------
    TypeError
        If the source is an iterator, which can be read only once, or no source of batches,
        such as the name of a file.

    Notes
    -----
    What a batch holds is checked when it is read: its columns must be those
    of the first batch, its values finite. All batches are read for
    each iteration, one at a time, and small ones are joined to parts of 2
    MiB. The result is that of the same rows in memory, to rounding.

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
    """Rows that come in batches, anew for each pass.

    Made by ``from_batches``, where the parameters are explained.

    Parameters
    ----------
    source : iterable, callable or object with batches
        Where batches come from.
    sample_weight : str or None
        Name of the column of weights.
    """

    def __init__(self, source: object, sample_weight: str | None):
        if isinstance(source, str | bytes | PathLike):
            how = how_to_read(source)
            raise TypeError(f"source={shown(source)} holds no batches: if it names a file, {how}.")
        if source is None:
            raise TypeError(
                "source=None holds no batches: give a list of tables, a function that makes an "
                "iterator over them, or what has iter_batches or to_batches."
            )
        check_is_collected("source", source)
        if isinstance(source, Iterator):
            raise TypeError(
                f"source={source!r} can be read only once, and a fit passes over the rows many "
                "times: give a function that makes a new iterator, such as "
                "`lambda: pandas.read_csv(path, chunksize=100_000)`."
            )
        self._begin = _how_to_begin(source)
        self._weight_column = sample_weight

    def __iter__(self) -> Iterator[object]:
        """Begin a pass over the batches, as they are."""
        return iter(self._begin())

    def open(self) -> tuple[Parts, list[str] | None]:
        """Look at the first batch, and make a table of all.

        Returns
        -------
        table : Parts
            Its ``fold`` reads all batches anew.
        names : list of str or None
            Of the columns.

        Raises
        ------
        ValueError
            If there is no batch, or it is no table of numbers.
        """
        with _closing(self._read()) as batches:
            layout = next((batch.layout for batch in batches), None)
        if layout is None:
            raise ValueError("source yields no batch: there is nothing to fit.")
        n_rows: int | None = None

        def one_pass() -> Iterator[tuple[Any, Any]]:
            nonlocal n_rows
            seen = 0
            for part in _parts(self._read(layout)):
                seen += len(part[0])
                yield part
            if seen == 0 and n_rows is None:
                raise ValueError("source yields no row: there is nothing to fit.")
            if n_rows not in (None, seen):
                raise ValueError(
                    f"source yields {seen} rows in this pass, and {n_rows} in the first: batches "
                    "must come anew each time; a function must make a new iterator at each call."
                )
            n_rows = seen

        return Parts(one_pass, Frame.identity(layout.n_features)), layout.names

    def _read(self, expected: _Layout | None = None) -> Iterator[_Batch]:
        """Begin a pass over the batches, checked one by one."""
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
    """Close what the batches come from, a file say, also where a pass ends early."""
    try:
        yield batches
    finally:
        if hasattr(batches, "close"):
            batches.close()


class _Layout(NamedTuple):
    """What all batches have in common."""

    names: list[str] | None
    n_features: int
    has_weights: bool

    def check(self, expected: _Layout) -> None:
        """Raise ValueError unless it is that of the first batch."""
        if self.n_features != expected.n_features:
            raise ValueError(
                f"it has {self.n_features} columns, but the first batch has {expected.n_features}."
            )
        if self.names != expected.names:
            raise ValueError(
                f"its columns are {shown(self.names)}, but those of the first batch "
                f"{shown(expected.names)}."
            )
        if self.has_weights != expected.has_weights:
            with_weights = "has weights" if expected.has_weights else "has none"
            raise ValueError(
                f"all batches must have weights, or none of them; the first {with_weights}."
            )


class _Batch:
    """The numbers of a batch, and its weights."""

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
                ensure_all_finite=False,  # the first pass finds such values, and where they are
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
    """Rows and weights of batches, small ones joined and empty ones left out."""
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
    """One part of several batches."""
    if len(batches) == 1:
        return batches[0].X, batches[0].weight
    X = np.concatenate([batch.X for batch in batches])
    if batches[0].weight is None:
        return X, None
    return X, np.concatenate([batch.weight for batch in batches])
