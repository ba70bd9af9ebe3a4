"""Checks of what users pass; each error gives the parameter, the value and a remedy."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Collection
from numbers import Integral, Real
from typing import Any, TypeVar, cast

import numpy as np
from sklearn import utils
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_array, check_is_fitted

from skemvae.array_api import as_numpy
from skemvae.engine.samples.summary import Extent, Summary

# Limits for X, since distances and covariances hold its squares.
_LARGEST = 1e150
_SMALLEST = 1e-150
LARGEST_SQUARE = _LARGEST**2
# Bytes that a Mersenne twister yields from one state.
_TWISTER = 4 * 624

F = TypeVar("F", bound=Callable[..., None])


def escaped(text: Any, most: int = 100) -> str:
    """Make foreign text safe for a message: escape control characters, and shorten it."""
    text = str(text)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 3]}..."


def shown(value: Any) -> str:
    """The ``repr`` of a foreign value for a message: on one line, escaped and shortened."""
    return escaped(" ".join(repr(value).split()))


def keywords_named(init: F) -> F:
    """Make a constructor's error for too many positional arguments name their keywords."""
    parameters = [*inspect.signature(init).parameters.values()][1:]
    n_by_position = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        if n_by_position < len(args) <= len(parameters):
            named = zip(parameters, args, strict=False)
            written = ", ".join(f"{p.name}={shown(value)}" for p, value in named)
            raise TypeError(
                f"{type(self).__name__} takes {n_by_position} of its parameters by position: write "
                f"{type(self).__name__}({written})."
            )
        init(self, *args, **kwargs)

    return cast(F, checked)


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise ValueError unless the string ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={shown(value)} is not one of {sorted(choices)}.")


def check_random_state(random_state: Any, name: str = "random_state") -> np.random.RandomState:
    """Return a generator for None, an integer or a generator.

    Draws for a ``numpy.random.Generator`` come from its own stream and advance it.

    Raises
    ------
    ValueError
        If it is none of these, or a generator that yields only zeros.
    """
    if isinstance(random_state, np.random.Generator):
        rng = np.random.RandomState(random_state.bit_generator)
    else:
        try:
            rng = utils.check_random_state(random_state)
        except ValueError:
            raise ValueError(
                f"{name}={shown(random_state)} must be None, an int from 0 to 2**32 - 1, or a "
                "Generator or RandomState of numpy.random."
            ) from None
    if not isinstance(random_state, Integral) and gives_zeros_only(rng):
        raise ValueError(
            f"{name} is a {type(random_state).__name__} whose state is zero, so drawing from it "
            "might never end: give an int."
        )
    return rng


def gives_zeros_only(rng: np.random.RandomState) -> bool:
    """Whether a generator yields only zeros, like a Mersenne twister of zeros; it is unchanged."""
    drawn = copy.deepcopy(rng).bytes(2 * _TWISTER)
    return not any(drawn[_TWISTER:])


def check_splits(cv: Any, X: Any, groups: Any = None) -> list[Any]:
    """Return the splits of the rows for a parameter ``cv``, at least one."""
    try:
        splits = [
            (training, held_out) for training, held_out in check_cv(cv).split(X, None, groups)
        ]
    except (TypeError, ValueError) as error:
        if "n_splits" in str(error) or "groups" in str(
            error
        ):  # the splitter's own error is clearer
            raise
        raise type(error)(
            f"cv={shown(cv)} must be an integer, a splitter such as KFold(5), or an iterable of "
            f"(training, held_out): {error}"
        ) from error
    if not splits:
        raise ValueError(f"cv={shown(cv)} holds no splits: give at least one.")
    return splits


