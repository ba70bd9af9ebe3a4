"""Laws of the decomposition of log p(x): its identities, and gaps that are what they say."""

import functools

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from scipy.special import logsumexp
from scipy.stats import norm

from skemvae import (
    BoundDecomposition,
    EMGaussianMixture,
    VAEEstimator,
    VariationalEM,
    decompose_bound,
)
from skemvae.models import BayesianMixture, FactorModel, LatentVariableModel
from skemvae.posteriors.gaussians import FullGaussian
from tests.laws import costly
from tests.own_models import GaussianPair, LinearGaussian

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# A standard error is an estimate, too.
SIGMAS = 5.0


def rows(n=60, d=3, seed=0):
    rng = np.random.RandomState(seed)
    z = rng.normal(size=(n, 1))
    return 3 + np.c_[z, -z, z**2][:, :d] + 0.5 * rng.normal(size=(n, d))


def counts(n=60):
    return np.random.RandomState(0).poisson(np.exp(rows(n) / 3))


FITTED = {
    "em": lambda: EMGaussianMixture(2, random_state=0).fit(rows()),
    "em diag": lambda: EMGaussianMixture(3, covariance_type="diag", random_state=0).fit(rows()),
    "bayesian": lambda: VariationalEM(BayesianMixture(3), random_state=0).fit(rows()),
    "factors": lambda: VariationalEM(FactorModel(1), random_state=0).fit(rows()),
    "counts": lambda: VariationalEM(FactorModel(1, "poisson"), random_state=0).fit(counts()),
    "enumerated": lambda: VariationalEM(GaussianPair(2), random_state=0).fit(rows()),
    "own": lambda: VariationalEM(LinearGaussian(1), max_iter=20, random_state=0).fit(rows()),
    "vae": lambda: VAEEstimator(1, max_iter=30, random_state=0).fit(rows()),
    "vae counts": lambda: VAEEstimator(
        2,
        hidden_layer_sizes=(16,),
        likelihood="poisson",
        prior="mixture",
        max_iter=20,
        random_state=0,
    ).fit(counts()),
}
EXACT = {"em", "em diag", "factors", "enumerated"}


@functools.cache
def decomposed(name):
    estimator = FITTED[name]()
    X = counts(20) if "counts" in name else rows(20, seed=1)
    return estimator, X, estimator.decompose_bound(X)


each = pytest.mark.parametrize("name", FITTED)


@each
def test_identities_hold_row_by_row(name):
    _, X, parts = decomposed(name)
    frame = parts.to_frame()
    assert len(frame) == len(X)
    assert np.isfinite(frame.to_numpy()).all()
    for left, right in (
        (parts.log_likelihood, parts.elbo + parts.gap),
        (parts.elbo, parts.expected_log_likelihood - parts.kl_to_prior),
        (parts.gap, parts.approximation_gap + parts.amortisation_gap),
    ):
        np.testing.assert_allclose(left, right, atol=1e-10)


@each
def test_it_says_what_the_methods_say(name):
    estimator, X, parts = decomposed(name)
    np.testing.assert_allclose(parts.elbo, estimator.elbo(X), rtol=1e-9, atol=1e-9)
    difference = parts.log_likelihood - estimator.score_samples(X)
    if isinstance(estimator, VAEEstimator):  # another proposal
        _, std = estimator.score_samples(X, return_std=True)
        assert (abs(difference) < SIGMAS * np.hypot(std, parts.log_likelihood_std) + 1e-6).all()
    else:
        np.testing.assert_allclose(difference, 0, atol=1e-9)


@each
def test_no_gap_is_negative_beyond_its_error(name):
    _, _, parts = decomposed(name)
    error = SIGMAS * np.hypot(parts.gap_std, parts.amortisation_gap_std) + 1e-9
    assert (parts.gap > -error).all()
    assert (parts.approximation_gap > -error).all()
    assert (parts.amortisation_gap > -SIGMAS * parts.amortisation_gap_std - 1e-9).all()
    assert (parts.kl_to_prior > -SIGMAS * parts.elbo_std - 1e-9).all()


@pytest.mark.parametrize("name", sorted(EXACT))
def test_exact_posteriors_leave_no_gap(name):
    _, _, parts = decomposed(name)
    np.testing.assert_allclose(parts.gap, 0, atol=1e-8)
    assert not parts.gap_std.any()


