"""The bound of a generalised factor model, and the sums that make up its derivatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from skemvae.posteriors.expectations import (
    Expected,
    Points,
    by_covariance,
    predictors,
    standard_normal,
)
from skemvae.posteriors.gaussians import FullGaussian
from skemvae.variational.factor_parameters import Block, Factors

# Added to a Hessian, as a share of its largest entry.
_RIDGE = 1e-10


class NewtonSums(NamedTuple):
    """Value and derivatives of sum_i w_i E_q[log p(u_ij | W_j z + b_j)], for each output j.

    With z~ = (z, 1): the values of the columns, shape (d,), the gradient by
    (W_j, b_j), shape (o, k + 1), and minus an approximate Hessian, shape
    (o, k + 1, k + 1). For separable columns the Hessian ignores that -f''
    varies with z, for others that outputs depend on each other.
    """

    value: Tensor
    gradient: Tensor
    hessian: Tensor

    @property
    def step(self) -> Tensor:
        """The Newton step, shape (o, k + 1)."""
        size = self.hessian.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=1e-100)
        identity = torch.eye(self.hessian.shape[-1], dtype=self.hessian.dtype)
        step: Tensor = torch.linalg.solve(
            self.hessian + _RIDGE * size[:, None, None] * identity, self.gradient
        )
        return step

    def rescaled(self, shift: Tensor, scale: Tensor) -> NewtonSums:
        """The sums for the same predictors after shift + scale z has replaced z."""
        k = len(shift)
        change = torch.eye(k + 1, dtype=shift.dtype)
        change[:k, :k], change[:k, k] = scale, shift
        back = torch.linalg.inv(change)
        return NewtonSums(self.value, self.gradient @ back.mT, back @ self.hessian @ back.mT)


class SeparableScores(NamedTuple):
    """E_q[f], E_q[f'] and -E_q[f''] of f = log p(u_j | eta_j), each of shape (n, d)."""

    value: Tensor
    slope: Tensor
    bend: Tensor

    def expected(self, q: FullGaussian, loadings: Tensor) -> Expected:
        """The sum over the columns."""
        n, k = q.mean.shape
        outer = loadings[:, :, None] * loadings[:, None, :]
        curvature = (self.bend @ outer.flatten(1)).reshape(n, k, k)
        return Expected(self.value.sum(-1), self.slope @ loadings, curvature, (self,))

    def newton_sums(self, q: FullGaussian, loadings: Tensor, weight: Tensor) -> NewtonSums:
        """The sums over the rows."""
        k = q.mean.shape[1]
        slope, bend = self.slope * weight[:, None], self.bend * weight[:, None]
        shrink = (bend.mT @ q.covariance.flatten(1)).reshape(-1, k, k) @ loadings[:, :, None]
        by_loadings = slope.mT @ q.mean - shrink[..., 0]
        affine = _affine(q)
        hessian = (bend.clamp(min=0).mT @ (affine.mT @ affine).flatten(1)).unflatten(1, (k + 1, -1))
        gradient = torch.cat([by_loadings, slope.sum(0)[:, None]], 1)
        return NewtonSums(weight @ self.value, gradient, hessian)


class PointScores(NamedTuple):
    """The same for columns with shared outputs, as sums over points z = m + A e of q.

    Attributes
    ----------
    value : Tensor of shape (n, d)
    slope : Tensor of shape (n, o, k + 1)
        E_q[f' (1, e)] for each output.
    bend : Tensor of shape (n, o, B)
        E_q[-f'' e_a e_b] for each output and all pairs a <= b of (1, e).
    """

    value: Tensor
    slope: Tensor
    bend: Tensor

    @classmethod
    def of(cls, block: Block, u: Tensor, q: FullGaussian, points: Points) -> PointScores:
        """Compute them for some rows."""
        noise = torch.nn.functional.pad(points.noise[0], (1, 0), value=1.0)
        first, second = torch.triu_indices(*[noise.shape[1]] * 2)
        basis = noise[:, first] * noise[:, second] * points.share[:, None]
        eta = predictors(q.at(points.noise), block.loadings, block.intercept)
        value, slope, bend = block.head.expected_at(u[:, block.where], eta, basis)
        return cls(value, slope[..., : noise.shape[1]], bend)

    def expected(self, q: FullGaussian, loadings: Tensor) -> Expected:
        """The sum over the columns."""
        slope = self.slope.transpose(0, 1)
        by_points = (loadings.mT @ slope.flatten(1)).unflatten(1, slope.shape[1:]).transpose(0, 1)
        curvature = -by_covariance(by_points[..., 1:], q.scale)
        return Expected(self.value.sum(-1), by_points[..., 0], curvature, (self,))

    def newton_sums(self, q: FullGaussian, loadings: Tensor, weight: Tensor) -> NewtonSums:
        """The sums over the rows."""
        affine = _affine(q)
        weighted = affine * weight[:, None, None]
        first, second = torch.triu_indices(*[affine.shape[1]] * 2)
        products = affine[:, first, :, None] * weighted[:, second, None, :]
        products[:, first < second] += products[:, first < second].mT
        hessian = self.bend.transpose(0, 1).flatten(1) @ products.flatten(0, 1).flatten(1)
        hessian = hessian.unflatten(1, products.shape[2:])
        gradient = self.slope.transpose(0, 1).flatten(1) @ weighted.flatten(0, 1)
        return NewtonSums(weight @ self.value, gradient, hessian)


def _affine(q: FullGaussian) -> Tensor:
    """The R with (z, 1) = (1, e) R for z = m + A e; one per row, shape (n, k + 1, k + 1)."""
    n, k = q.mean.shape
    affine = q.mean.new_zeros(n, k + 1, k + 1)
    affine[:, 0, :k], affine[:, 0, k] = q.mean, 1
    affine[:, 1:, :k] = q.scale.mT
    return affine


Scores = SeparableScores | PointScores


def scores(block: Block, u: Tensor, q: FullGaussian, points: Points) -> Scores:
    """The scores of some rows."""
    if not block.head.separable:
        return PointScores.of(block, u, q, points)
    linear = block.linear(q)
    return SeparableScores(*block.head.expected(u[:, block.where], linear.mean, linear.scale))


@dataclass(frozen=True)
class LogJoint:
    """E_q[log p(u, z)] for some rows, as a function of q.

    Attributes
    ----------
    factors : Factors
    u : Tensor of shape (n, d)
    points : Points
        Points of q at which likelihoods that are not separable are evaluated.
    """

    factors: Factors
    u: Tensor
    points: Points

    def rows(self, rows: Any) -> LogJoint:
        """The same for some of the rows."""
        return replace(self, u=self.u[rows])

    def __call__(self, q: FullGaussian) -> Expected:
        expected = standard_normal(q)
        for block in self.factors.blocks:
            expected += scores(block, self.u, q, self.points).expected(q, block.loadings)
        return expected

    def newton_sums(
        self, q: FullGaussian, expected: Expected, weight: Tensor
    ) -> tuple[NewtonSums, ...]:
        """The sums of each block, from the expectations at q."""
        pairs = zip(self.factors.blocks, expected.scores, strict=True)
        return tuple(
            cast(Scores, each).newton_sums(q, block.loadings, weight) for block, each in pairs
        )


def expected_values(block: Block, u: Tensor, q: FullGaussian, points: Points) -> Tensor:
    """E_q[log p(u_j | z)], shape (n, d), differentiable in the likelihood's own parameters."""
    if not block.head.separable:
        return (block.log_probs(u, q.at(points.noise)) * points.share[:, None]).sum(1)
    linear = block.linear(q)
    return block.head.expected_log_probs(u[:, block.where], linear.mean, linear.scale)
