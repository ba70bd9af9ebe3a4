"""A transformer of some columns that keeps the other columns and the order of all."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import has_fit_parameter

from skemvae.bijections.base import bijection_for, bijection_of
from skemvae.bijections.composite import SideBySide
from skemvae.validation import select_columns


class InPlace(TransformerMixin, BaseEstimator):
    """Transform some columns and keep the order of all; frames stay frames.

    By contrast, a ``ColumnTransformer`` with ``remainder="passthrough"`` moves
    the other columns to the end and turns frames into arrays.

    Parameters
    ----------
    transformer : transformer
        One-to-one.
    columns : names, positions, mask, slice or callable
        The columns to transform, as in ``ColumnTransformer``.

    Attributes
    ----------
    transformer_ : transformer
        Fitted to these columns.
    positions_ : ndarray of shape (n_columns,)
        Positions of these columns.
    """

    def __init__(self, transformer: BaseEstimator, columns: Any):
        self.transformer = transformer
        self.columns = columns

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the transformer to its columns.

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,), default=None
            Passed on.
        sample_weight : array-like of shape (n_samples,), default=None
            Passed on, if the transformer takes weights.

        Returns
        -------
        self
            Fitted.
        """
        columns = self.columns(X) if callable(self.columns) else self.columns
        d = X.shape[1]
        self.positions_ = select_columns(columns, d, getattr(X, "columns", range(d)))
        self.n_features_in_ = d
        transformer = clone(self.transformer)
        weights = {}
        if sample_weight is not None and has_fit_parameter(transformer, "sample_weight"):
            weights = {"sample_weight": sample_weight}
        self.transformer_ = transformer.fit(self._part(X), y, **weights)
        return self

    def transform(self, X: Any) -> Any:
        """Transform the columns.

        Parameters
        ----------
        X : array or frame of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        array or frame of shape (n_samples, n_features)
            Of the same type as ``X``, with these columns replaced.
        """
        values = np.asarray(self.transformer_.transform(self._part(X)))
        if not hasattr(X, "columns"):
            replaced = np.array(X, dtype=np.result_type(X, values))
            replaced[:, self.positions_] = values
            return replaced
        if hasattr(X, "iloc"):
            frame = X.copy()
            for i, j in enumerate(self.positions_):
                frame.isetitem(j, values[:, i])
            return frame
        series = [X[X.columns[j]] for j in self.positions_]
        columns = zip(series, values.T, strict=True)
        return X.with_columns([type(old)(old.name, new) for old, new in columns])

    def inverse_transform(self, Y: Any) -> Any:
        """Transform the columns back.

        Parameters
        ----------
        Y : array of shape (n_samples, n_features)
            Transformed rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows.
        """
        Y = np.asarray(Y)
        values = np.asarray(self.transformer_.inverse_transform(Y[:, self.positions_]))
        X = np.array(Y, dtype=np.result_type(Y, values))
        X[:, self.positions_] = values
        return X

    def _part(self, X: Any) -> Any:
        return _safe_indexing(X, self.positions_.tolist(), axis=1)


@bijection_for(InPlace)
def in_place(transformer: Any) -> SideBySide:
    """Return the bijection of a fitted ``InPlace``.

    Parameters
    ----------
    transformer : InPlace
        Fitted.

    Returns
    -------
    SideBySide
        The bijection of the columns, and the identity on all others.
    """
    chosen = transformer.positions_
    others = np.setdiff1d(np.arange(transformer.n_features_in_), chosen)
    parts, places = [bijection_of(transformer.transformer_)], [(chosen, chosen)]
    if len(others):
        parts.append(bijection_of(FunctionTransformer()))
        places.append((others, others))
    return SideBySide(transformer, parts, places)
