"""A density cut off at the image of a bijection: the mass that is left, and draws from it."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import numpy as np

from skemvae.base import DensityEstimator
from skemvae.bijections import Bijection

_BLOCK = 2**14
_N_BLOCKS = 8  # an error of 0.003 nats where half of the mass is lost


def draw(density: Any, n: int, rng: Any) -> tuple[Any, Any]:
    """Draw rows from a fitted density that may or may not take a seed.

    Parameters
    ----------
    density : estimator
        With ``sample``, as in this library or as in scikit-learn.
    n : int
        How many rows.
    rng : RandomState
        Source of randomness.

    Returns
    -------
    Y : ndarray of shape (n, n_features)
        Rows.
    Z : ndarray of shape (n, ...) or None
        What belongs to each, such as its component.
    """
    if isinstance(density, DensityEstimator):
        rows: tuple[Any, Any] = density._draw(n, rng)
        return rows
    if "random_state" in inspect.signature(density.sample).parameters:
        drawn = density.sample(n, random_state=rng)
    else:
        if "random_state" in density.get_params(deep=False):
            density = copy.copy(density).set_params(random_state=rng)
        drawn = density.sample(n)
    Y, Z = drawn if isinstance(drawn, tuple) else (drawn, None)
    return np.asarray(Y), Z


def log_mass_within(bijection: Bijection, density: Any) -> tuple[float, float]:
    """Estimate the log of the mass that a density has in the image, from draws.

    Parameters
    ----------
    bijection : Bijection
        Whose image it is.
    density : estimator
        Fitted, of transformed rows.

    Returns
    -------
    log_mass : float
        Nats; 0 if the image is all of space.
    std : float
        Its standard error.

    Raises
    ------
    ValueError
        If the density has no ``sample``, or no mass in the image.
    """
    if bijection.is_onto:
        return 0.0, 0.0
    name = type(density).__name__
    if not hasattr(density, "sample"):
        raise ValueError(
            f"The image of {bijection.transformer} is a part of space, and how much mass of "
            f"{name} lies in it is estimated from draws, but {name} has no sample: choose a "
            "density that has, or a transformer that reaches all of space."
        )
    rng = np.random.RandomState(0)
    n, n_inside = _N_BLOCKS * _BLOCK, 0
    for _ in range(_N_BLOCKS):
        Y, _ = draw(density, _BLOCK, rng)
        n_inside += bijection.inverse(Y)[1].sum()
    if n_inside == 0:
        raise ValueError(
            f"None of {n} draws of {name} lies in the image of {bijection.transformer}: the "
            "density does not follow the transformed rows, or the transformer does not suit them."
        )
    mass = float(n_inside / n)
    return math.log(mass), math.sqrt((1 - mass) / (mass * n))


def draw_within(
    bijection: Bijection, density: Any, n: int, mass: float, rng: Any
) -> tuple[Any, Any]:
    """Draw rows x whose y = T(x) is distributed as a density within the image.

    Parameters
    ----------
    bijection : Bijection
        The map T.
    density : estimator
        Fitted, of transformed rows.
    n : int
        How many rows.
    mass : float
        The share of draws within the image, about; the others are rejected.
    rng : RandomState
        Source of randomness.

    Returns
    -------
    X : ndarray of shape (n, n_features)
        Rows.
    Z : ndarray of shape (n, ...) or None
        What belongs to each, such as its component.

    Raises
    ------
    ValueError
        If draws keep outside of the image.
    """
    rows: list[Any] = []
    latents: list[Any] = []
    missing = n
    most = max(n, _BLOCK)  # rows that are held at a time
    for _ in range(10 + math.ceil(10 * n / (mass * most))):
        size = n if bijection.is_onto else min(math.ceil(2 * missing / mass), most)
        Y, Z = draw(density, size, rng)
        X, inside = bijection.inverse(Y)
        # Densities may return draws in some order, such as by component: a part must be random.
        kept = slice(None) if len(X) == missing else rng.permutation(len(X))[:missing]
        rows.append(X[kept])
        latents.append(None if Z is None else Z[inside][kept])
        missing -= len(rows[-1])
        if missing == 0:
            return np.concatenate(rows), None if Z is None else np.concatenate(latents)
    raise ValueError(
        f"Only {n - missing} of {n} samples lie in the image of {bijection.transformer}, where "
        f"{mass:.3g} of all draws were expected: {type(density).__name__}.sample does not follow "
        "its own density, or repeats its draws."
    )
