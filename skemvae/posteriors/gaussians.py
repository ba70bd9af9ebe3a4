"""Densities of z: Gaussian posteriors and priors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

_LOG_2PI = math.log(2 * math.pi)


def put(old: Tensor, rows: Any, new: Tensor) -> Tensor:
    """A copy in which some rows are replaced by ``new``."""
    both = old.clone()
    both[rows] = new
    return both


@dataclass(frozen=True)
class DiagonalGaussian:
    """q(z | x) of n rows: normal, with a diagonal covariance.

    Attributes
    ----------
    mean, log_scale : Tensor of shape (n, k)
    """

    mean: Tensor
    log_scale: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """Points z of shape (n, S, k), from standard normal noise of shape (n or 1, S, k)."""
        return torch.addcmul(self.mean[:, None], self.log_scale.exp()[:, None], noise)

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z | x), shape (n, S), for z of shape (n or 1, S, k)."""
        standard = (z - self.mean[:, None]) * torch.exp(-self.log_scale)[:, None]
        constant = self.log_scale.sum(-1) + 0.5 * _LOG_2PI * self.mean.shape[-1]
        return -0.5 * (standard**2).sum(-1) - constant[:, None]

    def wider(self, times: float) -> DiagonalGaussian:
        """The same mean, with standard deviations ``times`` as large."""
        return DiagonalGaussian(self.mean, self.log_scale + math.log(times))

    def detach(self) -> DiagonalGaussian:
        """The same density, as a constant."""
        return DiagonalGaussian(self.mean.detach(), self.log_scale.detach())


@dataclass(frozen=True)
class FullGaussian:
    """q(z | x) of n rows: normal, with a full covariance.

    Attributes
    ----------
    mean : Tensor of shape (n, k)
    precision_cholesky : Tensor of shape (n, k, k)
        Lower Cholesky factors R of the precisions R R^T.
    """

    mean: Tensor
    precision_cholesky: Tensor

    @classmethod
    def standard(cls, n: int, k: int, dtype: torch.dtype = torch.float64) -> FullGaussian:
        """N(0, I) for each row."""
        return cls(torch.zeros(n, k, dtype=dtype), torch.eye(k, dtype=dtype).expand(n, k, k))

    @classmethod
    def of_blocks(cls, blocks: Sequence[FullGaussian]) -> FullGaussian:
        """The densities of the rows of all blocks."""
        return cls(
            torch.cat([block.mean for block in blocks]),
            torch.cat([block.precision_cholesky for block in blocks]),
        )

    def rows(self, rows: Any) -> FullGaussian:
        """The densities of some rows."""
        return FullGaussian(self.mean[rows], self.precision_cholesky[rows])

    def put(self, rows: Any, new: FullGaussian) -> FullGaussian:
        """A copy in which some rows are replaced by ``new``."""
        return FullGaussian(
            put(self.mean, rows, new.mean),
            put(self.precision_cholesky, rows, new.precision_cholesky),
        )

    def wider(self, times: float) -> FullGaussian:
        """The same mean, with standard deviations ``times`` as large."""
        return FullGaussian(self.mean, self.precision_cholesky / times)

    @cached_property
    def scale(self) -> Tensor:
        """Upper triangular roots A of the covariances A A^T."""
        identity = torch.eye(self.mean.shape[1], dtype=self.mean.dtype)
        return torch.linalg.solve_triangular(self.precision_cholesky.mT, identity, upper=True)

    @cached_property
    def covariance(self) -> Tensor:
        """Covariances, shape (n, k, k)."""
        return self.scale @ self.scale.mT

    @property
    def precision(self) -> Tensor:
        """Precisions, shape (n, k, k)."""
        return self.precision_cholesky @ self.precision_cholesky.mT

    @property
    def entropy(self) -> Tensor:
        """H[q], shape (n,), in nats."""
        return 0.5 * self.mean.shape[1] * (1 + _LOG_2PI) - self._half_log_det

    def kl_to_standard(self) -> Tensor:
        """KL(q || N(0, I)), shape (n,), in nats."""
        k = self.mean.shape[1]
        second_moment = (self.scale**2).sum((-2, -1)) + (self.mean**2).sum(-1)
        return 0.5 * (second_moment + k * _LOG_2PI) - self.entropy

    @property
    def _half_log_det(self) -> Tensor:
        """Half the logarithm of the determinant of the precisions, shape (n,)."""
        return self.precision_cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def at(self, noise: Tensor) -> Tensor:
        """Points z of shape (n, S, k), from standard normal noise of shape (n or 1, S, k)."""
        return self.mean[:, None] + noise @ self.scale.mT

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z | x), shape (n, S), for z of shape (n or 1, S, k)."""
        standard = (z - self.mean[:, None]) @ self.precision_cholesky
        constant = self._half_log_det - 0.5 * _LOG_2PI * self.mean.shape[-1]
        return constant[:, None] - 0.5 * (standard**2).sum(-1)


class Posterior(Protocol):
    """q(z | x) of n rows."""

    def at(self, noise: Tensor) -> Tensor:
        """Points z of shape (n, S, k), from standard normal noise of shape (n or 1, S, k)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z | x), shape (n, S), for z of shape (n or 1, S, k)."""


class Unimodal(Posterior, Protocol):
    """A posterior with one centre."""

    def wider(self, times: float) -> Posterior:
        """The same mean, with standard deviations ``times`` as large."""


class Proposal(Protocol):
    """A density of z to draw points from."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density at z, of the leading shape of z."""

    def at(self, choice: Tensor, noise: Tensor) -> Tensor:
        """Points of shape (S, k), from uniform ``choice`` (S,) and normal ``noise`` (S, k).

        Points of shape (n, S, k) if each row has its own density.
        """


