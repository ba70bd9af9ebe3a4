"""Every gradient is unbiased: its mean is the gradient of the exact bound, by quadrature."""

import copy
import functools
import math

import numpy as np
import pytest
import torch

from skemvae.likelihoods import Gaussian
from skemvae.likelihoods.columns import Table
from skemvae.networks.architecture import Architecture
from skemvae.networks.gradients import ESTIMATORS
from skemvae.networks.training import Codes

PRIORS = ["normal", "mixture", "vamp"]
N_CHUNKS, CHUNK, N_SAMPLES = 100, 300, 2
estimators = pytest.mark.parametrize("name", ESTIMATORS, ids="-".join)
priors = pytest.mark.parametrize("prior", PRIORS)


def rows(n=8, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 2)))


def tiny_vae(prior="normal", k=1, hidden=(3,), seed=0, shared_encoder=True):
    """A small model of two columns, with parameters anywhere but at a special point."""
    generator = torch.Generator().manual_seed(seed)
    head, X, weight = Gaussian(), rows().numpy(), np.ones(8)
    table = Table.of([(head, np.arange(2))], X, ("a", "b"), weight, standardize=False)
    codes = Codes.of(table.encode(X, np.float32, exact=False), weight)
    architecture = Architecture(k, hidden, "tanh", prior, 2, shared_encoder)
    vae = architecture.build([head], table, codes, generator)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return vae.double()


def gradient(value, parameters):
    parts = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([part.ravel() for part in parts])


def draws(vae, name, beta, parameters, n_chunks=N_CHUNKS):
    """Gradients of the surrogate, each a mean over CHUNK draws of noise, and all bounds."""
    generator = torch.Generator().manual_seed(1)
    u = rows(1).expand(CHUNK, -1)
    gradients, bounds = [], []
    for _ in range(n_chunks):
        noise = torch.randn(CHUNK, N_SAMPLES, vae.n_components, generator=generator, dtype=u.dtype)
        surrogate, bound = ESTIMATORS[name](vae, u, noise, beta)
        gradients.append(gradient(surrogate.mean(), parameters))
        bounds.append(bound)
    return torch.stack(gradients), torch.cat(bounds)


@functools.cache
def drawn(name, prior, beta):
    vae = tiny_vae(prior)
    return draws(vae, name, beta, list(vae.parameters()))


@functools.cache
def exact(prior, objective, beta):
    """The bound of the row and its gradient, by the trapezoidal rule over the noise."""
    vae = tiny_vae(prior)
    noise = torch.linspace(-8, 8, 300, dtype=torch.float64)
    weight = torch.softmax(-(noise**2) / 2, 0)
    if objective == "elbo":
        noise = noise[:, None]
    else:
        noise, weight = torch.cartesian_prod(noise, noise), torch.outer(weight, weight).ravel()
    u = rows(1).expand(len(noise), -1)
    q = vae.posterior(u)
    z = q.at(noise[..., None])
    kl = q.log_prob(z) - vae.prior_density().log_prob(z)
    log_ratio = vae.decoder.log_prob(u, z) - beta * kl
    bound = weight @ (torch.logsumexp(log_ratio, -1) - math.log(noise.shape[1]))
    return bound.detach(), gradient(bound, list(vae.parameters()))


def variance(gradients):
    """Of a gradient from one draw, summed over the parameters."""
    return CHUNK * gradients.var(0).sum().item()


@pytest.mark.parametrize("beta", [1.0, 0.4])
@priors
@estimators
def test_the_mean_gradient_is_that_of_the_exact_bound(name, prior, beta):
    _, expected = exact(prior, name[0], beta)
    gradients, _ = drawn(name, prior, beta)
    standard_error = gradients.std(0) / math.sqrt(N_CHUNKS)
    deviation = (gradients.mean(0) - expected).abs() / (standard_error + 1e-9)
    assert deviation.max() < 5, deviation


