"""log p(x) of each row by importance sampling, with the same points for all rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import qmc
from torch import Tensor

from skemvae.core.bound import importance_bound
from skemvae.networks.distributions import DiagonalGaussian, PriorDensity

# The proposal is 0.9 q(z | x) + 0.1 p(z): no weight exceeds 10 p(x | z). With q
# alone the weights have infinite variance wherever q has lighter tails than p(z | x).
_PRIOR_SHARE = 0.1
# Standard errors come from the spread of that many independent point sets.
_SCRAMBLES = 8


@dataclass(frozen=True)
class Nodes:
    """Points at which every row is looked at: scrambled Sobol points, in several sets.

    Attributes
    ----------
    noise : Tensor of shape (1, S, k)
        Standard normal points, to be placed by q.
    choice : Tensor of shape (S,)
        Uniform numbers that choose a component of a mixture prior.
    from_prior : Tensor of bool, shape (S,)
        Which points the defensive proposal takes from the prior.
    n_sets : int
        Consecutive points of equal number form an independent set.
    """

    noise: Tensor
    choice: Tensor
    from_prior: Tensor
    n_sets: int

    @classmethod
    def of(cls, n_samples: int, n_components: int, seed: int, like: Tensor) -> Self:
        """Make ``n_samples`` points, rounded up to equal sets, of the kind of ``like``."""
        n_sets = min(_SCRAMBLES, n_samples)
        size = -(-n_samples // n_sets)
        rng = np.random.RandomState(seed)
        sets = [_sobol(size, n_components + 2, rng) for _ in range(n_sets)]
        points = torch.from_numpy(np.concatenate(sets)).to(like.device)
        normal = torch.from_numpy(ndtri(np.concatenate(sets)[:, 2:])).to(like)
        return cls(normal[None], points[:, 1].to(like), points[:, 0] < _PRIOR_SHARE, n_sets)


def _sobol(size: int, d: int, rng: np.random.RandomState) -> Any:
    """``size`` points in the open unit cube; beyond the d that Sobol knows, random ones."""
    if d > qmc.Sobol.MAXDIM:
        return rng.uniform(1e-12, 1 - 1e-12, (size, d))
    sobol = qmc.Sobol(d, scramble=True, seed=np.random.default_rng(rng.randint(2**31)))
    points = sobol.random_base2(max(0, math.ceil(math.log2(size))))[:size]
    return np.clip(points, 1e-12, 1 - 1e-12)


LogLikelihood = Callable[[Tensor], Tensor]


def log_weights(
    log_likelihood: LogLikelihood, prior: PriorDensity, q: DiagonalGaussian, nodes: Nodes
) -> Tensor:
    """log p(x, z) / r(z | x) at points of the defensive proposal r, shape (n, S).

    ``log_likelihood`` maps z of shape (n or 1, S, k) to log p(x | z) of shape (n, S).

    References
    ----------
    Hesterberg (1995), "Weighted average importance sampling and defensive
    mixture distributions"; Owen (2013), "Monte Carlo theory, methods and
    examples", section 9.11.
    """
    log_q_share, log_p_share = math.log1p(-_PRIOR_SHARE), math.log(_PRIOR_SHARE)
    weights = q.mean.new_empty(len(q.mean), nodes.noise.shape[1])
    noise, from_prior = nodes.noise[0], nodes.from_prior
    # Points of the prior are the same for all rows: the decoder sees them once.
    of_prior = prior.at(nodes.choice[from_prior], noise[from_prior])[None]
    of_q = q.at(noise[~from_prior][None])
    for mask, z in ((from_prior, of_prior), (~from_prior, of_q)):
        if mask.any():
            log_p = prior.log_prob(z)
            log_r = torch.logaddexp(log_q_share + q.log_prob(z), log_p_share + log_p)
            weights[:, mask] = log_likelihood(z) + log_p - log_r
    return weights


def log_evidence(log_weight: Tensor, n_sets: int) -> tuple[Tensor, Tensor]:
    """Return the estimate of log p(x) and its standard error, each of shape (n,).

    The error is that of a mean of independent sets of points, carried to the
    logarithm; NaN for a single set.
    """
    share = torch.full_like(log_weight, 1 / log_weight.shape[-1])
    estimate = importance_bound(log_weight, torch.zeros_like(log_weight), share)
    largest = torch.where(estimate.isfinite(), estimate, torch.zeros_like(estimate))
    ratio = torch.exp(log_weight - largest[:, None])
    if n_sets == 1:
        return cast(Tensor, estimate), torch.full_like(estimate, torch.nan)
    means = ratio.reshape(len(ratio), n_sets, -1).mean(-1)
    return cast(Tensor, estimate), means.std(-1) / math.sqrt(n_sets)
