"""Functions that users supply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import FunctionTransformer

from skemvae.bijections.base import Bijection, bijection_for
from skemvae.bijections.elementary import ELEMENTARY, Elementary, elementary_of
from skemvae.core.arrays import quietly
from skemvae.typing import Array, BoolArray, FloatArray, IntArray, Tabular

# Largest distance between T(x) and y, relative to the scale of a column, at which x counts as
# the inverse of y.
_TOLERANCE = 1e-6


@bijection_for(FunctionTransformer)
class Function(Bijection):
    """A FunctionTransformer; for most functions the user must supply the log determinant.

    Parameters
    ----------
    transformer : FunctionTransformer
        Fitted.

    Attributes
    ----------
    derivative : callable or None
        Maps rows of shape (n, d) to ``log |det|`` of shape (n,). ``differentiate`` sets it
        if the user supplies one.
    """

    def __init__(self, transformer: BaseEstimator):
        super().__init__(transformer)
        self.derivative: Callable[[Any], Any] | None = None
        self.is_identity = transformer.func is None
        self.is_proven = self.acts_by_column = self.is_identity or self.elementary is not None
        self.has_inverse = self.is_identity or transformer.inverse_func is not None
        # Only an inverse reveals the image; without one we assume all of R^d.
        self.is_onto = self.is_identity or not self.has_inverse
        if self.elementary is not None and transformer.inverse_func is self.elementary.inverse:
            self.is_onto = self.elementary.is_onto

    @property
    def elementary(self) -> Elementary | None:
        """The elementary function that this is, or None."""
        return elementary_of(self.transformer.func)

    def by_columns(self, X: Tabular) -> tuple[IntArray, FloatArray]:
        places = np.arange(X.shape[1])
        if self.is_identity:
            return places, np.zeros(X.shape)
        if self.derivative is not None and X.shape[1] == 1:
            return places, self.log_abs_det(X)[:, None]
        assert self.elementary is not None
        return places, self.elementary.log_slopes(X)

    def log_abs_det(self, X: Tabular) -> FloatArray:
        n = X.shape[0]
        if self.derivative is None:
            return self.by_columns(X)[1].sum(axis=1)
        log_abs_det = np.asarray(self.derivative(X), dtype=np.float64)
        if log_abs_det.shape != (n,):
            raise ValueError(
                f"log_abs_det returned shape {log_abs_det.shape}, expected ({n},): one number per "
                "row, the sum over its columns."
            )
        if np.isnan(log_abs_det).any():
            raise ValueError(
                f"log_abs_det is NaN at row {int(np.isnan(log_abs_det).argmax())}: return -inf "
                "where the function is not defined."
            )
        return log_abs_det

    def inverse(self, Y: Array) -> tuple[Array, BoolArray]:
        if self.is_identity:
            return np.asarray(Y), np.ones(len(Y), dtype=bool)
        if not self.has_inverse:
            raise ValueError(
                f"{self.transformer} cannot be inverted: give it an inverse_func, which is needed "
                "for samples and for the mass in the image of other transformers."
            )
        return quietly(self._inverse, np.asarray(Y, dtype=np.float64))

    def _inverse(self, Y: Any) -> tuple[Any, Any]:
        X = np.asarray(self.transformer.inverse_transform(Y))
        inside = np.isfinite(X).all(axis=1)
        X, Y = X[inside], Y[inside]
        again = np.asarray(self.transformer.transform(X)) if len(X) else Y
        unit = np.median(np.abs(Y), axis=0) if len(Y) else 1.0
        # For example, -2 squared is 4, but the root of 4 is not -2.
        is_inverse = (np.abs(again - Y) <= _TOLERANCE * (np.abs(Y) + unit)).all(axis=1)
        inside[inside] = is_inverse
        return X[is_inverse], inside


def differentiate(bijection: Bijection, log_abs_det: Any) -> None:
    """Set the ``log |det|`` of each FunctionTransformer within a bijection.

    Parameters
    ----------
    bijection : Bijection
        Changed in place.
    log_abs_det : callable, mapping from functions to callables, or None
        The keys of a mapping are the ``func`` of the transformers.

    Raises
    ------
    ValueError
        If a function has neither a given nor a known derivative.
    """
    functions = [
        leaf for leaf in bijection.leaves() if isinstance(leaf, Function) and not leaf.is_identity
    ]
    if log_abs_det is None:
        functions = [leaf for leaf in functions if leaf.elementary is None]
    if not isinstance(log_abs_det, Mapping):
        different = {leaf.transformer.func for leaf in functions}
        if log_abs_det is not None and len(different) > 1:
            raise ValueError(
                f"log_abs_det={log_abs_det!r} is one callable for {len(different)} functions: "
                "give a dict with one callable for each func."
            )
        log_abs_det = dict.fromkeys(different, log_abs_det)
    for leaf in functions:
        leaf.derivative = log_abs_det.get(leaf.transformer.func)
        if leaf.derivative is None and leaf.elementary is not None:
            continue
        leaf.is_proven = False
        is_alone = getattr(leaf.transformer, "n_features_in_", None) == 1
        leaf.acts_by_column = leaf.acts_by_column or is_alone
        if not callable(leaf.derivative):
            raise ValueError(
                f"{leaf.transformer} has no density without its derivative: give log_abs_det, a "
                "callable from rows to log |det| of shape (n,), such as "
                "lambda X: -np.log(X).sum(axis=1) for np.log, or choose one of the known "
                f"functions: {sorted(ELEMENTARY)}."
            )
