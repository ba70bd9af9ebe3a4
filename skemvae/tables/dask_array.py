"""dask arrays: functions travel to the chunks, which stay on their workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import cloudpickle
import dask
import dask.array
import numpy as np
from sklearn.utils.validation import check_array

from skemvae.core.rows import Frame, Rows
from skemvae.core.table import T
from skemvae.tables.numbers import naming_columns
from skemvae.validation import check_each_weight

# Number of sums that one task adds.
_FAN_IN = 8


@dataclass(frozen=True)
class DaskTable:
    """A table whose parts are the chunks of a dask array.

    Attributes
    ----------
    chunks : list of (Delayed, Delayed or None)
        Rows and weights.
    frame : Frame
    weight_unit : float
        Divisor of the weights.
    """

    chunks: list[tuple[Any, Any]]
    frame: Frame
    weight_unit: float = 1.0

    @classmethod
    def of(cls, X: Any, sample_weight: Any) -> DaskTable:
        """Make a table of a dask array, in its own units.

        Raises
        ------
        ValueError
            If X does not have two dimensions, if its chunks hold only some of
            the columns, or if the weights do not match its rows or chunks.
        """
        if hasattr(X, "to_dask_array"):
            raise TypeError("X is a dask DataFrame: give X.to_dask_array(lengths=True).")
        if X.ndim != 2:
            raise ValueError(f"Expected 2D array, got a dask array of shape {X.shape} instead.")
        if np.isnan(X.shape[1]):
            raise ValueError("X is a dask array with an unknown number of columns: rechunk it.")
        if X.dtype.kind in "mMSU":
            raise TypeError(
                f"X is a dask array of {X.dtype}, but only numbers have a density: leave such "
                "columns out, or make numbers of them."
            )
        if X.numblocks[1] > 1:
            raise ValueError(
                f"X is chunked by columns, {X.chunks[1]}, but each chunk must hold whole rows: "
                "give X.rechunk({1: -1})."
            )
        rows = X.to_delayed().ravel()
        weights = [None] * len(rows)
        if sample_weight is not None:
            weights = _weights_like(X, sample_weight).to_delayed().ravel()
        return cls(list(zip(rows, weights, strict=True)), Frame.identity(X.shape[1]))

    def framed(self, frame: Frame, weight_unit: float = 1.0) -> DaskTable:
        """The same table in another frame, its weights divided by ``weight_unit``."""
        return replace(self, frame=frame, weight_unit=self.weight_unit * weight_unit)

    def fold(self, function: Callable[[Rows], T]) -> T:
        """Apply ``function`` to each chunk on its worker; add the results in a fixed order."""
        # One graph node for the function, so that its parameters travel once to each worker.
        of_chunk = dask.delayed(
            _OfChunk(function, self.frame, self.weight_unit), pure=False, traverse=False
        )
        sums = [of_chunk(X, weight) for X, weight in self.chunks]
        add_up = dask.delayed(_sum, pure=False)
        while len(sums) > 1:
            sums = [add_up(sums[i : i + _FAN_IN]) for i in range(0, len(sums), _FAN_IN)]
        (total,) = dask.compute(sums[0])
        if total is None:
            raise ValueError("X has no rows: its chunks are empty.")
        result: T = total
        return result


@dataclass(frozen=True)
class _OfChunk:
    """A function of rows as a function of chunks; returns None for a chunk without rows."""

    function: Callable[[Rows], Any]
    frame: Frame
    weight_unit: float

    def __call__(self, X: Any, weight: Any) -> Any:
        with naming_columns(X):
            X = check_array(
                X, dtype=[np.float64, np.float32], ensure_all_finite=False, ensure_min_samples=0
            )
        if not len(X):
            return None
        weight = None if weight is None else _aligned(check_each_weight(weight, X))
        rows = Rows(_aligned(X), weight, self.frame)
        return self.function(rows.framed(self.frame, self.weight_unit))

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle in one piece: arrays sent separately may arrive at unaligned addresses.
        return _unpacked, (cloudpickle.dumps((self.function, self.frame, self.weight_unit)),)


def _unpacked(data: bytes) -> _OfChunk:
    return _OfChunk(*cloudpickle.loads(data))


def _aligned(array: Any) -> Any:
    """Align an array in memory; after a transfer it may be unaligned."""
    return np.require(array, requirements=["ALIGNED"])


def _sum(values: list[Any]) -> Any:
    present = [value for value in values if value is not None]
    return reduce(add, present) if present else None


def _weights_like(X: Any, sample_weight: Any) -> Any:
    """Chunk the weights like the rows."""
    if isinstance(sample_weight, dask.array.Array):
        weight = sample_weight
    else:
        weight = dask.array.from_array(np.asarray(sample_weight, dtype=np.float64), chunks=-1)
    unknown = np.isnan(X.shape[0]) or np.isnan(weight.shape).any()
    expected = X.numblocks[:1] if unknown else X.shape[:1]
    found = weight.numblocks if unknown else weight.shape
    if found != expected:
        what = "chunks" if unknown else "shape"
        raise ValueError(
            f"sample_weight has {what} {found}, but X needs {expected}: give one weight for each "
            "row, and X.compute_chunk_sizes() if its lengths are unknown."
        )
    return weight if unknown else weight.rechunk(X.chunks[:1])
