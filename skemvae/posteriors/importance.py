"""Importance sampling of log p(x), with the same standard normal points for all rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self, cast

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc
from torch import Tensor

from skemvae.core.bound import importance_bound, log_conditionals
from skemvae.posteriors.gaussians import Posterior, Proposal, Unimodal

# The proposal is about 0.9 q(z | x) + 0.1 p(z), so no weight exceeds 10 p(x | z). With q alone
# the weights have infinite variance wherever q has lighter tails than p(z | x). The price is that
# the expected log mean weight may fall below the bound of q, though not by more than
# -log(1 - a) for a share a of the prior.
_PRIOR_SHARE = 0.1
# Without a column that says much about z, the posterior is wider; a factor of 2 measured best.
_WIDER = 2.0
# Standard errors come from the spread of up to 16 independent sets of at least 8 points.
_SETS = 16
_SMALLEST_SET = 8
# Least variance of a control variate that is of any use.
_NO_CONTROL = 1e-20


@dataclass(frozen=True)
class Nodes:
    """Points for importance sampling of every row: independent sets of scrambled Sobol points.

    Each set has the same numbers of points from q and from the prior, so the
    proposal is exactly the same mixture in all of them.

    Attributes
    ----------
    noise : Tensor of shape (1, n_sets * a, k)
        Standard normal points that q maps to z.
    prior_noise : Tensor of shape (n_sets * b, k)
        Standard normal points that the prior maps to z.
    choice : Tensor of shape (n_sets * b,)
        Uniform numbers that choose a component of a mixture prior.
    n_sets : int
    """

    noise: Tensor
    prior_noise: Tensor
    choice: Tensor
    n_sets: int

    @classmethod
    def of(cls, n_samples: int, k: int, seed: int, like: Tensor) -> Self:
        """Make ``n_samples`` points, rounded up to equal sets, as tensors like ``like``."""
        n_sets = min(_SETS, max(1, n_samples // _SMALLEST_SET))
        of_q, of_prior = _of_cube(n_sets, -(-n_samples // n_sets), k, seed)
        return cls(
            torch.from_numpy(ndtri(of_q)).to(like)[None],
            torch.from_numpy(ndtri(of_prior[:, 1:])).to(like),
            torch.from_numpy(of_prior[:, 0].copy()).to(like),
            n_sets,
        )


@lru_cache(maxsize=4)  # scrambling takes longer than scoring a few rows
def _of_cube(n_sets: int, size: int, k: int, seed: int) -> tuple[Any, Any]:
    """Uniform points for q and, with one more coordinate, for the prior, set by set."""
    n_prior = max(1, round(_PRIOR_SHARE * size)) if size >= _SMALLEST_SET else 0
    rng = np.random.RandomState(seed)
    of_q = np.concatenate([sobol(size - n_prior, k, rng) for _ in range(n_sets)])
    of_prior = np.concatenate([sobol(n_prior, k + 1, rng) for _ in range(n_sets)])
    return of_q, of_prior


def sobol(size: int, d: int, rng: np.random.RandomState) -> Any:
    """``size`` Sobol points in the open unit cube, or random ones if d is too large for Sobol."""
    if d > qmc.Sobol.MAXDIM or size == 0:
        return rng.uniform(1e-12, 1 - 1e-12, (size, d))
    sobol = qmc.Sobol(d, scramble=True, seed=np.random.default_rng(rng.randint(2**31)))
    points = sobol.random_base2(math.ceil(math.log2(size)))[:size]
    return np.clip(points, 1e-12, 1 - 1e-12)


def matched_noise(size: int, k: int, seed: int) -> Any:
    """Standard normal points with mean exactly 0 and covariance exactly I, if there are enough.

    Expectations of quadratic functions are then exact.
    """
    noise = ndtri(sobol(size, k, np.random.RandomState(seed)))
    if size <= 2 * k:
        return noise
    noise = noise - noise.mean(0)
    factor = np.linalg.cholesky(noise.T @ noise / size)
    return np.linalg.solve(factor, noise.T).T


def mean_over_sets(values: Tensor, n_sets: int = _SETS) -> tuple[Tensor, Tensor]:
    """Mean over the last axis and its standard error, from runs of neighbouring points.

    The error treats the runs as independent sets. It is too large if all points
    together are matched to the moments of their density.
    """
    sets = torch.stack([part.mean(-1) for part in values.tensor_split(n_sets, -1)], -1)
    return values.mean(-1), sets.std(-1) / math.sqrt(n_sets)


LogLikelihood = Callable[[Tensor], Tensor]
LogLikelihoods = Callable[[Tensor], tuple[Tensor, Tensor]]


def _points(prior: Proposal, q: Posterior, nodes: Nodes) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Points z of the defensive proposal r(z | x), with log p(z) - log r and log q - log r."""
    of_q = q.at(nodes.noise)
    # Points of the prior are the same for all rows, so the decoder sees them only once.
    of_prior = prior.at(nodes.choice, nodes.prior_noise)
    of_prior = of_prior if of_prior.ndim == 3 else of_prior[None]
    prior_share = of_prior.shape[1] / (of_q.shape[1] + of_prior.shape[1])
    for z in (of_q, of_prior) if prior_share else (of_q,):
        log_p, log_q = prior.log_prob(z), q.log_prob(z)
        log_r = log_q
        if prior_share:
            log_r = torch.logaddexp(log_q + math.log1p(-prior_share), log_p + math.log(prior_share))
        yield z, log_p - log_r, log_q - log_r


