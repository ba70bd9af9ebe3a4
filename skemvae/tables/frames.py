"""Tables that estimators return: arrays, or frames as chosen by ``set_output``."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from sklearn import get_config

from skemvae.optional import require
from skemvae.validation import check_choice


def as_set(estimator: Any, table: Any, features: Any, X: Any = None) -> Any:
    """Put a table into the container that ``set_output`` chose for an estimator.

    Parameters
    ----------
    estimator : estimator
        Its ``set_output``, or else scikit-learn's global configuration,
        chooses the container.
    table : ndarray of shape (n_samples, n_features)
        One column per feature. Of dtype object if it holds labels that are
        not numbers; a frame then gives each column its own type.
    features : estimator
        Fitted; the frame takes its ``feature_names_in_``, or x0, x1, ...
    X : array-like of shape (n_samples, n_features), default=None
        Rows that the table belongs to; a pandas frame takes their index.

    Returns
    -------
    ndarray or frame
        Of shape (n_samples, n_features).

    Raises
    ------
    ImportError
        If the library of the frame is not installed.
    ValueError
        If the chosen library is neither pandas nor polars.
    """
    own = getattr(estimator, "_sklearn_output_config", {})
    library = own.get("transform", get_config()["transform_output"])
    if library == "default":
        return table
    check_choice("set_output(transform)", library, _FRAMES)
    names = getattr(features, "feature_names_in_", [f"x{j}" for j in range(table.shape[1])])
    return _FRAMES[library](table, list(names), X)


def _pandas(table: Any, names: list[str], X: Any) -> Any:
    pd = require("pandas", purpose='set_output(transform="pandas")')
    index = X.index if isinstance(X, pd.DataFrame) else None
    if table.dtype == object:
        table = dict(enumerate(column.tolist() for column in table.T))
    return pd.DataFrame(table, index=index).set_axis(names, axis="columns")


def _polars(table: Any, names: list[str], X: Any) -> Any:
    pl = require("polars", purpose='set_output(transform="polars")')
    if table.dtype != object:
        return pl.DataFrame(table, schema=names, orient="row")
    columns = [_of_one_type(column.tolist()) for column in table.T]
    return pl.DataFrame(
        [
            pl.Series(name, values, dtype=None if is_pure else pl.Object)
            for name, (values, is_pure) in zip(names, columns, strict=True)
        ]
    )


def _of_one_type(values: Sequence[Any]) -> tuple[list[Any], bool]:
    """Values, with mixed numbers turned into floats, and whether all are of one type."""
    kinds = {_kind(value) for value in values}
    if kinds == {Integral, Real}:
        return [float(value) for value in values], True
    return list(values), len(kinds) == 1


def _kind(value: Any) -> type:
    kinds = (kind for kind in (bool, Integral, Real, str) if isinstance(value, kind))
    return next(kinds, type(value))


_FRAMES = {"pandas": _pandas, "polars": _polars}
