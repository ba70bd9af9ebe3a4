"""E_q[f(z)] for each row, with its derivatives by the mean and the covariance of q."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from skemvae.likelihoods.quadrature import gauss_hermite, plane
from skemvae.posteriors.gaussians import FullGaussian, put
from skemvae.posteriors.importance import matched_noise

# Fewest fixed points, and their number per dimension: enough that q does not overfit the points.
_FEWEST_POINTS, _POINTS_PER_DIMENSION = 64, 16
# Nodes along each dimension of a grid.
_GRID_NODES = {1: 6, 3: 4}
# Least standard deviation of a linear predictor; its square is negligible.
_SMALLEST_SCALE = 1e-7


@dataclass(frozen=True)
class Expected:
    """E_q[f] of n rows, and its derivatives by q.

    Attributes
    ----------
    value : Tensor of shape (n,)
    gradient : Tensor of shape (n, k)
        Derivative by the mean: E[f'] (Bonnet).
    curvature : Tensor of shape (n, k, k)
        -2 times the derivative by the covariance: -E[f''] (Price).
    scores : tuple of named tuples of Tensor
        The parts that f was computed from, also with n as the first axis.
    """

    value: Tensor
    gradient: Tensor
    curvature: Tensor
    scores: tuple[Any, ...] = ()

    def __add__(self, other: Expected) -> Expected:
        return Expected(
            self.value + other.value,
            self.gradient + other.gradient,
            self.curvature + other.curvature,
            self.scores + other.scores,
        )

    def rows(self, rows: Tensor) -> Expected:
        """The expectations of some rows."""
        scores = tuple(type(each)(*(part[rows] for part in each)) for each in self.scores)
        return Expected(self.value[rows], self.gradient[rows], self.curvature[rows], scores)

    def put(self, rows: Tensor, new: Expected) -> Expected:
        """A copy in which some rows are replaced by ``new``."""
        scores = (
            type(old)(*map(lambda part, other: put(part, rows, other), old, one))
            for old, one in zip(self.scores, new.scores, strict=True)
        )
        return Expected(
            put(self.value, rows, new.value),
            put(self.gradient, rows, new.gradient),
            put(self.curvature, rows, new.curvature),
            tuple(scores),
        )


class Expectation(Protocol):
    """E_q[f] for some rows, as a function of q."""

    def __call__(self, q: FullGaussian) -> Expected: ...

    def rows(self, rows: Tensor) -> Self:
        """The same for some of the rows."""


def fixed_points(k: int, seed: int) -> Tensor:
    """Standard normal points of shape (1, S, k) at which a fit takes its expectations."""
    n_points = max(_FEWEST_POINTS, _POINTS_PER_DIMENSION * k)
    return torch.from_numpy(matched_noise(n_points, k, seed))[None]


class Points(NamedTuple):
    """Standard normal points and their weights, which sum to 1.

    Attributes
    ----------
    noise : Tensor of shape (1, S, k)
    share : Tensor of shape (S,)
    """

    noise: Tensor
    share: Tensor

    @classmethod
    def equal(cls, noise: Tensor) -> Self:
        """Points with equal weights."""
        n_points = noise.shape[1]
        return cls(noise, torch.full((n_points,), 1 / n_points, dtype=noise.dtype))

    @classmethod
    def of_dimension(cls, k: int, seed: int) -> Self:
        """Points exact for polynomials of degree 7, or random ones where that takes too many.

        For labels whose outputs have standard deviation 1, the 12 points of the plane are off by
        9e-3 nats and 64 random points by 1e-2; for 0.5, by 3e-4 and 2e-3.
        """
        if k == 2:
            points, weights = plane()
            return cls(points[None], weights)
        if k not in _GRID_NODES:
            return cls.equal(fixed_points(k, seed))
        nodes, weights = gauss_hermite(_GRID_NODES[k])
        grid = torch.cartesian_prod(*[nodes] * k).reshape(1, -1, k)
        return cls(grid, torch.cartesian_prod(*[weights] * k).reshape(-1, k).prod(-1))


def standard_normal(q: FullGaussian) -> Expected:
    """E_q[log N(z | 0, I)]."""
    n, k = q.mean.shape
    squares = (q.mean**2).sum(-1) + (q.scale**2).sum((-2, -1))
    identity = torch.eye(k, dtype=q.mean.dtype).expand(n, k, k)
    return Expected(-0.5 * (squares + k * np.log(2 * np.pi)), -q.mean, identity)


@dataclass(frozen=True)
class Linear:
    """The distribution of a linear predictor W z + b under q; each output is normal.

    Attributes
    ----------
    mean, scale : Tensor of shape (n, o)
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, q: FullGaussian, loadings: Tensor, intercept: Tensor) -> Self:
        """From W of shape (o, k) and b of shape (o,)."""
        outer = loadings[:, :, None] * loadings[:, None, :]
        variance = q.covariance.flatten(1) @ outer.flatten(1).mT
        mean = q.mean @ loadings.mT + intercept
        return cls(mean, variance.clamp(min=_SMALLEST_SCALE**2).sqrt())


def predictors(z: Tensor, loadings: Tensor, intercept: Tensor) -> Tensor:
    """W z + b of shape (n, S, o) at z of shape (n, S, k); each output is contiguous in memory."""
    eta = torch.addmm(intercept[:, None], loadings, z.flatten(0, 1).mT)
    return eta.mT.unflatten(0, z.shape[:2])


def by_nodes(function: Callable[[Tensor], Tensor], q: FullGaussian, noise: Tensor) -> Expected:
    """E_q[f] as the mean over fixed standard normal points ``noise`` of shape (1, S, k).

    ``function`` maps z of shape (n, S, k) to f of shape (n, S).
    """
    with torch.enable_grad():
        z = q.at(noise).detach().requires_grad_(True)
        values = function(z)
        (slopes,) = torch.autograd.grad(values.sum(), z)
    return of_slopes(values.detach(), slopes, q, Points.equal(noise))


def of_slopes(values: Tensor, slopes: Tensor, q: FullGaussian, points: Points) -> Expected:
    """E_q[f] from f of shape (n, S) and f' of shape (n, S, k) at the points."""
    slopes = slopes * points.share[:, None]
    bend = by_covariance(slopes.mT @ points.noise, q.scale)
    return Expected(values @ points.share, slopes.sum(1), -bend)


def by_covariance(by_root: Tensor, root: Tensor) -> Tensor:
    """Twice the derivative by A A^T, from that by the upper triangular A; both (n, k, k).

    This is the symmetric H for which H A and the derivative
    G = E[f' (A^-1 (z - m))^T] have the same upper triangle. With the exact
    expectation it is E[f''] (Stein). With a finite set of points, G A^-1 is not
    symmetric, and only H leads to the maximum.
    """
    bend = torch.zeros_like(by_root)
    for j in range(root.shape[-1]):
        for i in (slice(0, j), slice(j, j + 1)):  # the diagonal needs the entries beside it
            known = bend[:, i, :j] @ root[:, :j, j, None]
            column = (by_root[:, i, j] - known[..., 0]) / root[:, j, j, None]
            bend[:, i, j] = bend[:, j, i] = column
    return bend