def test_a_bayesian_mixture_pays_for_its_parameters():
    _, _, parts = decomposed("bayesian")
    assert (parts.gap > 0).all()


def test_the_prior_of_a_model_of_ones_own_is_optional():
    class WithoutPrior(LinearGaussian):
        log_prior = LatentVariableModel.log_prior

    X = rows(20)
    parts = VariationalEM(WithoutPrior(1), max_iter=3, random_state=0).fit(X).decompose_bound(X)
    assert np.isnan(parts.kl_to_prior).all()
    assert np.isfinite(parts.gap).all()


def test_an_error_in_a_prior_is_not_taken_for_its_absence():
    class Unfinished(LinearGaussian):
        def log_prior(self, Z, parameters):
            raise NotImplementedError("of the user's own")

    em = VariationalEM(Unfinished(1), max_iter=3, random_state=0).fit(rows(20))
    with pytest.raises(NotImplementedError, match="of the user's own"):
        em.decompose_bound(rows(20))


def test_a_prior_of_another_shape_is_named():
    class WrongPrior(LinearGaussian):
        def log_prior(self, Z, parameters):
            return Z

    em = VariationalEM(WrongPrior(1), max_iter=3, random_state=0).fit(rows(20))
    with pytest.raises(ValueError, match="log_prior returned"):
        em.decompose_bound(rows(20))


def test_enumeration_agrees_with_em():
    em, X, parts = decomposed("enumerated")
    logits, means, log_scale = em.model_.parameters_.values()
    weights = np.exp(logits - logsumexp(logits))
    twin = EMGaussianMixture.from_parameters(
        weights / weights.sum(), means, np.exp(2 * log_scale), covariance_type="spherical"
    )
    np.testing.assert_allclose(parts.kl_to_prior, twin.decompose_bound(X).kl_to_prior, atol=1e-8)


def test_a_linear_model_of_ones_own_in_closed_form():
    em, X, parts = decomposed("own")
    loadings, intercept, log_scale = em.model_.parameters_.values()
    weighted = loadings[0] * np.exp(-2 * log_scale)
    variance = 1 / (1 + weighted @ loadings[0])
    mean = variance * (X - intercept) @ weighted
    kl = 0.5 * (variance + mean**2 - 1 - np.log(variance))
    np.testing.assert_allclose(parts.kl_to_prior, kl, atol=1e-4)


def affine_vae():
    """A VAE of one latent dimension whose encoder is wrong on purpose."""
    vae = VAEEstimator(1, hidden_layer_sizes=(), max_iter=40, random_state=0).fit(rows())
    with torch.no_grad():
        vae.module_.encoder.moments.bias += torch.tensor([0.8, -0.7])
    return vae


def test_parts_of_a_vae_by_quadrature():
    vae = affine_vae()
    X = rows(6, seed=2)
    parts = vae.decompose_bound(X)
    codes = torch.from_numpy(vae._table.encode(X, np.float64, exact=True))
    z = np.linspace(-9, 9, 4001)
    module = vae._inference(np.float64)._vae
    with torch.no_grad():
        q = module.posterior(codes)
        points = torch.from_numpy(z)[None, :, None]
        log_likelihood = module.decoder.log_prob(codes, points).numpy() - vae._table.log_volume
    log_joint = log_likelihood + norm.logpdf(z)
    evidence = logsumexp(log_joint, axis=1) + np.log(z[1] - z[0])
    log_q = norm.logpdf(z, q.mean.numpy(), q.log_scale.exp().numpy())
    weight = np.exp(log_q) * (z[1] - z[0])
    expected = (weight * log_likelihood).sum(1)
    kl = (weight * (log_q - norm.logpdf(z))).sum(1)
    error = SIGMAS * parts.log_likelihood_std + 1e-4
    assert (abs(parts.log_likelihood - evidence) < error).all()
    np.testing.assert_allclose(parts.expected_log_likelihood, expected, atol=1e-3)
    np.testing.assert_allclose(parts.kl_to_prior, kl, atol=1e-6)
    _, std = vae.score_samples(X, return_std=True)
    assert (parts.log_likelihood_std < 0.1 * std).all()  # the best q is the better proposal
    # An affine Gaussian model has normal posteriors: all of the gap is amortisation.
    assert (parts.amortisation_gap > 0.05).all()
    np.testing.assert_allclose(parts.amortisation_gap, evidence - expected + kl, atol=0.005)


