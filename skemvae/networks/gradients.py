"""Estimators of the gradient of the bound, by name.

Each takes the networks, codes u of shape (n, d), standard normal noise of
shape (n, S, k) and the weight β of the KL term, which is 1 except during
warm-up. It returns two tensors of shape (n,): a *surrogate*, whose gradient is
the estimate, and the value of the bound with β = 1.

All are unbiased for both θ and φ. If the prior contains the encoder, the
gradient through the prior counts as one of θ and is never blocked.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from skemvae.core.bound import importance_bound
from skemvae.networks.vae import VAE

Estimator = Callable[[VAE, Tensor, Tensor, float], tuple[Tensor, Tensor]]


def _average(log_ratio: Tensor) -> Tensor:
    """The IWAE bound from S samples of log p(x, z) - log q(z | x)."""
    weight = torch.full_like(log_ratio, 1 / log_ratio.shape[-1])
    bound: Tensor = importance_bound(log_ratio, torch.zeros_like(log_ratio), weight)
    return bound


def elbo_reparameterized(vae: VAE, u: Tensor, noise: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Differentiate through z = mean + scale * noise, with a closed-form KL where one exists.

    References
    ----------
    Kingma and Welling (2014), "Auto-encoding variational Bayes".
    """
    q = vae.posterior(u)
    z = q.at(noise)
    likelihood = vae.decoder.log_prob(u, z).mean(-1)
    kl = vae.prior_density().kl(q, z).mean(-1)
    return likelihood - beta * kl, (likelihood - kl).detach()


def elbo_along_the_path(vae: VAE, u: Tensor, noise: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Differentiate through z alone, without the score of q, whose expectation is 0.

    The variance vanishes where q is the exact posterior.

    References
    ----------
    Roeder, Wu and Duvenaud (2017), "Sticking the landing".
    """
    q = vae.posterior(u)
    z = q.at(noise)
    likelihood = vae.decoder.log_prob(u, z)
    kl = q.detach().log_prob(z) - vae.prior_density().log_prob(z)
    return (likelihood - beta * kl).mean(-1), (likelihood - kl).mean(-1).detach()


def elbo_score_function(vae: VAE, u: Tensor, noise: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """REINFORCE: no gradient through z; each sample has the others as its baseline.

    References
    ----------
    Williams (1992), "Simple statistical gradient-following algorithms";
    Kool, van Hoof and Welling (2019), "Buy 4 REINFORCE samples, get a
    baseline for free!".
    """
    q = vae.posterior(u)
    z = q.at(noise).detach()
    log_q = q.log_prob(z)
    likelihood, log_prior = vae.decoder.log_prob(u, z), vae.prior_density().log_prob(z)
    reward = (likelihood + beta * (log_prior - log_q)).detach()
    others = (reward.sum(-1, keepdim=True) - reward) / (reward.shape[-1] - 1)
    surrogate = (likelihood + beta * log_prior + (reward - others) * log_q).mean(-1)
    return surrogate, (likelihood + log_prior - log_q).mean(-1).detach()


def iwae_reparameterized(vae: VAE, u: Tensor, noise: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Differentiate through z = mean + scale * noise.

    References
    ----------
    Burda, Grosse and Salakhutdinov (2016), "Importance weighted autoencoders".
    """
    q = vae.posterior(u)
    z = q.at(noise)
    likelihood = vae.decoder.log_prob(u, z)
    kl = q.log_prob(z) - vae.prior_density().log_prob(z)
    surrogate = _average(likelihood - beta * kl)
    return surrogate, _average((likelihood - kl).detach())


def iwae_doubly_reparameterized(
    vae: VAE, u: Tensor, noise: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """Differentiate through z alone, with the score of q reparameterised as well.

    References
    ----------
    Tucker, Lawson, Gu and Maddison (2019), "Doubly reparameterized gradient
    estimators for Monte Carlo objectives".
    """
    q = vae.posterior(u)
    z = q.at(noise)
    likelihood = vae.decoder.log_prob(u, z)
    kl = q.detach().log_prob(z) - vae.prior_density().log_prob(z)
    log_ratio = likelihood - beta * kl
    share = torch.softmax(log_ratio, -1).detach()
    if z.requires_grad:
        # θ needs Σ share ∇ log w; φ, through z, needs Σ share² ∇ log w if β = 1. Leaving out the
        # score of q is unbiased only with this factor, which subtracts β share (1 - share).
        factor = 1 - beta * (1 - share)
        z.register_hook(lambda gradient: factor[..., None] * gradient)
    return (share * log_ratio).sum(-1), _average((likelihood - kl).detach())


def iwae_score_function(vae: VAE, u: Tensor, noise: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """No gradient through z; each sample has the bound of the others as its baseline.

    References
    ----------
    Mnih and Rezende (2016), "Variational inference for Monte Carlo
    objectives", with the bound of the S - 1 others as baseline.
    """
    q = vae.posterior(u)
    z = q.at(noise).detach()
    log_q = q.log_prob(z)
    likelihood, log_prior = vae.decoder.log_prob(u, z), vae.prior_density().log_prob(z)
    log_ratio = likelihood + beta * (log_prior - log_q)
    bound = _average(log_ratio)
    n_samples = log_ratio.shape[-1]
    itself = torch.eye(n_samples, dtype=torch.bool, device=u.device)
    repeated = log_ratio.detach()[:, None, :].masked_fill(itself, -torch.inf)
    others = _average(repeated) + math.log(n_samples / (n_samples - 1))
    surrogate = bound + ((bound.detach()[:, None] - others) * log_q).sum(-1)
    return surrogate, _average((likelihood + log_prior - log_q).detach())


ESTIMATORS: dict[tuple[str, str], Estimator] = {
    ("elbo", "reparameterization"): elbo_reparameterized,
    ("elbo", "doubly_reparameterized"): elbo_along_the_path,
    ("elbo", "score_function"): elbo_score_function,
    ("iwae", "reparameterization"): iwae_reparameterized,
    ("iwae", "doubly_reparameterized"): iwae_doubly_reparameterized,
    ("iwae", "score_function"): iwae_score_function,
}