def check_positive(name: str, values: Any) -> Any:
    """Return one or several numbers as a float64 array; all must be positive and finite."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or not ((array > 0) & np.isfinite(array)).all():
        raise ValueError(f"{name}={shown(values)} must be positive and finite.")
    return np.asarray(array, dtype=np.float64)


def _is(value: Any, word: str) -> bool:
    """Whether a parameter, which may be an array, equals a word."""
    return isinstance(value, str) and value == word


def check_weights(sample_weight: Any, X: Any) -> Any:
    """Return weights as a float64 array of shape (n,), or None if there are none.

    Raises
    ------
    ValueError
        If they have the wrong shape, hold NaN, inf or negative numbers, or
        are all zero.
    """
    if sample_weight is None:
        return None
    weight = check_each_weight(sample_weight, X)
    if weight.max() == 0:
        raise ValueError("sample_weight is zero everywhere: no row is left.")
    return weight


def check_each_weight(sample_weight: Any, X: Any) -> Any:
    """Return the weights of a part of the rows as a float64 array of shape (n,).

    Raises
    ------
    ValueError
        If they have the wrong shape, or hold NaN, inf or negative numbers.
    """
    n = X.shape[0]
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n, sample_weight)
    sample_weight = as_numpy(sample_weight)
    if np.ma.is_masked(sample_weight):
        raise ValueError("sample_weight has masked values: give each row a weight, or 0.")
    weight = check_array(
        sample_weight,
        ensure_2d=False,
        dtype=np.float64,
        ensure_min_samples=0,
        input_name="sample_weight",
    )
    if weight.shape != (n,):
        raise ValueError(
            f"sample_weight has shape {weight.shape}, but X has {n} rows: expected ({n},)."
        )
    if n and weight.min() < 0:
        where = int(weight.argmin())
        raise ValueError(
            f"sample_weight[{where}]={weight[where]} is negative: weights count rows, "
            "give 0 to leave a row out."
        )
    return weight


def counting_rows(X: Any, sample_weight: Any) -> tuple[Any, Any]:
    """Return the rows of positive weight, at least 2, and their weights or None."""
    weight = check_weights(sample_weight, X)
    if weight is None:
        return X, None
    rows = np.flatnonzero(weight)
    if len(rows) < 2:
        raise ValueError(
            f"sample_weight leaves {len(rows)} row of positive weight: a minimum of 2 is required."
        )
    return (X if len(rows) == len(weight) else utils._safe_indexing(X, rows)), weight[rows]


def check_enough(extent: Extent, n_components: int) -> None:
    """Raise ValueError if there are fewer rows than components."""
    if extent.n_counting < n_components:
        raise ValueError(
            f"Expected n_samples >= n_components but got n_components = {n_components}, "
            f"n_samples = {extent.n_counting} (rows of weight 0 do not count)."
        )


def check_range(summary: Summary) -> None:
    """Raise ValueError if squares of a feature overflow or underflow in float64."""
    too_large = summary.largest > _LARGEST
    too_small = (summary.spread > 0) & (summary.scale < _SMALLEST)
    for j in np.flatnonzero(too_large | too_small):
        raise ValueError(
            f"Feature {j} has values up to {summary.largest[j]:.3g} and a spread of "
            f"{summary.spread[j]:.3g}, whose squares leave the range of float64: change its unit."
        )


def check_parameter_array(
    name: str, value: Any, shape: tuple[int, ...], largest: float = _LARGEST
) -> Any:
    """Return a finite float64 array of the given shape, with no value beyond ``largest``."""
    if value is None:
        raise ValueError(f"{name}=None, expected an array of shape {shape}.")
    value = array = as_numpy(value)
    # check_array can take longer than a small fit.
    if not (type(value) is np.ndarray and value.dtype == np.float64 and np.isfinite(value).all()):
        is_number = isinstance(value, Real)  # check_array wants at least one dimension
        try:
            array = check_array(
                [value] if is_number else value,
                dtype=np.float64,
                ensure_2d=False,
                allow_nd=True,
                ensure_min_samples=0,
                input_name=name,
            )
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{name}={shown(value)} must be an array of numbers of shape {shape}: {error}"
            ) from error
        array = array[0] if is_number else array
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}.")
    if array.size and np.abs(array).max() > largest:
        raise ValueError(f"{name} holds {np.abs(array).max():.3g}, too large: change the unit.")
    return array


def check_mixture_weights(name: str, value: Any, n_components: int) -> Any:
    """Return K non-negative weights that sum to 1."""
    weights = check_parameter_array(name, value, (n_components,))
    if weights.min() < 0 or abs(weights.sum() - 1) > 1e-6:
        raise ValueError(
            f"{name} must be non-negative and sum to 1, but its smallest value is "
            f"{weights.min():.6g} and its sum {weights.sum():.6g}: divide it by its sum."
        )
    return weights / weights.sum()


def check_responsibilities(name: str, value: Any, shape: tuple[int, int], weight: Any) -> Any:
    """Return non-negative (n, K) responsibilities whose rows sum to 1 and that use every column.

    Labels of n rows, integers from 0 to K - 1, assign each row to one component.
    """
    if np.ndim(value) == 1:
        value = _one_hot(name, value, shape)
    array = check_parameter_array(name, value, shape)
    if array.min() < 0 or not np.allclose(array.sum(1), 1, atol=1e-6):
        raise ValueError(f"{name} must hold responsibilities >= 0 whose rows sum to 1.")
    present = array if weight is None else array[weight > 0]
    for k in np.flatnonzero(present.sum(0) == 0):
        raise ValueError(f"{name} gives component {k} no row: it would stay empty.")
    return array


def _one_hot(name: str, labels: Any, shape: tuple[int, int]) -> Any:
    n, n_components = shape
    array = np.asarray(as_numpy(labels))
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has one dimension, as labels do, but holds {array.dtype}, not integers: "
            f"number the labels from 0 to {n_components - 1}."
        )
    if array.shape != (n,):
        raise ValueError(f"{name} holds {len(array)} labels, but X has {n} rows.")
    if n and not 0 <= array.min() <= array.max() < n_components:
        raise ValueError(
            f"{name} holds labels from {array.min()} to {array.max()}: expected 0 to "
            f"{n_components - 1}, one for each of the {n_components} components."
        )
    return np.eye(n_components)[array]


def check_positive_definite(name: str, matrices: Any) -> None:
    """Raise ValueError unless variances are positive, or matrices positive definite.

    ``matrices`` has shape (K, d, d), or (K, d) for diagonals.
    """
    if matrices.ndim == 2:
        if matrices.min() <= 0:
            raise ValueError(f"{name} must be positive, but holds {matrices.min():.6g}.")
        return
    transposed = matrices.transpose(0, 2, 1)
    if (np.abs(matrices - transposed) > 2e-6 * np.abs(matrices).max()).any():
        raise ValueError(f"{name} must be symmetric: average it with its transpose.")
    try:
        np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        raise ValueError(f"{name} must be positive definite, but has eigenvalues <= 0.") from None


def check_columns(estimator: Any, columns: Any) -> Any:
    """Return distinct positions of some columns of a fitted estimator's table."""
    check_is_fitted(estimator)
    return select_columns(
        columns, estimator.n_features_in_, getattr(estimator, "feature_names_in_", [])
    )