def test_rows_do_not_depend_on_each_other():
    estimator, X, parts = decomposed("vae")
    alone = estimator.decompose_bound(X[3:5])
    np.testing.assert_allclose(alone.amortisation_gap, parts.amortisation_gap[3:5], atol=1e-6)
    np.testing.assert_allclose(alone.log_likelihood, parts.log_likelihood[3:5], atol=1e-6)


def test_a_change_of_units_moves_likelihoods_only():
    X = rows()
    near = EMGaussianMixture(2, random_state=0).fit(X).decompose_bound(X)
    far = EMGaussianMixture(2, random_state=0).fit(1e8 + 1024 * X).decompose_bound(1e8 + 1024 * X)
    moved = X.shape[1] * np.log(1024)
    np.testing.assert_allclose(far.log_likelihood + moved, near.log_likelihood, atol=1e-5)
    np.testing.assert_allclose(far.kl_to_prior, near.kl_to_prior, atol=1e-5)


def test_a_row_beyond_all_densities_has_no_gap():
    em = EMGaussianMixture.from_parameters([1.0], [[0.0]], [[[1e-300]]])
    parts = em.decompose_bound([[1e100]])
    assert parts.log_likelihood == parts.elbo == -np.inf
    assert parts.gap == 0


def test_float32_stays_float32():
    estimator, X, parts = decomposed("vae")
    single = estimator.decompose_bound(X.astype(np.float32))
    assert single.elbo.dtype == np.float32
    np.testing.assert_allclose(single.elbo, parts.elbo, atol=1e-3)


def test_too_few_points_are_named():
    vae = VAEEstimator(1, max_iter=1, n_score_samples=8, random_state=0).fit(rows())
    with pytest.raises(ValueError, match="n_score_samples=8 leaves no error"):
        vae.decompose_bound(rows())


# Any pair.


@st.composite
def pairs(draw):
    rng = np.random.RandomState(draw(st.integers(0, 2**31)))
    n, k = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    log_likelihood = draw(st.sampled_from([1.0, 30.0])) * rng.normal(size=(n, k))
    prior, q = rng.dirichlet(np.ones(k)), rng.dirichlet(np.ones(k), n)
    return log_likelihood, np.log(prior), q


@given(pairs())
def test_any_pair(pair):
    log_likelihood, log_prior, q = pair
    parts = decompose_bound(log_likelihood, log_prior, np.log(q), q)
    evidence = logsumexp(log_likelihood + log_prior, axis=1)
    posterior = np.exp(log_likelihood + log_prior - evidence[:, None])
    with np.errstate(divide="ignore"):
        gap = (q * (np.log(q) - np.log(posterior))).sum(1)
    np.testing.assert_allclose(parts.log_likelihood, evidence, atol=1e-9)
    reachable = np.isfinite(gap)
    np.testing.assert_allclose(parts.gap[reachable], gap[reachable], atol=1e-8)
    np.testing.assert_allclose(parts.kl_to_prior, (q * (np.log(q) - log_prior)).sum(1), atol=1e-9)


def test_an_evidence_of_ones_own():
    zeros = np.zeros((2, 3))
    parts = decompose_bound(zeros, np.zeros(3), zeros, zeros + 1 / 3, log_evidence=[1.0, 2.0])
    assert isinstance(parts, BoundDecomposition)
    np.testing.assert_array_equal(parts.gap, [1.0, 2.0])


def test_shapes_that_disagree_are_named():
    with pytest.raises(ValueError, match=r"shapes \(2, 3\), \(2, 3\) and \(2, 2\)"):
        decompose_bound(np.zeros((2, 3)), np.zeros(3), np.zeros((2, 3)), np.zeros((2, 2)))


@costly(4)
@given(st.integers(1, 4), st.integers(0, 2**31))
def test_kl_of_a_normal_to_the_standard_normal(k, seed):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(2, k, k, generator=generator, dtype=torch.float64)
    precision = factor @ factor.mT + torch.eye(k)
    mean = torch.randn(2, k, generator=generator, dtype=torch.float64)
    q = FullGaussian(mean, torch.linalg.cholesky(precision))
    normal = torch.distributions.MultivariateNormal
    twin = normal(mean, precision_matrix=precision)
    standard = normal(torch.zeros(k, dtype=torch.float64), torch.eye(k, dtype=torch.float64))
    torch.testing.assert_close(
        q.kl_to_standard(), torch.distributions.kl_divergence(twin, standard)
    )
