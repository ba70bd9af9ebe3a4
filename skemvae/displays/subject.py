"""The estimator to display, found inside searches, Pipelines and meta-estimators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.validation import check_is_fitted

from skemvae.array_api import as_numpy
from skemvae.tables.numbers import check_finite, check_is_table, naming_columns
from skemvae.validation import select_columns


@dataclass(frozen=True)
class Subject:
    """A fitted estimator, with rows as it sees them.

    Attributes
    ----------
    estimator : estimator
    X : array or frame of shape (n_samples, n_features), or None
    feature_names : list of str
        Empty if the estimator does not know its number of features.
    """

    estimator: Any
    X: Any
    feature_names: list[str]

    def positions(self, features: Any) -> Any:
        """Positions of features given by position or name."""
        names = self.feature_names
        return select_columns(features, len(names), names, parameter="features")

    def columns(self, positions: Any) -> Any:
        """These columns of the rows as numbers, shape (n_samples, len(positions))."""
        return numbers(self.X, positions, self.feature_names)


def look_into(
    estimator: Any, attributes: tuple[str, ...], X: Any = None, feature_names: Any = None
) -> Subject:
    """Find the inner estimator that has what a display needs, and transform the rows for it.

    A search stands for its best estimator, a Pipeline for its last step on
    transformed rows, a meta-estimator for the estimator that it has fitted.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    attributes : tuple of str
        Attributes that the display can use. The first one that an estimator
        inside has decides.
    X : array-like of shape (n_samples, n_features), default=None
        Rows as ``estimator`` sees them.
    feature_names : array-like of str, default=None
        Names of the columns that the inner estimator sees. None means those of
        its training table, or x0, x1 and so on.

    Returns
    -------
    Subject
        The inner estimator, and rows as it sees them.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If no estimator inside has any of the attributes.
    """
    if X is not None:
        check_is_table(X)
        X = as_numpy(X)
    for attribute in attributes:
        for inner, rows, names in _levels(estimator, X):
            if hasattr(inner, attribute):
                if rows is not None and not hasattr(rows, "shape"):
                    rows = np.asarray(rows)
                _check_width(inner, rows)
                return Subject(inner, rows, _names(inner, rows, names, feature_names))
    raise TypeError(
        f"Neither {type(estimator).__name__} nor an estimator inside it has "
        f"{' or '.join(attributes)}, which this display needs."
    )


def _check_width(estimator: Any, rows: Any) -> None:
    """Raise ValueError unless rows have the features that an estimator was fitted to."""
    d = getattr(estimator, "n_features_in_", None)
    if rows is not None and d is not None and (len(rows.shape) != 2 or rows.shape[1] != d):
        raise ValueError(
            f"X has shape {rows.shape}, but {type(estimator).__name__} was fitted to {d} features."
        )


def _levels(estimator: Any, X: Any) -> Iterator[tuple[Any, Any, list[str] | None]]:
    """From the outside in: estimators, rows as they see them, and names of transformed columns."""
    names = None
    while True:
        check_is_fitted(estimator)
        before = None
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            before = estimator[:-1] if len(estimator) > 1 else None
            estimator = estimator[-1]
        else:
            yield estimator, X, names
            if not hasattr(estimator, "estimator_"):
                return
            before = getattr(estimator, "transformer_", None)
            estimator = estimator.estimator_
        if before is not None:
            X = None if X is None else before.transform(X)
            names = _names_after(before)


def named(estimators: Any) -> dict[str, Any]:
    """Estimators by name, from one estimator, a list of them, or a mapping from names."""
    if isinstance(estimators, Mapping):
        by_name = {str(name): estimator for name, estimator in estimators.items()}
    elif isinstance(estimators, list | tuple):
        kinds = [_kind(estimator) for estimator in estimators]
        numbered = len(set(kinds)) < len(kinds)
        by_name = {
            f"{kind} {i}" if numbered else kind: estimator
            for i, (kind, estimator) in enumerate(zip(kinds, estimators, strict=True))
        }
    else:
        by_name = {_kind(estimators): estimators}
    if not by_name:
        raise ValueError(f"estimator={estimators!r} holds no estimator: give at least one.")
    return by_name


def numbers(X: Any, positions: Any, names: Any) -> Any:
    """Columns of a table as float64, shape (n_samples, len(positions))."""
    check_is_table(X)
    columns = _safe_indexing(as_numpy(X), [int(j) for j in positions], axis=1)
    chosen = [names[j] for j in positions]
    try:
        with naming_columns(columns):
            values = check_array(columns, dtype=np.float64, ensure_all_finite=False)
        check_finite(values, chosen)
        return values
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"features={chosen} cannot be drawn as numbers ({error}): choose others."
        ) from error


def _kind(estimator: Any) -> str:
    """Class name of the innermost estimator."""
    *_, (inmost, _, _) = _levels(estimator, None)
    return type(inmost).__name__


def _names_after(transformer: Any) -> list[str] | None:
    """Names of the columns of a transformer's output, marked as transformed."""
    try:
        return [f"{name}, transformed" for name in transformer.get_feature_names_out()]
    except (AttributeError, ValueError):  # a transformer without names
        return None


def _names(estimator: Any, X: Any, after: list[str] | None, given: Any) -> list[str]:
    """Names of the columns that an estimator sees: given ones, a transformer's, or its own."""
    d = getattr(estimator, "n_features_in_", None if X is None else X.shape[1])
    if given is not None:
        names = [str(name) for name in given]
        if d is not None and len(names) != d:
            raise ValueError(f"feature_names holds {len(names)} names, expected {d}.")
        return names
    if d is None:
        return []
    if after is not None and len(after) == d:
        return after
    return [str(name) for name in getattr(estimator, "feature_names_in_", _numbered(d))]


def _numbered(d: int) -> list[str]:
    """Names that scikit-learn gives to columns without names."""
    return [f"x{j}" for j in range(d)]
