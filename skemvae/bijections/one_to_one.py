"""Checks that a transformer is one-to-one on training rows and that its Jacobian is correct."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from skemvae.bijections.base import Bijection

# The inverse recovers a row if it moves by less than this share of its distance from the mean plus
# the mean distance. Tables are often rounded as coarsely, and densities tolerate that.
_ROUNDING = 0.05
# Share of rows that may be so extreme that their transforms are rounded to the edge of the image.
_MOST_LOST = 0.1
# Number of rows whose Jacobians are checked, and of values that may be transformed for that.
_MOST_ROWS = 256
_MOST_NUMBERS = 2_000_000
# Nats by which a log determinant may differ from its finite differences: once, and per column.
_TOLERANCE = 0.05
_TOLERANCE_PER_COLUMN = 0.01
# Below this log determinant, rounding may make a map look constant.
_COARSE = -15.0
# Length of the long differences, in units of the spread of a column.
_LONG = 1e-3
# Number of rows, of a large sample, that may lie where the map has an edge.
_ON_EDGES = 2


def check_one_to_one(bijection: Bijection, X: Any, Y: Any) -> None:
    """Raise ValueError unless the map is one-to-one on training rows, with a correct Jacobian.

    Parameters
    ----------
    bijection : Bijection
        With the derivatives of all its functions set.
    X, Y : array-like of shape (n_samples, n_features)
        Rows of the domain, and their transforms.

    Raises
    ------
    ValueError
        Names the transformer and an example.
    """
    if np.shape(Y) != np.shape(X):
        raise ValueError(
            f"{bijection.transformer} turns rows of shape {np.shape(X)} into {np.shape(Y)}, which "
            "has no density: a bijection keeps the numbers of rows and columns."
        )
    for leaf, rows in bijection.stages(X):
        if not leaf.is_proven:
            _check_jacobian(leaf, rows)
    rows = np.asarray(X)
    if rows.dtype.kind == "O":  # labels cannot be subtracted
        return
    if bijection.has_inverse:
        _check_return(bijection, rows.astype(np.float64), np.asarray(Y))
    else:
        _check_distinct(bijection, rows, np.asarray(Y))


def _check_return(bijection: Bijection, X: Any, Y: Any) -> None:
    spread = np.abs(X - X.mean(axis=0)).mean(axis=0)
    again, inside = bijection.inverse(Y)
    error, unit = np.abs(again - X[inside]), spread + np.abs(X[inside] - X.mean(axis=0))
    returns = inside.copy()
    returns[inside] = (error <= _ROUNDING * unit + 1e-9 * np.abs(again)).all(axis=1)
    if returns.sum() < (1 - _MOST_LOST) * len(X):
        raise ValueError(
            f"{bijection.transformer} is not one-to-one in float64: {(~returns).sum()} of "
            f"{len(X)} rows are not recovered by its inverse, such as row {returns.argmin()}. "
            "Scale X before it, in a Pipeline, or choose another transformer."
        )


def _check_distinct(bijection: Bijection, X: Any, Y: Any) -> None:
    _, of_x = np.unique(X, axis=0, return_inverse=True)
    _, of_y = np.unique(Y, axis=0, return_inverse=True)
    of_x, of_y = of_x.reshape(-1), of_y.reshape(-1)
    if of_y.max() + 1 >= (1 - _MOST_LOST) * (of_x.max() + 1):
        return
    first: dict[int, int] = {}
    for i, number in enumerate(of_y.tolist()):
        j = first.setdefault(number, i)
        if of_x[j] != of_x[i]:
            raise ValueError(
                f"{bijection.transformer} is not one-to-one: it turns {of_x.max() + 1} different "
                f"rows into {of_y.max() + 1}; rows {j} and {i}, for instance, become equal. "
                "Choose another transformer."
            )


def _check_jacobian(bijection: Bijection, X: Any) -> None:
    """Compare log determinants with finite differences at some rows."""
    if not X.shape[0]:
        return
    n, d = X.shape
    size = min(_MOST_ROWS, _MOST_NUMBERS // (4 * d * d))
    if size == 0:
        return
    some = np.unique(np.linspace(0, n - 1, size).astype(int))
    rows = _safe_indexing(X, some)
    try:
        (sign, actual), (far_sign, far) = _log_dets(bijection.transformer, rows)
    except (TypeError, ValueError):  # labels, or functions that reject values near the rows
        return
    said = np.asarray(bijection.log_abs_det(rows), dtype=np.float64)
    tolerance = _TOLERANCE + _TOLERANCE_PER_COLUMN * d
    with np.errstate(invalid="ignore"):
        right, right_far = np.abs(actual - said) <= tolerance, np.abs(far - said) <= tolerance
    sign = np.where(right, sign, far_sign)
    constant, coarse = np.isneginf(actual) & ~right_far, said < _COARSE
    wrong = np.isfinite(actual) & ~(right | right_far)
    on_edges = _ON_EDGES if len(some) > 10 * _ON_EDGES else 0
    name = " ".join(str(bijection.transformer).split())
    if (constant & ~coarse).sum() > on_edges:
        i = (constant & ~coarse).argmax()
        raise ValueError(
            f"{name} is not one-to-one: around row {some[i]}, {_shown(rows, i)}, it does not "
            "change in some direction, so different rows become equal. Choose another "
            "transformer."
        )
    if (constant & coarse).sum() > _MOST_LOST * len(some):
        i = (constant & coarse).argmax()
        raise ValueError(
            f"{name} is not one-to-one in float64: around row {some[i]}, {_shown(rows, i)}, and "
            f"{(constant & coarse).sum() - 1} others of {len(some)}, its values are rounded to "
            "the same number. Scale X before it, in a Pipeline, or choose another transformer."
        )
    if wrong.sum() > on_edges:
        i = wrong.argmax()
        raise ValueError(
            f"log_abs_det of {name} is not the logarithm of its Jacobian determinant: at row "
            f"{some[i]}, {_shown(rows, i)}, it is {said[i]:.6g}, but finite differences of the "
            f"transforms give {actual[i]:.6g}."
        )
    rises, falls = (sign > 0) & ~wrong, (sign < 0) & ~wrong
    if min(rises.sum(), falls.sum()) > on_edges:
        i, j = sorted([rises.argmax(), falls.argmax()])
        raise ValueError(
            f"{name} is not one-to-one: its Jacobian determinant changes sign between row "
            f"{some[i]}, {_shown(rows, i)}, and row {some[j]}, {_shown(rows, j)}, so it folds "
            "back and different rows become equal. Choose another transformer."
        )


def _shown(rows: Any, i: int) -> str:
    return f"{np.asarray(_safe_indexing(rows, [i]))[0, :4].tolist()!r:.60}"


def _log_dets(transformer: Any, rows: Any) -> list[tuple[Any, Any]]:
    """Signs and logarithms of Jacobian determinants at rows, by short and by long differences.

    Short differences do not cross edges; long ones survive rounding of the values.
    """
    X = np.asarray(rows, dtype=np.float64)
    m, d = X.shape
    is_single = np.asarray(transformer.transform(rows)).dtype == np.float32
    precision = np.finfo(np.float32 if is_single else np.float64).eps
    spread = np.abs(X - X.mean(axis=0)).mean(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    near = np.where(X == 0, spread, np.minimum(np.abs(X), spread))
    both: list[tuple[Any, Any]] = []
    for unit in (np.cbrt(precision) * near, _LONG * np.broadcast_to(spread, X.shape)):
        steps = unit[:, :, None] * np.eye(d)
        ends = [X[:, None] + steps, X[:, None] - steps]
        lengths = (ends[0] - ends[1]).sum(axis=2)  # as rounded in floating point
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            high, low = (
                np.asarray(transformer.transform(_like(rows, end.reshape(-1, d))), dtype=float)
                for end in ends
            )
            jacobians = (high - low).reshape(m, d, d) / lengths[:, :, None]
            jacobians = np.where(np.isfinite(jacobians), jacobians, np.nan)
            both.append(np.linalg.slogdet(jacobians))
    return both


def _like(rows: Any, values: Any) -> Any:
    """Values as an array or frame of the same type as ``rows``."""
    if hasattr(rows, "iloc"):
        return type(rows)(values, columns=rows.columns)
    if hasattr(rows, "columns"):
        return type(rows)(values, schema=rows.columns)
    return values
