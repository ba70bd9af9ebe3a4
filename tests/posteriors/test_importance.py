"""Importance sampling: right in expectation, with honest errors, the same for every row."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skemvae.networks import answers as inference
from skemvae.networks.answers import Inference
from skemvae.posteriors.gaussians import DiagonalGaussian, StandardNormal
from skemvae.posteriors.importance import Nodes, log_evidence, log_weights
from tests.networks.test_gradients import priors, rows, tiny_vae
from tests.posteriors.test_gaussians import gaussian, mixture
from tests.strategies import seeds

LIKE = torch.empty(0, dtype=torch.float64)
WIDTH = 0.005
GRID = WIDTH * torch.arange(-12000, 12001, dtype=torch.float64)[None, :, None]


def answers(vae):
    return Inference(vae, np.float64, "cpu")


def integral(log_values):
    """Over the grid, by the trapezoidal rule."""
    return torch.logsumexp(log_values, -1) + math.log(WIDTH)


# Points.


@given(seeds, st.integers(1, 300), st.integers(1, 5))
def test_nodes_are_sets_of_equal_size_fixed_by_their_seed(seed, n_samples, k):
    nodes, again = (Nodes.of(n_samples, k, seed, LIKE) for _ in range(2))
    size = math.ceil(n_samples / nodes.n_sets)
    assert nodes.n_sets == min(16, max(1, n_samples // 8))
    n_prior = len(nodes.choice)
    assert nodes.noise.shape == (1, nodes.n_sets * size - n_prior, k)
    assert nodes.prior_noise.shape == (n_prior, k)
    assert nodes.noise.isfinite().all()
    assert ((nodes.choice > 0) & (nodes.choice < 1)).all()
    for name in ("noise", "choice", "prior_noise"):
        assert torch.equal(getattr(nodes, name), getattr(again, name))
    assert not torch.equal(nodes.noise, Nodes.of(n_samples, k, seed ^ 1, LIKE).noise)
    assert len(nodes.noise.unique()) == nodes.noise.numel()  # no set is another's copy


@given(seeds, st.integers(8, 3000))
def test_about_a_tenth_of_the_points_is_from_the_prior(seed, n_samples):
    nodes = Nodes.of(n_samples, 2, seed, LIKE)
    n_prior, n_q = len(nodes.choice), nodes.noise.shape[1]
    assert n_prior % nodes.n_sets == n_q % nodes.n_sets == 0
    assert 0.06 < n_prior / (n_prior + n_q) < 0.16


def test_points_of_more_dimensions_than_sobol_has_are_normal_too():
    nodes = Nodes.of(64, 30000, 0, LIKE)
    assert stats.kstest(nodes.noise[0, :, ::500].ravel(), "norm").pvalue > 1e-3


# Weights.


@given(seeds, st.integers(1, 3))
def test_no_weight_exceeds_ten_times_the_likelihood(seed, k):
    """However narrow and far away q is; the likelihood is 1 here."""
    for prior in (mixture(seed, 3, k), StandardNormal()):
        q, nodes = gaussian(seed, 4, k), Nodes.of(64, k, seed, LIKE)
        weights, control = log_weights(lambda z: z.new_zeros(z.shape[:2]), prior, q, nodes)
        assert weights.shape == control.shape == (4, 8, 8)
        assert (weights <= math.log(10) + 1e-9).all()


@pytest.mark.parametrize("seed", range(3))
def test_weights_without_a_likelihood_are_one_on_average(seed):
    for prior in (mixture(seed), StandardNormal()):
        q, nodes = gaussian(seed), Nodes.of(4096, 1, seed, LIKE)
        weights = log_weights(lambda z: z.new_zeros(z.shape[:2]), prior, q, nodes)
        estimate, error = log_evidence(*weights)
        assert (estimate.abs() < 4 * error + 1e-6).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_control_variate_is_zero_on_average(seed):
    q, nodes = gaussian(seed), Nodes.of(4096, 1, seed, LIKE)
    _, control = log_weights(lambda z: z.new_zeros(z.shape[:2]), StandardNormal(), q, nodes)
    means = control.mean(-1)
    assert (means.mean(-1).abs() < 4 * means.std(-1) / 4 + 1e-6).all()


def test_with_the_posterior_as_q_the_estimate_is_exact():
    """p(x | z) proportional to q(z) / p(z): the control variate explains all of the variance."""
    prior, q = StandardNormal(), gaussian(0, 5, 2)
    nodes = Nodes.of(64, 2, 0, LIKE)
    weights = log_weights(lambda z: q.log_prob(z) - prior.log_prob(z) - 3.0, prior, q, nodes)
    estimate, error = log_evidence(*weights)
    np.testing.assert_allclose(estimate, -3.0, atol=1e-10)
    assert (error < 1e-10).all()


def test_the_control_variate_leaves_the_estimate_unbiased():
    """Over many seeds, for few points and a q far from the posterior."""
    prior = StandardNormal()
    q = DiagonalGaussian(torch.tensor([[0.5]]).double(), torch.tensor([[-0.3]]).double())
    posterior = DiagonalGaussian(torch.tensor([[1.0]]).double(), torch.tensor([[-0.6]]).double())
    estimates = []
    for seed in range(400):
        weights = log_weights(
            lambda z: posterior.log_prob(z) - prior.log_prob(z),
            prior,
            q,
            Nodes.of(128, 1, seed, LIKE),
        )
        estimates.append(log_evidence(*weights)[0].exp().item())
    assert abs(np.mean(estimates) - 1) < 4 * np.std(estimates) / 20


def test_one_set_has_an_estimate_without_an_error():
    estimate, error = log_evidence(torch.zeros(3, 1, 5), torch.zeros(3, 1, 5))
    assert (estimate == 0).all()
    assert error.isnan().all()


def test_a_row_that_no_point_reaches_has_no_evidence():
    estimate, _ = log_evidence(torch.full((1, 8, 2), -torch.inf), torch.zeros(1, 8, 2))
    assert estimate.item() == -torch.inf


# Evidence.


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_a_linear_gaussian_model_has_its_exact_density(seed, k):
    """Whatever the encoder proposes."""
    vae, u = tiny_vae(k=k, hidden=(), seed=seed), rows(20, seed)
    (head,) = vae.decoder.heads
    loadings, mean = (p.detach().numpy() for p in vae.decoder.outputs.parameters())
    noise = head.log_variance.exp().detach().numpy() + head.min_variance
    exact = stats.multivariate_normal(mean, loadings @ loadings.T + np.diag(noise)).logpdf(u)
    estimate, error = answers(vae).log_evidence(u.numpy(), 2048, seed)
    assert (np.abs(estimate - exact) < 4 * error + 1e-6).all()
    assert error.mean() < 0.05


@priors
@pytest.mark.parametrize("seed", range(3))
def test_every_identity_of_the_bound_holds_by_quadrature(seed, prior):
    """E_q[log p(x|z)] - KL(q||p) = log p(x) - KL(q||p(z|x)), as Inference finds them, too."""
    vae, u = tiny_vae(prior, seed=seed).requires_grad_(False), rows(6, seed)
    q, p = vae.posterior(u), vae.prior_density()
    log_q, log_p, likelihood = q.log_prob(GRID), p.log_prob(GRID), vae.decoder.log_prob(u, GRID)
    evidence = integral(likelihood + log_p)

    def mean(values):
        return (log_q.exp() * values).sum(-1) * WIDTH

    torch.testing.assert_close(integral(log_p), torch.zeros(1, dtype=u.dtype))
    torch.testing.assert_close(integral(log_q), torch.zeros(6, dtype=u.dtype))
    # Where the divergence is not in closed form, its terms are averaged.
    kl = p.kl(q, GRID)
    kl = kl[:, 0] if kl.shape[-1] == 1 else mean(kl)
    bound = mean(likelihood) - kl
    posterior = likelihood + log_p - evidence[:, None]
    torch.testing.assert_close(bound, evidence - mean(log_q - posterior))

    estimate, error = answers(vae).log_evidence(u.numpy(), 2048, 1)
    assert (np.abs(estimate - evidence.numpy()) < 4 * error + 1e-6).all()
    elbo = answers(vae).elbo(u.numpy(), 2048, 1)
    np.testing.assert_allclose(elbo, bound, rtol=0.01, atol=0.01)
    assert (elbo <= estimate + 4 * error + 1e-6).all()


@pytest.mark.parametrize("size", [8, 32])
def test_on_average_the_estimate_lies_between_the_bound_less_a_constant_and_the_truth(size):
    """With the share a of the prior: F(q) + log(1 - a) + KL(q||r) <= E[log mean w] <= log p(x)."""
    q, n = gaussian(0, 30), 100
    nodes = [Nodes.of(size, 1, seed, LIKE) for seed in range(n)]
    prior, likelihood = StandardNormal(), torch.distributions.Normal(2.0, 0.5)
    share = len(nodes[0].choice) / (len(nodes[0].choice) + nodes[0].noise.shape[1])

    def log_likelihood(z):
        return likelihood.log_prob(z).sum(-1)

    def mean(values):
        return (q.log_prob(GRID).exp() * values).sum(-1) * WIDTH

    log_q, log_p = q.log_prob(GRID), prior.log_prob(GRID)
    log_r = torch.logaddexp(log_q + math.log1p(-share), log_p + math.log(share))
    floor = mean(log_likelihood(GRID) + log_p - log_r) + math.log1p(-share)
    bound = mean(log_likelihood(GRID) + log_p - log_q)
    assert (floor >= bound + math.log1p(-share) - 1e-6).all()
    logs = torch.stack(
        [
            log_weights(log_likelihood, prior, q, points)[0].flatten(1).logsumexp(1)
            - math.log(len(points.choice) + points.noise.shape[1])
            for points in nodes
        ]
    )
    error = logs.std(0) / math.sqrt(n)
    assert (logs.mean(0) >= floor - 5 * error - 1e-6).all()
    assert (logs.mean(0) <= EVIDENCE + 5 * error + 1e-6).all()


EVIDENCE = stats.norm(0, math.sqrt(1.25)).logpdf(2)


@functools.cache
def nodes_of_seeds(n_samples):
    return [Nodes.of(n_samples, 1, seed, LIKE) for seed in range(120)]


def estimates(n_samples, mean, scale):
    """Of log p(x) = log N(2; 0, 1 + 0.5²), and their errors, with 120 seeds; q is given."""
    q = DiagonalGaussian(*torch.tensor([[[mean]], [[math.log(scale)]]], dtype=LIKE.dtype))
    likelihood = torch.distributions.Normal(2.0, 0.5)

    def estimate(nodes):
        weights = log_weights(lambda z: likelihood.log_prob(z).sum(-1), StandardNormal(), q, nodes)
        return [part.item() for part in log_evidence(*weights)]

    return np.transpose([estimate(nodes) for nodes in nodes_of_seeds(n_samples)])


@pytest.mark.parametrize(("mean", "scale"), [(1.4, 0.4), (0.5, 0.2)])
def test_standard_errors_are_calibrated(mean, scale):
    """The spread over seeds is what one call says of itself."""
    estimate, error = estimates(512, mean, scale)
    assert 0.5 < error.mean() / estimate.std() < 2
    deviation = (estimate - EVIDENCE) / error
    assert abs(deviation.mean()) < 0.5
    assert 0.5 < np.sqrt(np.mean(deviation**2)) < 2


def test_the_estimate_rises_to_the_evidence_with_the_number_of_samples():
    means = [estimates(n_samples, 0.5, 0.2)[0].mean() for n_samples in (2, 16, 64)]
    assert (np.diff([*means, EVIDENCE]) > 0.2).all()
    assert abs(estimates(1024, 0.5, 0.2)[0].mean() - EVIDENCE) < 0.05


@priors
def test_a_row_has_the_same_value_in_any_company(prior, monkeypatch):
    vae, u = answers(tiny_vae(prior, k=2)), rows(12).numpy()
    together = np.stack([*vae.log_evidence(u, 64, 0), vae.elbo(u, 64, 0)], -1)
    np.testing.assert_array_equal(vae.log_evidence(u, 64, 0)[0], together[:, 0])
    for i in range(12):
        alone = np.stack([*vae.log_evidence(u[[i]], 64, 0), vae.elbo(u[[i]], 64, 0)], -1)
        np.testing.assert_allclose(alone, together[[i]], rtol=1e-10)
    monkeypatch.setattr(inference, "_BLOCK_NUMBERS", 64 * 3 * 5)  # blocks of five rows
    np.testing.assert_allclose(vae.log_evidence(u, 64, 0)[0], together[:, 0], rtol=1e-10)
    others = np.r_[u[:1], 1e3 * u[1:]]
    np.testing.assert_allclose(vae.log_evidence(others, 64, 0)[0][0], together[0, 0], rtol=1e-10)