@priors
@estimators
def test_the_mean_bound_is_the_exact_bound_whatever_the_weight_of_the_kl_term(name, prior):
    expected, _ = exact(prior, name[0], 1.0)
    for beta in (1.0, 0.4):
        _, bounds = drawn(name, prior, beta)
        assert not bounds.requires_grad
        assert abs(bounds.mean() - expected) < 5 * bounds.std() / math.sqrt(len(bounds))


@priors
@pytest.mark.parametrize("gradient", ["reparameterization", "doubly_reparameterized"])
def test_without_its_kl_term_the_elbo_is_the_reconstruction(gradient, prior):
    vae, u = tiny_vae(prior), rows()
    noise = torch.randn(8, 3, 1, generator=torch.Generator().manual_seed(0), dtype=u.dtype)
    surrogate, _ = ESTIMATORS["elbo", gradient](vae, u, noise, 0.0)
    expected = vae.decoder.log_prob(u, vae.posterior(u).at(noise)).mean(-1)
    torch.testing.assert_close(surrogate, expected)


@estimators
def test_the_gradient_through_a_prior_that_shares_the_encoder_flows_in_full(name):
    """It is the gradient of an equal encoder of the prior's own, draw by draw."""
    shared = tiny_vae("vamp")
    apart = copy.deepcopy(shared)
    apart.prior.own_encoder = copy.deepcopy(shared.encoder)
    u = rows()
    noise = torch.randn(8, 2, 1, generator=torch.Generator().manual_seed(0), dtype=u.dtype)
    whole = gradient(ESTIMATORS[name](shared, u, noise, 1.0)[0].sum(), shared.phi())
    surrogate = ESTIMATORS[name](apart, u, noise, 1.0)[0].sum()
    parts = gradient(surrogate, [*apart.phi(), *apart.prior.own_encoder.parameters()]).chunk(2)
    torch.testing.assert_close(whole, sum(parts))
    assert parts[1].abs().max() > 1e-2


def with_exact_posterior():
    """A linear Gaussian model whose encoder is Bayes' rule."""
    vae = tiny_vae(hidden=())
    (head,) = vae.decoder.heads
    with torch.no_grad():
        loading = vae.decoder.outputs.weight[:, 0]
        scaled = loading / (head.log_variance.exp() + head.min_variance)
        posterior_variance = 1 / (1 + scaled @ loading)
        mean = -posterior_variance * (scaled @ vae.decoder.outputs.bias)
        log_scale = posterior_variance.log() / 2
        vae.encoder.moments.weight.zero_()[0] = posterior_variance * scaled
        vae.encoder.moments.bias.copy_(torch.stack([mean, log_scale]))
    return vae


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_the_path_alone_has_no_variance_where_the_posterior_is_exact(objective):
    vae = with_exact_posterior()
    still, bounds = draws(vae, (objective, "doubly_reparameterized"), 1.0, vae.phi())
    noisy, _ = draws(vae, (objective, "reparameterization"), 1.0, vae.phi())
    assert still.abs().max() < 1e-12
    assert variance(noisy) > 1e-2
    assert bounds.std() < 1e-12  # every sample tells log p(x)


def test_the_baseline_leaves_no_variance_where_the_posterior_is_exact():
    vae = with_exact_posterior()
    still, _ = draws(vae, ("elbo", "score_function"), 1.0, vae.phi())
    assert still.abs().max() < 1e-12


@priors
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_the_score_function_has_a_larger_variance_than_the_path(objective, prior, capsys):
    """In some dimensions: in a single one either may win."""
    vae = tiny_vae(prior, k=8)
    names = [name for name in ESTIMATORS if name[0] == objective]
    of = {name[1]: variance(draws(vae, name, 1.0, vae.phi(), 30)[0]) for name in names}
    with capsys.disabled():
        print(f"\n{objective}, {prior}:", *(f"{name} {value:.3g}" for name, value in of.items()))
    assert of["score_function"] > of["reparameterization"]