def log_weights(
    log_likelihood: LogLikelihood, prior: Proposal, q: Posterior, nodes: Nodes
) -> tuple[Tensor, Tensor]:
    """Importance weights at points of the defensive proposal r(z | x).

    ``log_likelihood`` maps z of shape (n or 1, S, k) to log p(x | z) of shape (n, S).

    Returns
    -------
    log_weight : Tensor of shape (n, n_sets, S)
        log p(x, z) / r(z | x).
    control : Tensor of shape (n, n_sets, S)
        q(z | x) / r(z | x) - 1, whose expectation is 0.

    References
    ----------
    Hesterberg (1995), "Weighted average importance sampling and defensive
    mixture distributions"; Owen (2013), "Monte Carlo theory, methods and
    examples", section 9.11.
    """
    weights, controls = [], []
    for z, log_p_over_r, log_q_over_r in _points(prior, q, nodes):
        log_weight = log_likelihood(z) + log_p_over_r
        weights.append(log_weight.unflatten(-1, (nodes.n_sets, -1)))
        controls.append(torch.expm1(log_q_over_r).unflatten(-1, (nodes.n_sets, -1)))
    return torch.cat(weights, -1), torch.cat(controls, -1)


def posterior_mean(
    function: LogLikelihood,
    log_likelihood: LogLikelihood,
    prior: Proposal,
    q: Posterior,
    nodes: Nodes,
) -> Tensor:
    """Estimate E[f(z) | x] with self-normalised weights at points of the defensive proposal.

    ``function`` maps z of shape (n or 1, S, k) to f of shape (n or 1, S, C). The result
    has shape (n, C). Where all weights underflow, they are taken as equal.
    """
    weights, values = [], []
    for z, log_p_over_r, _ in _points(prior, q, nodes):
        weights.append(log_likelihood(z) + log_p_over_r)
        values.append(function(z))
    log_weight = torch.cat(weights, 1).double()
    nothing = log_weight.amax(1, keepdim=True) == -torch.inf
    share = torch.softmax(torch.where(nothing, 0.0, log_weight), 1)
    sizes = [each.shape[1] for each in values]
    parts = zip(share.split(sizes, 1), values, strict=True)
    total = sum((part[:, None] @ each.double() for part, each in parts), torch.zeros(()))
    return total[:, 0]


