"""The interface of a bijection, and the registry of bijections by transformer."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing

from skemvae.typing import Array, BoolArray, FloatArray, IntArray, Tabular


class Bijection(ABC):
    """A fitted transformer T as a one-to-one map from rows x to rows y = T(x).

    Its domain, where it is defined, and its image may each be only a part of
    R^d.

    Parameters
    ----------
    transformer : transformer
        Fitted, with ``transform`` and ``inverse_transform``.

    Attributes
    ----------
    is_onto : bool
        Whether the image is known to be all of R^d.
    has_inverse : bool
        Whether ``inverse`` can be called.
    acts_by_column : bool
        Whether each column of y depends on a single column of x, so that
        ``by_columns`` can be called.
    is_proven : bool
        Whether ``log_abs_det`` is known to be correct, so that ``fit`` need not
        compare it with finite differences.
    n_parameters : int
        Number of fitted parameters, apart from shifts and scales, which the
        density could make up for.
    parts : sequence of Bijection
        The bijections that this one consists of.
    """

    is_onto: bool = True
    has_inverse: bool = True
    acts_by_column: bool = False
    is_proven: bool = False
    n_parameters: int = 0
    parts: Sequence[Bijection] = ()

    def __init__(self, transformer: BaseEstimator):
        self.transformer = transformer

    @abstractmethod
    def log_abs_det(self, X: Tabular) -> FloatArray:
        """``log |det dT/dx|`` at each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units before the transformation.

        Returns
        -------
        ndarray of shape (n_samples,)
            Nats; -inf for rows outside the domain, where the density is zero.
        """

    def forward(self, X: Tabular) -> tuple[Tabular, FloatArray]:
        """Transform rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units before the transformation.

        Returns
        -------
        Y : array-like of shape (n_inside, n_features)
            T(x) of the rows in the domain.
        log_abs_det : ndarray of shape (n_samples,)
            As the method ``log_abs_det`` returns it; -inf for all other rows.
        """
        log_abs_det = self.log_abs_det(X)
        X = rows_where(X, log_abs_det != -np.inf)
        return (self.transformer.transform(X) if X.shape[0] else X), log_abs_det

    def inverse(self, Y: Array) -> tuple[Array, BoolArray]:
        """Transform rows back.

        Parameters
        ----------
        Y : ndarray of shape (n_samples, n_features)
            Rows in the units after the transformation.

        Returns
        -------
        X : ndarray of shape (n_inside, n_features)
            The x with T(x) = y, for the rows in the image.
        inside : ndarray of shape (n_samples,)
            Whether each row lies in the image.
        """
        return np.asarray(self.transformer.inverse_transform(Y)), np.ones(len(Y), dtype=bool)

    def by_columns(self, X: Tabular) -> tuple[IntArray, FloatArray]:
        """The place of each column in y, and the logarithm of its derivative.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units before the transformation.

        Returns
        -------
        places : ndarray of shape (n_features,)
            ``y[places[j]]`` depends on ``x[j]`` only.
        log_slopes : ndarray of shape (n_samples, n_features)
            ``log |dy/dx|`` of these two, nats; -inf for values outside the
            domain. Each row adds up to ``log_abs_det``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not act on each column alone")

    def stages(self, X: Tabular) -> Iterator[tuple[Bijection, Tabular]]:
        """Yield the bijections without parts within this one, with the rows that reach each.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units before the transformation.

        Yields
        ------
        Bijection, array-like
            This bijection and X, if it has no parts.
        """
        yield self, X

    def leaves(self) -> Iterator[Bijection]:
        """Yield the bijections without parts within this one.

        Yields
        ------
        Bijection
            This bijection, if it has no parts.
        """
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()


class Columnwise(Bijection):
    """A bijection that acts on each column separately and keeps their order."""

    acts_by_column = True

    @abstractmethod
    def log_slopes(self, X: Tabular) -> FloatArray:
        """``log |dT_j/dx_j|`` of each value.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units before the transformation.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Nats; -inf for values outside the domain.
        """

    def log_abs_det(self, X: Tabular) -> FloatArray:
        return self.log_slopes(X).sum(axis=1)

    def by_columns(self, X: Tabular) -> tuple[IntArray, FloatArray]:
        return np.arange(X.shape[1]), self.log_slopes(X)


