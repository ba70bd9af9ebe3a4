"""Functions of one number with known derivatives, which users need not supply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.preprocessing import FunctionTransformer


@dataclass(frozen=True)
class Elementary:
    """An increasing function of one number.

    Attributes
    ----------
    func, inverse : callable
        The function and its inverse.
    log_slope : callable
        Logarithm of the derivative.
    domain : tuple of float
        Open interval on which the function is defined.
    is_onto : bool
        Whether its image is the whole real line.
    """

    func: Callable[[Any], Any]
    inverse: Callable[[Any], Any]
    log_slope: Callable[[Any], Any]
    domain: tuple[float, float] = (-np.inf, np.inf)
    is_onto: bool = True

    def log_slopes(self, X: Any) -> Any:
        """Logarithm of the derivative at each value; -inf outside the domain."""
        X = np.asarray(X, dtype=np.float64)
        low, high = self.domain
        inside = (low < X) & (high > X)
        with np.errstate(all="ignore"):
            return np.where(inside, self.log_slope(X), -np.inf)

    def transformer(self) -> FunctionTransformer:
        """The function as a transformer of tables."""
        return FunctionTransformer(
            self.func, self.inverse, check_inverse=False, feature_names_out="one-to-one"
        )


ELEMENTARY = {
    "log": Elementary(np.log, np.exp, lambda x: -np.log(x), (0, np.inf)),
    "log1p": Elementary(np.log1p, np.expm1, lambda x: -np.log1p(x), (-1, np.inf)),
    "sqrt": Elementary(
        np.sqrt, np.square, lambda x: -np.log(4 * x) / 2, (0, np.inf), is_onto=False
    ),
    "arcsinh": Elementary(np.arcsinh, np.sinh, lambda x: -np.log(np.hypot(1, x))),
    "logit": Elementary(logit, expit, lambda x: -np.log(x) - np.log1p(-x), (0, 1)),
}


def elementary_of(func: Any) -> Elementary | None:
    """Look up the elementary function of a callable.

    Parameters
    ----------
    func : callable
        Such as ``np.log``.

    Returns
    -------
    Elementary or None
        None if ``func`` is not one of ``ELEMENTARY``.
    """
    return next((known for known in ELEMENTARY.values() if known.func is func), None)
