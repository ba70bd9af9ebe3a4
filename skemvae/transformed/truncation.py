"""A density truncated to the image of a bijection: its mass there, and draws from it."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import numpy as np

from skemvae.base import DensityEstimator
from skemvae.bijections import Bijection

_BLOCK = 2**14
_N_BLOCKS = 8  # for an error of 0.003 nats if half of the mass lies outside


def draw(density: Any, n: int, rng: Any) -> tuple[Any, Any]:
    """Draw rows from a fitted density, whether its ``sample`` takes a seed or not.

    Parameters
    ----------
    density : estimator
        With ``sample``, as in this library or as in scikit-learn.
    n : int
        Number of rows.
    rng : RandomState
        Source of randomness.

    Returns
    -------
    Y : ndarray of shape (n, n_features)
        Rows.
    Z : ndarray of shape (n, ...) or None
        Components or latent points of the rows.
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
        Defines the image.
    density : estimator
        Fitted to transformed rows.

    Returns
    -------
    log_mass : float
        Nats; 0 if the image is all of R^d.
    std : float
        Standard error of ``log_mass``.

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
            f"The image of {bijection.transformer} is only a part of space, and the mass of "
            f"{name} in it is estimated from draws, but {name} has no sample: choose a density "
            "that has one, or a transformer whose image is all of space."
        )
    rng = np.random.RandomState(0)
    n, n_inside = _N_BLOCKS * _BLOCK, 0
    for _ in range(_N_BLOCKS):
        Y, _ = draw(density, _BLOCK, rng)
        n_inside += bijection.inverse(Y)[1].sum()
    if n_inside == 0:
        raise ValueError(
            f"None of {n} draws of {name} lies in the image of {bijection.transformer}: the "
            "density does not fit the transformed rows, or the transformer does not suit them. "
            "Choose another."
        )
    mass = float(n_inside / n)
    return math.log(mass), math.sqrt((1 - mass) / (mass * n))


def draw_within(
    bijection: Bijection, density: Any, n: int, mass: float, rng: Any
) -> tuple[Any, Any]:
    """Draw rows x such that y = T(x) follows a density truncated to the image.

    Parameters
    ----------
    bijection : Bijection
        The map T.
    density : estimator
        Fitted to transformed rows.
    n : int
        Number of rows.
    mass : float
        Approximate share of draws in the image; the others are rejected.
    rng : RandomState
        Source of randomness.

    Returns
    -------
    X : ndarray of shape (n, n_features)
        Rows.
    Z : ndarray of shape (n, ...) or None
        Components or latent points of the rows.

    Raises
    ------
    ValueError
        If far fewer draws fall in the image than expected.
    """
    rows: list[Any] = []
    latents: list[Any] = []
    missing = n
    most = max(n, _BLOCK)  # rows to hold at a time
    for _ in range(10 + math.ceil(10 * n / (mass * most))):
        size = n if bijection.is_onto else min(math.ceil(2 * missing / mass), most)
        Y, Z = draw(density, size, rng)
        X, inside = bijection.inverse(Y)
        # Densities may order their draws, for example by component: keep a random part.
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
