"""Type aliases for readable signatures of public functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

if TYPE_CHECKING:  # imported elsewhere on demand
    import matplotlib.axes
    import pandas as pd
    import polars as pl
    import sklearn.callback

    from skemvae.core.table import Table
    from skemvae.likelihoods import Likelihood
    from skemvae.tables.batches import Batches

# Arguments.

#: Numbers of any shape.
ArrayLike: TypeAlias = npt.ArrayLike
#: A table of shape (n_samples, n_features): an array, a frame, a list of rows; batches in a fit.
MatrixLike: TypeAlias = "npt.ArrayLike | Batches"
#: A seed, a generator, or None for different numbers in each call.
RandomState: TypeAlias = int | np.random.Generator | np.random.RandomState | None
#: Positions, names, a mask or a slice.
Columns: TypeAlias = int | str | slice | Sequence[int] | Sequence[str] | npt.NDArray[np.generic]
#: A number of folds, a splitter, or pairs of positions (training, held_out).
Splits: TypeAlias = int | Iterable[tuple[npt.ArrayLike, npt.ArrayLike]] | BaseEstimator | None
#: A name, an object, or pairs of one of these and its columns.
LikelihoodLike: TypeAlias = "str | Likelihood | Sequence[tuple[str | Likelihood, Columns]]"
#: One or several estimators, with or without names.
Estimators: TypeAlias = BaseEstimator | Mapping[str, BaseEstimator] | Sequence[BaseEstimator]
#: Functions from rows to log |det| of each: one, or one per transformation.
LogAbsDet: TypeAlias = Callable[..., npt.ArrayLike] | Mapping[Callable[..., object], object]

# Results.

FloatArray: TypeAlias = npt.NDArray[np.floating]
IntArray: TypeAlias = npt.NDArray[np.integer]
BoolArray: TypeAlias = npt.NDArray[np.bool]
#: Of any dtype: numbers, or objects if labels are not numbers.
Array: TypeAlias = npt.NDArray[Any]
#: An array, or with ``return_std=True`` a pair of it and its standard errors.
Scores: TypeAlias = FloatArray | tuple[FloatArray, FloatArray]
DataFrame: TypeAlias = "pd.DataFrame"
#: A table: an array, or a frame after ``set_output``.
Tabular: TypeAlias = "Array | pd.DataFrame | pl.DataFrame"
#: Data for fitting a model: valid rows, or a table that need not be in memory.
TrainingRows: TypeAlias = "Array | pd.DataFrame | pl.DataFrame | Table"


class StepRecord(TypedDict):
    """What ``BoundMonitor`` logs of a step; ``BoundLog`` describes the fields."""

    task_id_path: tuple[int, ...]
    parent_task_id_path: tuple[int, ...]
    estimator_name: str
    task_name: str
    task_id: int
    bound: float
    score: float | None
    seconds: float


Axes: TypeAlias = "matplotlib.axes.Axes"
CallbackContext: TypeAlias = "sklearn.callback.CallbackContext"  # from scikit-learn 1.9 on
#: Keyword argument of a matplotlib function.
PlotOption: TypeAlias = object
