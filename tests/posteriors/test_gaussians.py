"""Densities of z against SciPy, divergences against quadrature, draws against densities."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from skemvae.posteriors.gaussians import DiagonalGaussian, GaussianMixture, StandardNormal
from tests.strategies import seeds

sizes = st.integers(1, 4)


def gaussian(seed, n=3, k=1):
    rng = np.random.default_rng(seed)
    mean, log_scale = 2 * rng.standard_normal((n, k)), rng.uniform(-2, 1, (n, k))
    return DiagonalGaussian(torch.from_numpy(mean), torch.from_numpy(log_scale))


def mixture(seed, n_components=3, k=1):
    parts = gaussian(seed, n_components, k)
    weight = np.random.default_rng(seed).dirichlet(np.ones(n_components))
    return GaussianMixture(torch.from_numpy(weight).log(), parts.mean, parts.log_scale)


def normal(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def scipy_log_prob(mean, log_scale, z):
    return stats.norm(mean.numpy(), log_scale.exp().numpy()).logpdf(z.numpy()).sum(-1)


def scipy_mixture(p, z):
    each = scipy_log_prob(p.mean, p.log_scale, z[..., None, :])
    return special.logsumexp(each + p.log_weight.numpy(), axis=-1)


@given(seeds, sizes, sizes, st.booleans())
def test_a_gaussian_has_the_density_of_scipy(seed, n, k, shared):
    """Also at points that all rows share."""
    q, z = gaussian(seed, n, k), 3 * normal(seed, 1 if shared else n, 5, k)
    expected = scipy_log_prob(q.mean[:, None], q.log_scale[:, None], z)
    np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-10, atol=1e-10)


@given(seeds, sizes, sizes)
def test_priors_have_the_densities_of_scipy(seed, n, k):
    p, z = mixture(seed, n, k), 3 * normal(seed, n, 5, k)
    np.testing.assert_allclose(p.log_prob(z), scipy_mixture(p, z), rtol=1e-9, atol=1e-9)
    expected = stats.norm.logpdf(z.numpy()).sum(-1)
    np.testing.assert_allclose(StandardNormal().log_prob(z), expected, rtol=1e-12)


@given(seeds, st.floats(-8, 0))
def test_a_narrow_component_far_from_zero_keeps_its_digits_in_float32(seed, log_scale):
    rng = np.random.default_rng(seed)
    mean = torch.from_numpy(3 * rng.standard_normal((4, 2))).float()
    p = GaussianMixture(torch.full((4,), 0.25).log(), mean, torch.full((4, 2), log_scale))
    z = mean[:, None] + np.exp(log_scale) * normal(seed, 4, 5, 2).float()
    expected = GaussianMixture(p.log_weight.double(), mean.double(), p.log_scale.double())
    error = p.log_prob(z) - expected.log_prob(z.double())
    assert error.abs().max() < 1e-3


@given(seeds, sizes, sizes)
def test_the_divergence_from_a_normal_prior_is_its_integral(seed, n, k):
    """Gauss-Hermite quadrature is exact for a polynomial; coordinates add up."""
    q = gaussian(seed, n, k)
    nodes, weight = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(3))
    expected = 0.0
    for j in range(k):
        one = DiagonalGaussian(q.mean[:, j : j + 1], q.log_scale[:, j : j + 1])
        z = one.at(nodes[None, :, None])
        expected += (one.log_prob(z) - StandardNormal().log_prob(z)) @ (weight / weight.sum())
    kl = StandardNormal().kl(q, q.at(normal(seed, n, 2, k)))
    assert kl.shape == (n, 1)
    torch.testing.assert_close(kl[:, 0], expected)
    assert (kl >= -1e-12).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_divergence_from_a_mixture_is_unbiased(seed):
    q, p = gaussian(seed), mixture(seed)
    z = torch.linspace(-30, 30, 20001, dtype=torch.float64)[None, :, None]
    log_q = scipy_log_prob(q.mean[:, None], q.log_scale[:, None], z)
    expected = integrate.simpson(np.exp(log_q) * (log_q - scipy_mixture(p, z)), x=z[0, :, 0])
    kl = p.kl(q, q.at(normal(seed, 1, 20000, 1)))
    error = kl.std(-1).numpy() / np.sqrt(kl.shape[1])
    assert (np.abs(kl.mean(-1).numpy() - expected) < 5 * error + 1e-9).all()
    assert (expected > 0).all()


@given(seeds, sizes)
def test_a_mixture_of_one_standard_component_is_the_standard_normal(seed, k):
    zeros = torch.zeros(1, k, dtype=torch.float64)
    one, z = GaussianMixture(zeros[:, 0], zeros, zeros), normal(seed, 3, 5, k)
    torch.testing.assert_close(one.log_prob(z), StandardNormal().log_prob(z))
    assert torch.equal(one.at(torch.zeros(5), z[0]), StandardNormal().at(torch.zeros(5), z[0]))


@pytest.mark.parametrize("seed", range(5))
def test_draws_have_the_density(seed):
    """Kolmogorov-Smirnov for each coordinate, and the moments across coordinates."""
    n, rng = 5000, np.random.default_rng(seed)
    q, p = gaussian(seed, 2, 2), mixture(seed, 3, 2)
    points = q.at(normal(seed, 2, n, 2))
    for z, mean, scale in zip(points, q.mean, q.log_scale.exp(), strict=True):
        for j in range(2):
            assert stats.kstest(z[:, j], stats.norm(mean[j], scale[j]).cdf).pvalue > 1e-3
    z = p.at(torch.from_numpy(rng.uniform(size=n)), normal(seed, n, 2))
    weight, scale = p.log_weight.exp(), p.log_scale.exp()
    for j in range(2):
        parts = stats.norm(p.mean[:, j], scale[:, j])
        cdf = parts.cdf(np.sort(z[:, j])[:, None]) @ weight.numpy()
        assert stats.kstest(cdf, "uniform").pvalue > 1e-3
    products = z[:, 0] * z[:, 1]
    expected = weight @ (p.mean[:, 0] * p.mean[:, 1])
    assert abs(products.mean() - expected) < 5 * products.std() / np.sqrt(n)


@given(seeds, sizes)
def test_every_choice_falls_on_a_component(seed, n_components):
    """0, the smallest number above it, and 1, to which float32 rounds, too."""
    p = mixture(seed, n_components, 1)
    choice = torch.tensor([0.0, 1e-300, 0.5, 1 - 1e-16, 1.0], dtype=torch.float64)
    z = p.at(choice, torch.zeros(5, 1, dtype=torch.float64))
    assert torch.isin(z, p.mean).all()
    assert z[0] == p.mean[0]
    assert z[-1] == p.mean[-1]


@given(seeds)
def test_a_detached_density_is_the_same_without_a_gradient(seed):
    q, z = gaussian(seed), normal(seed, 3, 5, 1)
    q.mean.requires_grad_()
    assert q.log_prob(z).requires_grad
    assert not q.detach().log_prob(z).requires_grad
    assert torch.equal(q.detach().log_prob(z), q.log_prob(z).detach())