@dataclass(frozen=True)
class _Broadened:
    """A mixture of q, with the first half of ``size`` points, and a wider q with the rest."""

    narrow: Posterior
    wide: Posterior
    size: int

    @property
    def _half(self) -> int:
        return -(-self.size // 2)

    def at(self, noise: Tensor) -> Tensor:
        near, far = noise.tensor_split([self._half], 1)
        return torch.cat([self.narrow.at(near), self.wide.at(far)], 1)

    def log_prob(self, z: Tensor) -> Tensor:
        share = self._half / self.size
        if share == 1:
            return self.narrow.log_prob(z)
        return torch.logaddexp(
            self.narrow.log_prob(z) + math.log(share), self.wide.log_prob(z) + math.log1p(-share)
        )


def estimate_log_conditionals(
    log_likelihoods: LogLikelihoods, prior: Proposal, q: Unimodal, nodes: Nodes
) -> Tensor:
    """Estimate log p(x_j | x_-j), shape (n, d), at points of the defensive proposal.

    ``log_likelihoods`` maps z of shape (n or 1, S, k) to log p(x | z) of shape
    (n, S) and log p(x_j | z, x_-j) of shape (n, S, d).
    """
    broadened = _Broadened(q, q.wider(_WIDER), nodes.noise.shape[1])
    weights, given = [], []
    for z, log_p_over_r, _ in _points(prior, broadened, nodes):
        log_likelihood, log_given = log_likelihoods(z)
        weights.append(log_likelihood + log_p_over_r)
        given.append(log_given)
    return cast(Tensor, log_conditionals(torch.cat(weights, 1), torch.cat(given, 1)))


def log_evidence(log_weight: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
    """Return the estimate of log p(x) and its standard error, each of shape (n,).

    If q is close to the posterior, the remaining variance comes from the mixture
    in the proposal, and the control variate removes it. Its coefficient for a
    set of points comes from the other sets, which keeps the estimate of p(x)
    unbiased. The error is that of a mean over independent sets, propagated to
    the logarithm; it is NaN for a single set.

    References
    ----------
    Owen and Zhou (2000), "Safe and effective importance sampling".
    """
    all_weights = log_weight.flatten(1)
    share = torch.full_like(all_weights, 1 / all_weights.shape[-1])
    plain = cast(Tensor, importance_bound(all_weights, torch.zeros_like(all_weights), share))
    n_sets = log_weight.shape[1]
    if n_sets == 1:
        return plain, torch.full_like(plain, torch.nan)
    largest = torch.where(plain.isfinite(), plain, torch.zeros_like(plain))
    weight = torch.exp(log_weight - largest[:, None, None])
    means, error = weight.mean(-1), weight.mean(-1).std(-1) / math.sqrt(n_sets)
    rest = n_sets - 1  # the sets behind each coefficient
    mean_weight = _of_others(means) / rest
    mean_control = _of_others(control.mean(-1)) / rest
    covariance = _of_others((weight * control).mean(-1)) / rest - mean_weight * mean_control
    variance = _of_others((control**2).mean(-1)) / rest - mean_control**2
    coefficient = covariance / variance.clamp(min=_NO_CONTROL)
    controlled = means - coefficient * control.mean(-1)
    estimate = controlled.mean(-1)
    controlled_error = controlled.std(-1) / math.sqrt(n_sets) / estimate
    # Where a few points carry all the weight, the coefficients are useless.
    better = (estimate > 0) & (controlled_error < error)
    zero = torch.zeros_like(plain)
    shift = torch.where(better, torch.where(better, estimate, zero + 1).log(), zero)
    return plain + shift, torch.where(better, controlled_error, error)


def _of_others(sums: Tensor) -> Tensor:
    """For each set, the sum over all others."""
    return sums.sum(-1, keepdim=True) - sums
