"""Turn the X that a user passes into a table that a fit can fold over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_array, validate_data

from skemvae.array_api import as_numpy
from skemvae.core.rows import Rows
from skemvae.core.table import Table
from skemvae.engine.samples.summary import Extent
from skemvae.optional import require
from skemvae.tables.batches import Batches, from_batches
from skemvae.tables.numbers import (
    check_finite,
    check_is_table,
    names_of,
    naming_columns,
    not_finite,
)
from skemvae.validation import check_weights, escaped

# Numbers to read at a time from sources that are sliced by rows (8 MiB).
_SLICE_NUMBERS = 2**20
_READ_AS_THEY_ARE = (np.dtype(np.float64), np.dtype(np.float32))


def read(estimator: Any, X: Any, sample_weight: Any) -> Table:
    """Return a table of X in its own units, and store its columns in the estimator.

    Arrays and frames are checked as a whole. Tables that are read in parts are
    checked by the first pass over them (``check_extent``).
    """
    if not is_read_in_parts(X):
        X = check_rows(estimator, X, numeric=True, reset=True)
        return Rows.of(X, check_weights(sample_weight, X))
    table, names = open_table(X, sample_weight)
    estimator.n_features_in_ = len(table.frame.origin)
    if names is not None:
        estimator.feature_names_in_ = np.array(names, dtype=object)
    elif hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    return table


def is_read_in_parts(X: Any) -> bool:
    """Whether X is a table that is read in parts, so it need not be in memory."""
    return isinstance(X, Batches) or _is_dask(X) or _is_sliceable(X)


def open_table(X: Any, sample_weight: Any) -> tuple[Table, Any]:
    """Open a table that is read in parts; also return the names of its columns or None."""
    if _is_dask(X):
        require("dask.array", purpose="A dask array as X")
        from skemvae.tables.dask_array import DaskTable

        return DaskTable.of(X, sample_weight), None
    if _is_sliceable(X):
        X = _slices(X, check_weights(sample_weight, X))
    elif sample_weight is not None:
        raise ValueError(
            "sample_weight cannot be given beside batches: name their column of weights, "
            "from_batches(source, sample_weight=name), or make batches of (X, sample_weight)."
        )
    opened: tuple[Table, Any] = X.open()
    return opened


def check_rows(estimator: Any, X: Any, *, numeric: bool, reset: bool, n_min: int = 2) -> Any:
    """Check rows in memory; return an array of finite numbers, or an array or frame of any type.

    Raises
    ------
    TypeError
        If X is no table, or one that is read in parts.
    ValueError
        If a value is not finite, or columns or rows are missing.
    """
    X = as_numpy(X)
    if numeric and _is_plain(X) and len(X) >= n_min:
        validated(estimator, X, skip_check_array=True, reset=reset)
        check_finite(X)
        return X
    check_in_memory(X)
    if numeric:
        with naming_columns(X):
            rows = validated(
                estimator,
                X,
                dtype=[np.float64, np.float32],
                reset=reset,
                ensure_min_samples=n_min,
                ensure_all_finite=False,
            )
        check_finite(rows, names_of(X))
        return rows
    if not hasattr(X, "columns"):
        if not hasattr(X, "dtype"):  # lists keep the types of their values
            X = np.asarray(X, dtype=object)
        X = check_array(X, dtype=None, ensure_all_finite=False)
    validated(estimator, X, skip_check_array=True, reset=reset)
    if X.shape[0] < n_min:
        raise ValueError(
            f"Found array with {X.shape[0]} sample(s) while a minimum of {n_min} is required."
        )
    return X


def validated(estimator: Any, X: Any, **options: Any) -> Any:
    """Call scikit-learn's ``validate_data``, and escape the column names in its errors."""
    try:
        return validate_data(estimator, X, **options)
    except ValueError as error:
        said = str(error)
        if "feature names" not in said:
            raise
        raise ValueError("\n".join(escaped(line) for line in said.split("\n"))) from None


def _is_plain(X: Any) -> bool:
    """Whether X is a plain array of floats; ``check_array`` can take longer than a small fit."""
    if type(X) is not np.ndarray or X.dtype not in _READ_AS_THEY_ARE:
        return False
    return X.ndim == 2 and X.shape[1] > 0


def check_in_memory(X: Any) -> None:
    """Raise TypeError unless X is a table in memory."""
    check_is_table(X)
    if _is_dask(X):
        raise TypeError(
            "X is a dask array: use its chunks, for example X.map_blocks(estimator.score_samples, "
            "drop_axis=1, dtype=float), or give X.compute() if it fits into memory."
        )
    if isinstance(X, Batches):
        raise TypeError("X are batches: give one after the other, `for batch in X: ...`.")
    if hasattr(X, "iter_batches") or (hasattr(X, "to_batches") and not hasattr(X, "__array__")):
        raise TypeError(f"X={X!r} has batches: give skemvae.from_batches(X).")
    if isinstance(X, Iterator) or callable(X):
        raise TypeError(f"X={X!r} is not a table: if it makes batches, see skemvae.from_batches.")


def _is_dask(X: Any) -> bool:
    return hasattr(X, "__dask_graph__")


def _is_sliceable(X: Any) -> bool:
    """Whether X is read in slices, such as a file, rather than an array in memory."""
    if isinstance(X, np.memmap):
        return X.ndim == 2 and X.dtype not in _READ_AS_THEY_ARE
    in_memory = ("__array_interface__", "__dlpack__", "columns")  # arrays, tensors, frames
    return (
        len(getattr(X, "shape", ())) == 2
        and hasattr(X, "__getitem__")
        and not issparse(X)
        and not any(hasattr(X, name) for name in in_memory)
    )


def _slices(X: Any, weight: Any) -> Batches:
    n, d = X.shape
    step = max(1, _SLICE_NUMBERS // max(d, 1))

    def slices() -> Iterator[Any]:
        for start in range(0, n, step):
            where = slice(start, min(start + step, n))
            rows = np.asarray(X[where])
            yield rows if weight is None else (rows, weight[where])

    return from_batches(slices)


def check_extent(table: Table, names: Sequence[Any] | None = None) -> Extent:
    """Return the extent of a table, and check that it has rows and finite values.

    ``names`` are those of its columns, for errors.

    Raises
    ------
    ValueError
        If a value is not finite; the error locates the first. Also if there
        are fewer than 2 rows, or none of positive weight.
    """
    extent = table.fold(Extent.of)
    if extent.not_finite is not None:
        row, column, value = extent.not_finite
        raise not_finite(value, row, column, names)
    if extent.n_rows < 2:
        raise ValueError(
            f"Found array with {extent.n_rows} sample(s) while a minimum of 2 is required."
        )
    if extent.n_counting == 0:
        raise ValueError("sample_weight is zero everywhere: no row is left.")
    return extent
