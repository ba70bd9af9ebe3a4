"""Power transformations, whose image is a box."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import PowerTransformer

from skemvae.bijections.base import Columnwise, bijection_for
from skemvae.core.arrays import quietly
from skemvae.typing import Array, BoolArray, FloatArray, Tabular


def _log_of_box_cox_inverse(value: Any, exponent: Any) -> Any:
    """log u where (u^exponent - 1) / exponent = value; not finite where there is no such u > 0."""
    product = np.asarray(exponent * value)  # may underflow to 0
    ratio = quietly(lambda: np.log1p(product) / product)
    return value * np.where(product == 0, 1.0, ratio)


@bijection_for(PowerTransformer)
class Power(Columnwise):
    """Box-Cox or Yeo-Johnson for each column, optionally followed by standardisation.

    Yeo-Johnson is Box-Cox of 1 + x with the exponent lambda where x >= 0, and
    minus Box-Cox of 1 - x with the exponent 2 - lambda where x < 0. Values of
    Box-Cox do not reach beyond -1 / lambda.

    Parameters
    ----------
    transformer : PowerTransformer
        Fitted.

    References
    ----------
    Box and Cox (1964), "An analysis of transformations"; Yeo and Johnson
    (2000), "A new family of power transformations to improve normality or
    symmetry".
    """

    is_proven = True

    def __init__(self, transformer: BaseEstimator):
        super().__init__(transformer)
        self._is_box_cox = transformer.method == "box-cox"
        self._lambda = np.asarray(transformer.lambdas_, dtype=np.float64)
        self._shift, self._scale = 0.0, np.ones(len(self._lambda))
        if transformer.standardize:
            # PowerTransformer stores its mean and scale only in a private attribute. Recovering
            # them from its values would lose precision far from 0.
            self._shift, self._scale = transformer._scaler.mean_, transformer._scaler.scale_
        smallest, largest = (0, 0) if self._is_box_cox else (0, 2)
        self.is_onto = bool(((self._lambda >= smallest) & (self._lambda <= largest)).all())
        self.n_parameters = len(self._lambda)

    def log_slopes(self, X: Tabular) -> FloatArray:
        X = np.asarray(X, dtype=np.float64)
        outside = (X <= 0) if self._is_box_cox else np.zeros(X.shape, dtype=bool)
        if self._is_box_cox:
            u, exponent = np.where(outside, 1.0, X), self._lambda
            log_u = np.log(u)
        else:
            log_u, exponent = np.log1p(np.abs(X)), np.where(X < 0, 2 - self._lambda, self._lambda)
        return np.where(outside, -np.inf, (exponent - 1) * log_u - np.log(self._scale))

    def inverse(self, Y: Array) -> tuple[Array, BoolArray]:
        # PowerTransformer's own inverse loses precision where lambda or x is small.
        value = np.asarray(Y, dtype=np.float64) * self._scale + self._shift
        if self._is_box_cox:
            X = quietly(np.exp, _log_of_box_cox_inverse(value, self._lambda))
            inside = np.isfinite(X) & (X > 0)
        else:
            exponent = np.where(value < 0, 2 - self._lambda, self._lambda)
            log_u = _log_of_box_cox_inverse(np.abs(value), exponent)
            X = np.copysign(quietly(np.expm1, log_u), value)
            inside = np.isfinite(X)
        inside = inside.all(axis=1)
        return X[inside], inside
