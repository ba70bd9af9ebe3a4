"""E_q[f(z)] of each row, with its derivatives by the mean and the covariance of q."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from skemvae.latent.distributions import FullGaussian
from skemvae.latent.importance import matched_noise
from skemvae.likelihoods.base import Likelihood

# Nodes of a Gauss-Hermite rule: for a logistic likelihood the error is below 1e-7 nats while the
# standard deviation of the linear predictor is below 1.5, and 2e-6 up to 2.
N_NODES = 20
# Fixed points: at least so many, and so many for each dimension, lest each row's q learns their
# accidents.
_FEWEST_POINTS, _POINTS_PER_DIMENSION = 64, 16
# A linear predictor that varies less is taken to vary that much: its square is nothing.
_SMALLEST_SCALE = 1e-7


@dataclass(frozen=True)
class Expected:
    """E_q[f] of n rows, and how it changes with q.

    Attributes
    ----------
    value : Tensor of shape (n,)
    gradient : Tensor of shape (n, k)
        By the mean: E[f'] (Bonnet).
    curvature : Tensor of shape (n, k, k)
        -2 times the derivative by the covariance: -E[f''] (Price).
    """

    value: Tensor
    gradient: Tensor
    curvature: Tensor

    def __add__(self, other: Expected) -> Expected:
        return Expected(
            self.value + other.value,
            self.gradient + other.gradient,
            self.curvature + other.curvature,
        )

    def rows(self, rows: Tensor) -> Expected:
        """Those of some rows."""
        return Expected(self.value[rows], self.gradient[rows], self.curvature[rows])


class Expectation(Protocol):
    """E_q[f] of some rows as a function of q."""

    def __call__(self, q: FullGaussian) -> Expected: ...

    def rows(self, rows: Tensor) -> Self:
        """That of some of them."""


def fixed_points(k: int, seed: int) -> Tensor:
    """Standard normal points of shape (1, S, k) at which a fit takes its expectations."""
    n_points = max(_FEWEST_POINTS, _POINTS_PER_DIMENSION * k)
    return torch.from_numpy(matched_noise(n_points, k, seed))[None]


@cache
def gauss_hermite(n_nodes: int = N_NODES) -> tuple[Tensor, Tensor]:
    """Nodes and weights of expectations under N(0, 1), exact for polynomials up to 2 n - 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def standard_normal(q: FullGaussian) -> Expected:
    """E_q[log N(z | 0, I)]."""
    n, k = q.mean.shape
    squares = (q.mean**2).sum(-1) + (q.scale**2).sum((-2, -1))
    identity = torch.eye(k, dtype=q.mean.dtype).expand(n, k, k)
    return Expected(-0.5 * (squares + k * np.log(2 * np.pi)), -q.mean, identity)


@dataclass(frozen=True)
class Linear:
    """A linear predictor W z + b under q: each output is normal.

    Attributes
    ----------
    mean, scale : Tensor of shape (n, o)
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, q: FullGaussian, loadings: Tensor, intercept: Tensor) -> Self:
        """For W of shape (o, k) and b of shape (o,)."""
        variance = ((loadings @ q.covariance) * loadings).sum(-1)
        mean = q.mean @ loadings.mT + intercept
        return cls(mean, variance.sqrt().clamp(min=_SMALLEST_SCALE))

    def nodes(self) -> tuple[Tensor, Tensor]:
        """Nodes of shape (n, Q, o), and their weights (Q,)."""
        nodes, weights = gauss_hermite()
        return self.mean[:, None] + self.scale[:, None] * nodes[:, None], weights


def by_columns(head: Likelihood, u: Tensor, linear: Linear) -> tuple[Tensor, Tensor, Tensor]:
    """E[f], E[f'] and -E[f''] of f = log p(u_j | eta_j), by quadrature in one dimension.

    For separable columns; each of shape (n, o).
    """
    with torch.enable_grad():
        eta, weights = linear.nodes()
        eta = eta.detach().requires_grad_(True)
        values = (head.log_probs(u[:, None], eta) * weights[:, None]).sum(1)
        (slopes,) = torch.autograd.grad(values.sum(), eta)
    nodes, _ = gauss_hermite()
    # Stein: E[f''] = E[f' (eta - mean)] / variance.
    bend = -(slopes * nodes[:, None]).sum(1) / linear.scale
    return values.detach(), slopes.sum(1), bend


def by_nodes(function: Callable[[Tensor], Tensor], q: FullGaussian, noise: Tensor) -> Expected:
    """E_q[f] as the mean over fixed standard normal points ``noise`` of shape (1, S, k).

    ``function`` maps z of shape (n, S, k) to f of shape (n, S).
    """
    with torch.enable_grad():
        z = q.at(noise).detach().requires_grad_(True)
        values = function(z)
        (slopes,) = torch.autograd.grad(values.sum(), z)
    slopes = slopes / noise.shape[1]
    # Stein: E[f''] = E[f' (z - m)^T] S^-1.
    bend = -(slopes.mT @ noise) @ q.precision_cholesky.mT
    return Expected(values.detach().mean(-1), slopes.sum(1), (bend + bend.mT) / 2)