def rows_where(X: Tabular, inside: BoolArray) -> Tabular:
    """Select the rows of an array or frame for which a mask is True.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows.
    inside : ndarray of shape (n_samples,)
        Booleans.

    Returns
    -------
    array-like of shape (n_inside, n_features)
        ``X`` itself, if the mask is True everywhere.
    """
    return X if inside.all() else _safe_indexing(X, np.flatnonzero(inside))


Make = TypeVar("Make", bound=Callable[[Any], Bijection])

_BIJECTIONS: dict[type, Callable[[Any], Bijection]] = {}

# Why the best-known unsupported transformers have no density. Names instead of classes save
# imports.
_REASONS = {
    "OneHotEncoder": "labels become corners of a cube, which have no volume",
    "OrdinalEncoder": "labels become single points, which have no volume",
    "TargetEncoder": "labels become single points, which have no volume",
    "KBinsDiscretizer": "all rows of a bin become equal",
    "Binarizer": "all values on one side of the threshold become equal",
    "QuantileTransformer": "it clips beyond the training rows and jumps at ties",
    "Normalizer": "it puts all rows on a sphere, which has no volume",
    "PolynomialFeatures": "it puts rows on a surface in a larger space, which has no volume",
    "SplineTransformer": "it puts rows on a surface in a larger space, which has no volume",
    "FeatureUnion": "it puts rows on a surface in a larger space, which has no volume",
    "SimpleImputer": "it moves rows with missing values onto others",
    "KNNImputer": "it moves rows with missing values onto others",
    "TruncatedSVD": "rows that differ only in what it drops become equal",
    "NMF": "rows that differ only in what it drops become equal",
}


def bijection_for(*kinds: type) -> Callable[[Make], Make]:
    """Register a bijection for one or more classes of transformers.

    Parameters
    ----------
    *kinds : type
        Classes of transformers.

    Returns
    -------
    callable
        Decorator of a class or function that makes the ``Bijection`` of a
        fitted transformer.
    """

    def enter(make: Make) -> Make:
        _BIJECTIONS.update(dict.fromkeys(kinds, make))
        return make

    return enter


def bijection_of(transformer: BaseEstimator) -> Bijection:
    """Return the bijection of a fitted transformer.

    Parameters
    ----------
    transformer : transformer
        Fitted. A subclass of a registered class is accepted if it inherits
        ``transform`` and ``inverse_transform`` unchanged.

    Returns
    -------
    Bijection
        With its parts, for Pipelines and ColumnTransformers.

    Raises
    ------
    ValueError
        If the transformer, or a part of it, is not one-to-one or has no
        registered bijection.
    """
    return check_known(transformer)(transformer)


def check_known(transformer: Any) -> Callable[[Any], Bijection]:
    """Raise ValueError unless a bijection is registered for this class of transformer.

    Parameters
    ----------
    transformer : transformer
        Fitted or not.

    Returns
    -------
    callable
        Makes the bijection of the fitted transformer.
    """
    kind = type(transformer)
    for known in kind.__mro__:
        if known in _BIJECTIONS and _maps_as(kind, known):
            return _BIJECTIONS[known]
    names = sorted({known.__name__ for known in _BIJECTIONS})
    raise ValueError(
        f"{kind.__name__} has no density: {_reason(transformer)}. Use one of {names}, register a "
        "bijection for it with skemvae.bijections.bijection_for, or transform X beforehand; "
        "scores are then in the units of the transformed table."
    )


def _maps_as(kind: type, known: type) -> bool:
    return all(
        inspect.getattr_static(kind, name, None) is inspect.getattr_static(known, name, None)
        for name in ("transform", "inverse_transform")
    )


def _reason(transformer: Any) -> str:
    kind = type(transformer)
    reason = _REASONS.get(kind.__name__)
    if reason is not None:
        return reason
    if hasattr(kind, "get_support"):
        return "rows that differ only in what it drops become equal"
    for known in kind.__mro__:
        if known in _BIJECTIONS:
            return f"it changes what {known.__name__} does, and how it changes volumes is not known"
    return "how it changes volumes is not known"
