"""Scores, samples and posteriors from fitted networks: NumPy in and out, in bounded blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skemvae.engine.passes.torch_device import device_of
from skemvae.networks.vae import VAE
from skemvae.posteriors.gaussians import DiagonalGaussian, GaussianMixture
from skemvae.posteriors.importance import (
    Nodes,
    estimate_log_conditionals,
    log_evidence,
    log_weights,
    matched_noise,
    mean_over_sets,
    posterior_mean,
)
from skemvae.posteriors.threads import in_region

# Numbers in the widest intermediate array of a block, so that it stays in the cache.
_BLOCK_NUMBERS = 2**18
# The search for the best q of a row: steps, first learning rate, the fraction of it that is left
# at the last step, and points per step.
_ROW_STEPS = 150
_ROW_RATE = 1.0
_ROW_DECAY = 0.003
_ROW_POINTS = 8

# Functions of u and q(z | x) that return two tensors, of shape (n,), or (n, S) before a mean.
Estimate = Callable[[Tensor, DiagonalGaussian], tuple[Tensor, Tensor]]


class Inference:
    """Evaluates networks on codes of one dtype, on one device.

    Parameters
    ----------
    vae : VAE
        Not changed: a copy is converted.
    dtype : numpy dtype
        float32 or float64, for the arithmetic and the results.
    device : str
    """

    def __init__(self, vae: VAE, dtype: Any, device: str):
        self._dtype = torch.float32 if dtype == np.float32 else torch.float64
        self._device = device_of(device)
        self._vae = copy.deepcopy(vae).to(self._device, self._dtype).requires_grad_(False)
        self._width = max(p.shape[0] for p in vae.parameters() if p.ndim)

    def posterior_mean(self, codes: Any) -> Any:
        """E_q[z | x], shape (n, k)."""
        return self._each(codes, 1, lambda u: self._vae.posterior(u).mean)

    def decode(self, z: Any) -> Any:
        """E[u | z], shape (n, d)."""
        return self._each(z, 1, self._vae.decoder.mean)

    def sample(self, n: int, rng: np.random.RandomState) -> tuple[Any, Any]:
        """Draw codes of shape (n, d) and their z of shape (n, k)."""
        choice = self._tensor(rng.uniform(size=n))
        noise = self._tensor(rng.normal(size=(n, self._vae.n_components)))
        z = self._vae.prior_density().at(choice, noise)
        eta = self._vae.decoder(z)
        codes = [head.sample(part.cpu(), rng) for head, _, part in self._vae.decoder.blocks(eta)]
        return np.concatenate(codes, axis=1), z.cpu().numpy()

    def log_evidence(self, codes: Any, n_samples: int, seed: int) -> tuple[Any, Any]:
        """Importance estimates of log p(u) and their standard errors, each (n,), in nats."""
        evidence = self._evidence(n_samples, seed)
        both = self._each(
            codes, n_samples, lambda u: torch.stack(evidence(u, self._vae.posterior(u)), -1)
        )
        return both[:, 0], both[:, 1]

    def log_conditionals(self, codes: Any, n_samples: int, seed: int) -> Any:
        """Importance estimates of log p(u_j | u_-j), shape (n, d), in nats."""
        prior, nodes = self._vae.prior_density(), self._nodes(n_samples, seed)

        def estimate(u: Tensor) -> Tensor:
            def log_likelihoods(z: Tensor) -> tuple[Tensor, Tensor]:
                log_probs = self._vae.decoder.log_probs(u, z)
                return log_probs.sum(-1), log_probs

            return estimate_log_conditionals(log_likelihoods, prior, self._vae.posterior(u), nodes)

        return self._each(codes, n_samples, estimate)

    def prior_components(self, codes: Any, n_samples: int, seed: int) -> Any:
        """Importance estimates of p(c | x) for components c of a mixture prior, shape (n, C)."""
        prior, nodes = self._vae.prior_density(), self._nodes(n_samples, seed)
        assert isinstance(prior, GaussianMixture)

        def estimate(u: Tensor) -> Tensor:
            mean = posterior_mean(
                lambda z: torch.softmax(prior.log_joint(z), -1),
                lambda z: self._log_likelihood(u, z),
                prior,
                self._vae.posterior(u),
                nodes,
            )
            return (mean / mean.sum(-1, keepdim=True)).to(u.dtype)

        return self._each(codes, n_samples, estimate)

    def elbo(self, codes: Any, n_samples: int, seed: int) -> Any:
        """E_q[log p(u | z)] - KL(q || p(z)), shape (n,), in nats."""
        bound = self._bound(n_samples, seed)

        def mean(u: Tensor) -> Tensor:
            terms, _ = bound(u, self._vae.posterior(u))
            return terms.mean(-1)

        return self._each(codes, n_samples, mean)

    def decompose(self, codes: Any, n_samples: int, seed: int) -> Any:
        """The fields of a ``BoundDecomposition`` in order, one per column: shape (n, 7)."""
        bound, judge = self._bound(n_samples, seed), self._bound(n_samples, seed + 1)
        evidence = self._evidence(n_samples, seed)

        def parts(u: Tensor) -> Tensor:
            q = self._vae.posterior(u)
            best = self._best_posterior(u, q, judge, seed)
            log_likelihood, error = evidence(u, best)
            terms, kl = bound(u, q)
            elbo, elbo_error = mean_over_sets(terms)
            loss, loss_error = mean_over_sets(bound(u, best)[0] - terms)
            columns = [log_likelihood, elbo, kl.mean(-1), loss, error, elbo_error, loss_error]
            return torch.stack(columns, -1)

        return self._each(codes, n_samples, parts)

    def _evidence(self, n_samples: int, seed: int) -> Estimate:
        """The importance estimate of log p(u) with any q as proposal, at fixed points."""
        prior, nodes = self._vae.prior_density(), self._nodes(n_samples, seed)

        def estimate(u: Tensor, q: DiagonalGaussian) -> tuple[Tensor, Tensor]:
            return log_evidence(*log_weights(lambda z: self._log_likelihood(u, z), prior, q, nodes))

        return estimate

    def _nodes(self, n_samples: int, seed: int) -> Nodes:
        like = torch.empty(0, dtype=self._dtype, device=self._device)
        return Nodes.of(n_samples, self._vae.n_components, seed, like)

    def _bound(self, n_samples: int, seed: int) -> Estimate:
        """The bound and its KL term under any q, at each of a fixed set of points."""
        prior = self._vae.prior_density()
        noise = self._tensor(matched_noise(n_samples, self._vae.n_components, seed))[None]

        def terms(u: Tensor, q: DiagonalGaussian) -> tuple[Tensor, Tensor]:
            z = q.at(noise)
            kl = prior.kl(q, z)
            return self._log_likelihood(u, z) - kl, kl

        return terms

    def _best_posterior(
        self, u: Tensor, q: DiagonalGaussian, judge: Estimate, seed: int
    ) -> DiagonalGaussian:
        """Search for the best diagonal Gaussian of each row, starting from the encoder's q.

        Adam moves each coordinate in units of the encoder's q. Each step draws
        new points, the same for all rows, so a row's value does not depend on
        the other rows. A row that gains nothing keeps its q.
        """
        prior = self._vae.prior_density()
        generator = torch.Generator().manual_seed(seed)
        moves = [torch.zeros_like(q.mean, requires_grad=True) for _ in range(2)]

        def moved() -> DiagonalGaussian:
            shift, stretch = moves
            return DiagonalGaussian(q.mean + q.log_scale.exp() * shift, q.log_scale + stretch)

        optimiser = torch.optim.Adam(moves, lr=_ROW_RATE, betas=(0.9, 0.99))
        decay = _ROW_DECAY ** (1 / _ROW_STEPS)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, decay)
        with torch.enable_grad():
            for _ in range(_ROW_STEPS):
                half = torch.randn(1, _ROW_POINTS // 2, q.mean.shape[1], generator=generator)
                candidate = moved()
                z = candidate.at(torch.cat([half, -half], 1).to(q.mean))
                kl = prior.kl(candidate, z).mean(-1)
                loss = kl - self._log_likelihood(u, z).mean(-1)
                optimiser.zero_grad()
                loss.sum().backward()
                optimiser.step()
                schedule.step()
        candidate = moved().detach()
        better = judge(u, candidate)[0].mean(-1) > judge(u, q)[0].mean(-1)
        return DiagonalGaussian(
            torch.where(better[:, None], candidate.mean, q.mean),
            torch.where(better[:, None], candidate.log_scale, q.log_scale),
        )

    def _log_likelihood(self, u: Tensor, z: Tensor) -> Tensor:
        size = max(1, _BLOCK_NUMBERS // (len(u) * self._width))
        return torch.cat([self._vae.decoder.log_prob(u, part) for part in z.split(size, 1)], -1)

    def _tensor(self, array: Any) -> Tensor:
        # Copied, because torch must not get read-only memory.
        return torch.tensor(array, dtype=self._dtype, device=self._device)

    def _each(self, array: Any, n_samples: int, function: Callable[[Tensor], Tensor]) -> Any:
        size = max(1, _BLOCK_NUMBERS // (n_samples * self._width))

        def of_block(start: int) -> Tensor:
            return function(self._tensor(array[start : start + size])).cpu()

        starts = range(0, len(array), size)
        return torch.cat(in_region(lambda region: region.map(of_block, starts))).numpy()