def select_columns(
    columns: Any, d: int, names: Any, *, or_none: bool = False, parameter: str = "columns"
) -> Any:
    """Turn positions, a boolean mask, a slice or names into distinct positions.

    ``parameter`` is the name of ``columns`` in errors.

    Raises
    ------
    ValueError
        If a name is unknown, if a position is out of range or given twice, or
        if nothing is selected, unless ``or_none``.
    """
    if isinstance(columns, slice):
        if isinstance(columns.start, str) or isinstance(columns.stop, str):
            columns = _slice_of_names(columns, list(names), parameter)
        positions = np.arange(d)[columns]
    else:
        columns = np.atleast_1d(np.asarray(columns))
        if columns.ndim > 1:
            raise ValueError(f"{parameter} has shape {columns.shape}, expected one dimension.")
        if columns.dtype.kind in "UO":
            names = list(names)
            unknown = [str(name) for name in columns if name not in names]
            if unknown:
                raise ValueError(
                    f"{parameter}={shown(unknown)} are not among the feature names {shown(names)}."
                )
            positions = np.array([names.index(name) for name in columns])
        elif columns.dtype.kind == "b":
            if columns.shape != (d,):
                raise ValueError(
                    f"{parameter} is a mask of shape {columns.shape}, expected ({d},)."
                )
            positions = np.flatnonzero(columns)
        else:
            refused = f"{parameter}={columns.tolist()} are not positions of {d} features."
            if columns.dtype.kind not in "iuf" or not np.isfinite(columns).all():
                raise ValueError(refused)
            positions = np.clip(columns, -d - 1, d).astype(int)
            if (positions != columns).any() or (positions < -d).any() or (positions >= d).any():
                raise ValueError(refused)
            positions = positions % d
    if len(positions) == 0 and not or_none:
        raise ValueError(f"{parameter} selects no feature: give at least one.")
    if len(np.unique(positions)) < len(positions):
        raise ValueError(f"{parameter}={positions.tolist()} names a feature twice.")
    return positions


def _slice_of_names(columns: slice, names: list[str], parameter: str) -> slice:
    """Convert a slice of names, which includes the last one as in pandas, to positions."""
    for name in (columns.start, columns.stop):
        if name is not None and name not in names:
            raise ValueError(
                f"{parameter}={shown(columns)} are not among the feature names {shown(names)}."
            )
    start = None if columns.start is None else names.index(columns.start)
    stop = None if columns.stop is None else names.index(columns.stop) + 1
    return slice(start, stop, columns.step)
