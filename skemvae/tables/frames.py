"""Tables that estimators return: arrays, or the frames that ``set_output`` asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._set_output import _get_container_adapter


def as_set(estimator: Any, table: Any, features: Any, X: Any = None) -> Any:
    """A table of one column for each feature, in the container that an estimator is set to.

    Parameters
    ----------
    estimator : estimator
        Set by ``set_output``, or else by scikit-learn's global configuration.
    table : ndarray of shape (n_samples, n_features)
        Of dtype object if it holds labels that are not numbers: a frame gives
        each column a type of its own.
    features : estimator
        Fitted: the frame has its ``feature_names_in_``, or x0, x1, ...
    X : array-like of shape (n_samples, n_features), default=None
        Rows that the table belongs to: a pandas frame has their index.

    Returns
    -------
    ndarray or frame
        Of shape (n_samples, n_features).

    Raises
    ------
    ImportError
        If the library of the frame is not installed.
    """
    container = _get_container_adapter("transform", estimator)
    if container is None:
        return table
    names = getattr(features, "feature_names_in_", [f"x{j}" for j in range(table.shape[1])])
    if table.dtype == object:
        table = {name: column.tolist() for name, column in zip(names, table.T, strict=True)}
    return container.create_container(table, X, columns=np.asarray(names, dtype=object))
