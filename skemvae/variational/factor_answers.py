"""Posteriors and scores from a fitted factor model: NumPy in and out, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skemvae.likelihoods.columns import Table
from skemvae.likelihoods.continuous import Gaussian
from skemvae.posteriors.expectations import Points
from skemvae.posteriors.gaussians import FullGaussian, StandardNormal
from skemvae.posteriors.importance import (
    Nodes,
    estimate_log_conditionals,
    log_evidence,
    log_weights,
    matched_noise,
    mean_over_sets,
)
from skemvae.variational.blocks import Blocks
from skemvae.variational.factor_bound import LogJoint
from skemvae.variational.factor_parameters import Factors, all_normal

# Rows whose codes are in memory at a time.
_CHUNK_ROWS = 2**14
# Steps that take q from the prior to its optimum.
_STEPS = 100


class FactorInference:
    """Fits a q to each row of X and computes posteriors and scores from it.

    Parameters
    ----------
    factors : Factors
    table : Table
    X : array or frame
    n_samples : int
        Number of points for the estimates of each row.
    points : Points
        The points of the fit, used to find q.
    seed : int
        Of the points for the estimates, which are independent of ``points``.
    """

    def __init__(
        self, factors: Factors, table: Table, X: Any, n_samples: int, points: Points, seed: int
    ):
        self._factors = factors
        self._table = table
        self._X = X
        self._dtype = np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64
        self._points = points
        like = torch.empty(0, dtype=torch.float64)
        self._nodes = Nodes.of(n_samples, factors.n_factors, seed, like)
        matched = matched_noise(max(n_samples, 16), factors.n_factors, seed)
        self._elbo_points = Points.equal(torch.from_numpy(matched)[None])

    def posterior_mean(self) -> Any:
        """E_q[z], shape (n, k)."""
        return self._each(lambda u, q: q.mean, 1)

    def posterior_covariance(self) -> Any:
        """The covariance of q, shape (n, k, k)."""
        return self._each(lambda u, q: q.covariance, 1)

    def kl_to_prior(self) -> Any:
        """KL(q || N(0, I)), shape (n,), in nats."""
        return self._each(lambda u, q: q.kl_to_standard(), 1)

    def elbo(self) -> tuple[Any, Any]:
        """The bound of each row and its standard error, (n,) each, in nats, in the units of X."""
        return self._densities(self._elbo)

    def log_density(self) -> tuple[Any, Any]:
        """log p(x) and its standard error, (n,) each, in nats, in the units of X."""
        return self._densities(self._elbo if self._is_gaussian else self._importance)

    def log_conditionals(self) -> Any:
        """log p(u_j | u_-j), shape (n, d), in nats."""
        conditionals = self._gaussian_conditionals if self._is_gaussian else self._conditionals
        return self._each(conditionals, self._nodes.noise.shape[1])

    @property
    def _is_gaussian(self) -> bool:
        """Whether q equals the posterior."""
        return all_normal(self._factors.heads)

    def _gaussian_conditionals(self, u: Tensor, q: FullGaussian) -> Tensor:
        """Closed form, from the mean of 1 / N(u_j | W_j z + b_j, psi_j) under q."""
        parts = []
        for block in self._factors.blocks:
            assert isinstance(block.head, Gaussian)
            linear = block.linear(q)
            mean, log_noise = block.head.moments(linear.mean)
            noise = log_noise.exp()
            precision = (1 - linear.scale**2 / noise) / noise
            squares = ((u[:, block.where] - mean) / noise) ** 2 / precision
            log_density = -0.5 * (squares - torch.log(precision) + math.log(2 * math.pi))
            parts.append(log_density - block.head.log_stretch(u[:, block.where]))
        # Squares overflow only for rows so far out that log p is -inf anyway.
        return torch.nan_to_num(torch.cat(parts, -1), nan=-torch.inf, neginf=-torch.inf)

    def _conditionals(self, u: Tensor, q: FullGaussian) -> Tensor:
        def log_likelihoods(z: Tensor) -> tuple[Tensor, Tensor]:
            log_probs = self._factors.log_probs(u, z)
            return log_probs.sum(-1), log_probs

        return estimate_log_conditionals(log_likelihoods, StandardNormal(), q, self._nodes)

    def _elbo(self, u: Tensor, q: FullGaussian) -> Tensor:
        value = LogJoint(self._factors, u, self._elbo_points)(q).value + q.entropy
        others = [block for block in self._factors.blocks if not block.head.separable]
        if not others:
            return torch.stack([value, torch.zeros_like(value)], -1)
        z = q.at(self._elbo_points.noise)
        _, std = mean_over_sets(sum(block.log_prob(u, z) for block in others))
        return torch.stack([value, std], -1)

    def _importance(self, u: Tensor, q: FullGaussian) -> Tensor:
        weights = log_weights(
            lambda z: self._factors.log_prob(u, z), StandardNormal(), q, self._nodes
        )
        return torch.stack(log_evidence(*weights), -1)

    def _densities(self, function: Callable[[Tensor, FullGaussian], Tensor]) -> tuple[Any, Any]:
        both = self._each(function, self._nodes.noise.shape[1])
        volume = both.dtype.type(self._table.log_volume)
        return both[:, 0] - volume, both[:, 1]

    def _each(self, function: Callable[[Tensor, FullGaussian], Tensor], n_nodes: int) -> Any:
        """Concatenate ``function(u, q)`` over all rows."""
        parts = []
        for start in range(0, self._X.shape[0], _CHUNK_ROWS):
            rows = self._X[start : start + _CHUNK_ROWS]
            u = torch.from_numpy(self._table.encode(rows, np.float64, exact=True))
            prior = FullGaussian.standard(len(u), self._factors.n_factors)
            log_joint = LogJoint(self._factors, u, self._points)
            q, _ = Blocks(len(u), self._factors.width(self._points)).climb(
                log_joint, prior, n_steps=_STEPS
            )

            def of_block(rows: slice, u: Tensor = u, q: FullGaussian = q) -> Tensor:
                return function(u[rows], q.rows(rows))

            parts += Blocks(len(u), n_nodes * len(self._factors.intercept)).map(of_block)
        return torch.cat(parts).numpy().astype(self._dtype)


def expected_codes(factors: Factors, Z: Any) -> Any:
    """E[u | z], shape (n, d)."""
    z = torch.tensor(Z, dtype=torch.float64)
    parts = [block.head.mean(z @ block.loadings.mT + block.intercept) for block in factors.blocks]
    return torch.cat(parts, 1).numpy().astype(Z.dtype)


def draw_codes(factors: Factors, n: int, rng: Any) -> tuple[Any, Any]:
    """Draw codes of n rows and their z."""
    Z = rng.standard_normal((n, factors.n_factors))
    z = torch.from_numpy(Z)
    parts = [
        block.head.sample(z @ block.loadings.mT + block.intercept, rng) for block in factors.blocks
    ]
    return np.concatenate(parts, axis=1), Z
