"""Posteriors and scores from a fitted user-defined model: NumPy in, NumPy out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from skemvae.core.bound import log_conditionals
from skemvae.posteriors.ascent import climb, diagonal, full
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
from skemvae.variational.own_fit import FIRST_STEPS, LogJoint, enumerate_states

# The defensive part of a proposal is a third q, a third a q at another mode and a third N(0, I),
# each made this many times as wide.
_WIDER, _OTHER, _WIDEST = 3.0, 1.5, 2.0


class OwnInference(ABC):
    """Fits a posterior to each row of X and computes scores from it."""

    def __init__(self, model: Any, X: Any):
        self._dtype = X.dtype
        parameters = {name: torch.tensor(value) for name, value in model.parameters_.items()}
        rows = torch.tensor(np.ascontiguousarray(X, dtype=np.float64))
        self._model = model
        self._log_joint = LogJoint(model, rows, parameters, model._noise)

    @abstractmethod
    def posterior_mean(self) -> Any:
        """E_q[z], shape (n, k)."""

    @abstractmethod
    def log_conditionals(self) -> Any:
        """log p(x_j | x_-j), shape (n, d), in nats."""

    @abstractmethod
    def kl_to_prior(self) -> Any:
        """KL(q || p(z)), shape (n,), in nats."""

    @abstractmethod
    def elbo(self) -> tuple[Any, Any]:
        """The bound of each row and its standard error, (n,) each."""

    @abstractmethod
    def log_density(self) -> tuple[Any, Any]:
        """log p(x) of each row and its standard error, (n,) each."""

    def _each(self, function: Callable[[LogJoint], Tensor], n_points: int) -> Any:
        """Concatenate a function of the rows over blocks of them."""
        X, noise = self._log_joint.X, self._log_joint.noise
        blocks = Blocks(len(X), n_points * (X.shape[1] + noise.shape[2]))
        parts = blocks.map(lambda rows: function(self._log_joint.rows(rows)))
        return torch.cat(parts).numpy().astype(self._dtype)


class EnumeratedInference(OwnInference):
    """Exact posteriors and scores, by enumeration of the states."""

    def posterior_mean(self) -> Any:
        n_states = self._log_joint.noise.shape[1]
        return self._each(lambda log_joint: enumerate_states(log_joint)[0], n_states)

    def log_conditionals(self) -> Any:
        def conditionals(log_joint: LogJoint) -> Tensor:
            states = log_joint.noise[..., 0]
            each = log_conditionals(log_joint.at(states), log_joint.columns(states))
            return cast(Tensor, each)

        return self._each(conditionals, self._log_joint.noise.shape[1])

    def kl_to_prior(self) -> Any:
        def kl(log_joint: LogJoint) -> Tensor:
            weight, _ = enumerate_states(log_joint)
            log_prior = log_joint.prior(log_joint.noise[..., 0])
            return (torch.special.xlogy(weight, weight) - weight * log_prior).sum(-1)

        return self._each(kl, self._log_joint.noise.shape[1])

    def log_density(self) -> tuple[Any, Any]:
        n_states = self._log_joint.noise.shape[1]
        exact = self._each(lambda log_joint: enumerate_states(log_joint)[1], n_states)
        return exact, np.zeros_like(exact)

    def elbo(self) -> tuple[Any, Any]:
        return self.log_density()


@dataclass(frozen=True)
class Defence:
    """The defensive part of a proposal, used because p(z) is not known by itself.

    A wider q guards against light tails of q. A q at another mode, and points on
    the scale of all of z, guard against modes that q misses.
    """

    q: FullGaussian
    other: FullGaussian

    def at(self, choice: Tensor, noise: Tensor) -> Tensor:
        """Points of shape (n, S, k)."""
        third, noise = (3 * choice)[:, None], noise[None]
        near = torch.where(third < 1, self.q.at(_WIDER * noise), self.other.at(_OTHER * noise))
        return torch.where(third < 2, near, _WIDEST * noise)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density at z, shape (n, S)."""
        wider = self.q.wider(_WIDER).log_prob(z)
        other = self.other.wider(_OTHER).log_prob(z)
        widest = StandardNormal().log_prob(z / _WIDEST) - z.shape[-1] * math.log(_WIDEST)
        parts = torch.stack([wider, other, widest.expand(wider.shape)])
        return torch.logsumexp(parts, 0) - math.log(3)


class GaussianInference(OwnInference):
    """A normal q with full covariance, and importance sampling with it."""

    family = staticmethod(full)

    def __init__(self, model: Any, X: Any):
        super().__init__(model, X)
        like = torch.empty(0, dtype=torch.float64)
        n_samples, k = model.n_score_samples, model.n_latent_
        self._nodes = Nodes.of(n_samples, k, model._seed, like)
        matched = matched_noise(max(n_samples, 16), k, model._seed)
        self._elbo_noise = torch.from_numpy(matched)[None]

    def posterior_mean(self) -> Any:
        return self._each(lambda log_joint: self._q(log_joint).mean, self._log_joint.noise.shape[1])

    def log_conditionals(self) -> Any:
        def conditionals(log_joint: LogJoint) -> Tensor:
            q = self._q(log_joint)
            rest = Defence(q, self._q(log_joint, q))

            def log_likelihoods(z: Tensor) -> tuple[Tensor, Tensor]:
                return log_joint.at(z) - rest.log_prob(z), log_joint.columns(z)

            return estimate_log_conditionals(log_likelihoods, rest, q, self._nodes)

        return self._each(conditionals, self._nodes.noise.shape[1])

    def kl_to_prior(self) -> Any:
        def kl(log_joint: LogJoint) -> Tensor:
            q = self._q(log_joint)
            return -q.entropy - log_joint.prior(q.at(self._elbo_noise)).mean(-1)

        return self._each(kl, self._elbo_noise.shape[1])

    def elbo(self) -> tuple[Any, Any]:
        def bound(log_joint: LogJoint) -> Tensor:
            q = self._q(log_joint)
            mean, error = mean_over_sets(log_joint.at(q.at(self._elbo_noise)))
            return torch.stack([mean + q.entropy, error], -1)

        return self._pair(bound)

    def log_density(self) -> tuple[Any, Any]:
        def estimate(log_joint: LogJoint) -> Tensor:
            q = self._q(log_joint)
            rest = Defence(q, self._q(log_joint, q))
            weights = log_weights(
                lambda z: log_joint.at(z) - rest.log_prob(z), rest, q, self._nodes
            )
            return torch.stack(log_evidence(*weights), -1)

        return self._pair(estimate)

    def _pair(self, function: Callable[[LogJoint], Tensor]) -> tuple[Any, Any]:
        n_points = max(self._nodes.noise.shape[1], self._log_joint.noise.shape[1])
        both = self._each(function, n_points)
        return both[:, 0], both[:, 1]

    def _q(self, log_joint: LogJoint, seen: FullGaussian | None = None) -> FullGaussian:
        q = log_joint.start(seen)
        return climb(log_joint, q, log_joint(q), self.family, FIRST_STEPS)[0]


class DiagonalInference(GaussianInference):
    """The same with a diagonal covariance."""

    family = staticmethod(diagonal)


INFERENCES: dict[str, type[OwnInference]] = {
    "full": GaussianInference,
    "diagonal": DiagonalInference,
    "enumerated": EnumeratedInference,
}
