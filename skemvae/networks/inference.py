"""What fitted networks answer about rows: NumPy in, NumPy out, in blocks of bounded size."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skemvae.latent.importance import Nodes, log_evidence, log_weights, matched_noise
from skemvae.latent.threads import torch_region
from skemvae.networks.vae import VAE

# Numbers in the widest intermediate array of a block: it stays in the cache.
_BLOCK_NUMBERS = 2**18


def device_of(name: str) -> torch.device:
    """Return the device that a parameter asks for; "auto" prefers a GPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.Generator(name)  # more than a name: a device that works
        return torch.device(name)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"device={name!r} is not to be had, use 'auto' or 'cpu': {error}"
        ) from None


class Inference:
    """Networks at work on codes of one dtype, on one device.

    Parameters
    ----------
    vae : VAE
        Left as it is: a copy is converted.
    dtype : numpy dtype
        float32 or float64: of the arithmetic and of the results.
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
        """Importance estimates of log p(u), and their standard errors; each (n,), nats."""
        prior = self._vae.prior_density()
        like = torch.empty(0, dtype=self._dtype, device=self._device)
        nodes = Nodes.of(n_samples, self._vae.n_components, seed, like)

        def estimate(u: Tensor) -> Tensor:
            weights = log_weights(
                lambda z: self._log_likelihood(u, z), prior, self._vae.posterior(u), nodes
            )
            return torch.stack(log_evidence(*weights), -1)

        both = self._each(codes, n_samples, estimate)
        return both[:, 0], both[:, 1]

    def elbo(self, codes: Any, n_samples: int, seed: int) -> Any:
        """E_q[log p(u | z)] - KL(q || p(z)), shape (n,), nats."""
        prior = self._vae.prior_density()
        noise = self._tensor(matched_noise(n_samples, self._vae.n_components, seed))[None]

        def bound(u: Tensor) -> Tensor:
            q = self._vae.posterior(u)
            z = q.at(noise)
            return self._log_likelihood(u, z).mean(-1) - prior.kl(q, z).mean(-1)

        return self._each(codes, n_samples, bound)

    def _log_likelihood(self, u: Tensor, z: Tensor) -> Tensor:
        size = max(1, _BLOCK_NUMBERS // (len(u) * self._width))
        return torch.cat([self._vae.decoder.log_prob(u, part) for part in z.split(size, 1)], -1)

    def _tensor(self, array: Any) -> Tensor:
        # A copy: torch must not see read-only memory.
        return torch.tensor(array, dtype=self._dtype, device=self._device)

    def _each(self, array: Any, n_samples: int, function: Callable[[Tensor], Tensor]) -> Any:
        size = max(1, _BLOCK_NUMBERS // (n_samples * self._width))
        starts = range(0, len(array), size)
        with torch_region() as region:
            parts = region.map(lambda i: function(self._tensor(array[i : i + size])).cpu(), starts)
        return torch.cat(parts).numpy()