class PriorDensity(Proposal, Protocol):
    """p(z)."""

    def kl(self, q: DiagonalGaussian, z: Tensor) -> Tensor:
        """KL(q || p), shape (n, 1), or unbiased terms of it at z ~ q, shape (n, S)."""


@dataclass(frozen=True)
class StandardNormal:
    """N(0, I)."""

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * ((z**2).sum(-1) + _LOG_2PI * z.shape[-1])

    def kl(self, q: DiagonalGaussian, z: Tensor) -> Tensor:
        terms = q.mean**2 + torch.exp(2 * q.log_scale) - 1 - 2 * q.log_scale
        return 0.5 * terms.sum(-1, keepdim=True)

    def at(self, choice: Tensor, noise: Tensor) -> Tensor:
        return noise


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of C Gaussians with diagonal covariances.

    Attributes
    ----------
    log_weight : Tensor of shape (C,)
    mean, log_scale : Tensor of shape (C, k)
    """

    log_weight: Tensor
    mean: Tensor
    log_scale: Tensor

    def log_joint(self, z: Tensor) -> Tensor:
        """log p(z, c) of each component c, in float64, of the leading shape of z and (C,)."""
        # Multiplying out the square takes two thin products instead of an (n, S, C, k) array. Its
        # terms cancel where components are narrow, hence float64.
        precision = torch.exp(-2 * self.log_scale.double())
        scaled_mean = self.mean * precision
        constant = (
            self.log_weight
            - self.log_scale.sum(-1)
            - 0.5 * (self.mean * scaled_mean).sum(-1)
            - 0.5 * _LOG_2PI * self.mean.shape[-1]
        )
        wide = z.double()
        return constant + wide @ scaled_mean.mT - 0.5 * (wide**2) @ precision.mT

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.logsumexp(self.log_joint(z), -1).to(z.dtype)

    def kl(self, q: DiagonalGaussian, z: Tensor) -> Tensor:
        return q.log_prob(z) - self.log_prob(z)

    def at(self, choice: Tensor, noise: Tensor) -> Tensor:
        steps = self.log_weight.exp().cumsum(-1)
        component = torch.searchsorted(steps / steps[-1], choice)
        return self.mean[component] + self.log_scale[component].exp() * noise
