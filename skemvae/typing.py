"""Names for what public functions take and return, for signatures that read well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

if TYPE_CHECKING:
    from skemvae.likelihoods import Likelihood
    from skemvae.tables.batches import Batches

# Taken.

#: Numbers of any shape.
ArrayLike: TypeAlias = npt.ArrayLike
#: A table of shape (n_samples, n_features): an array, a frame, a list of rows; batches in a fit.
MatrixLike: TypeAlias = "npt.ArrayLike | Batches"
#: A seed, a generator, or None for other numbers in each call.
RandomState: TypeAlias = int | np.random.RandomState | None
#: Positions, names, a mask or a slice.
Columns: TypeAlias = int | str | slice | Sequence[int] | Sequence[str] | npt.NDArray[np.generic]
#: A number of folds, a splitter, or pairs of positions (training, held_out).
Splits: TypeAlias = int | Iterable[tuple[npt.ArrayLike, npt.ArrayLike]] | BaseEstimator | None
#: A name, an object, or one of these for some columns each.
LikelihoodLike: TypeAlias = "str | Likelihood | Sequence[tuple[str | Likelihood, Columns]]"
#: One estimator, or several of them, with names or without.
Estimators: TypeAlias = BaseEstimator | Mapping[str, BaseEstimator] | Sequence[BaseEstimator]
#: From rows to log |det| of each; one for all functions, or one for each.
LogAbsDet: TypeAlias = Callable[..., npt.ArrayLike] | Mapping[Callable[..., object], object]

# Returned.

FloatArray: TypeAlias = npt.NDArray[np.floating]
IntArray: TypeAlias = npt.NDArray[np.integer]
#: Of numbers; of objects, where labels are not numbers.
Array: TypeAlias = npt.NDArray[Any]
#: An array, and with ``return_std=True`` a pair of it and its errors; a type checker cannot tell.
Scores: TypeAlias = Any
#: A table: an array, or a frame after ``set_output``; a type checker cannot tell.
Tabular: TypeAlias = Any
#: What a callback knows of a step, by name.
StepRecord: TypeAlias = dict[str, Any]

# Of packages that are imported when they are needed, or have no types.

Axes: TypeAlias = Any
DataFrame: TypeAlias = Any
CallbackContext: TypeAlias = Any
PlotOption: TypeAlias = Any
