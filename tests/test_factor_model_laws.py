"""What is true of every generalised factor model: its bound, its densities, its units."""

import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logsumexp
from scipy.stats import multivariate_normal, poisson
from sklearn.decomposition import PCA, FactorAnalysis

from skemvae import VAEEstimator, VariationalEM
from skemvae.likelihoods import Gaussian, NegativeBinomial, StudentT
from skemvae.models import FactorModel
from skemvae.posteriors.ascent import climb
from skemvae.posteriors.gaussians import FullGaussian
from skemvae.variational import blocks
from skemvae.variational.factor_bound import LogJoint
from tests.laws import costly
from tests.strategies import seeds, weights_of
from tests.threads import limited

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

REAL = {
    "gaussian": "gaussian",
    "shared": Gaussian("shared"),
    "row": Gaussian("row"),
    "student_t": "student_t",
}
# Their columns need other values than real ones.
SPECIAL = ("lognormal", "bernoulli", "poisson", "negative_binomial", "categorical")
MIXED = [
    ("gaussian", [0]),
    ("bernoulli", [3]),
    ("poisson", [1]),
    (Gaussian("row"), [5]),
    ("categorical", [2]),
    ("student_t", [4]),
]
LIKELIHOODS = {**REAL, **{name: name for name in SPECIAL}, "mixed": MIXED}
# Those whose bound is looked at in points instead of by quadrature.
IN_POINTS = {"row", "categorical", "mixed"}
every_likelihood = pytest.mark.parametrize("kind", LIKELIHOODS)
every_real = pytest.mark.parametrize("kind", REAL)


def values(kind, eta, rng):
    """Values of columns, given their linear predictors."""
    if kind in REAL:
        return eta + 0.7 * rng.standard_normal(eta.shape)
    if kind == "lognormal":
        return np.exp(np.clip(eta, -40, 40) + 0.7 * rng.standard_normal(eta.shape))
    if kind == "bernoulli":
        return (rng.random(eta.shape) < expit(eta)).astype(float)
    if kind == "categorical":
        return np.clip(np.round(eta + rng.standard_normal(eta.shape)), -1, 1)
    return rng.poisson(np.exp(np.clip(0.5 * eta + 0.3, -5, 3))).astype(float)


def table(kind, n=40, d=4, k=2, seed=0):
    """Rows with k factors behind d columns; mixed ones have six."""
    rng = np.random.default_rng(seed)
    eta = rng.standard_normal((n, k)) @ rng.standard_normal((k, 6 if kind == "mixed" else d))
    if kind != "mixed":
        return values(kind, eta, rng)
    kinds = ["gaussian", "poisson", "categorical", "bernoulli", "student_t", "row"]
    return np.stack([values(kinds[j], eta[:, j], rng) for j in range(6)], 1)


def fitted(kind, X, k=2, sample_weight=None, **parameters):
    model = FactorModel(k, LIKELIHOODS[kind])
    em = VariationalEM(model, **{"max_iter": 10, "random_state": 0, **parameters})
    return em.fit(X, sample_weight=sample_weight)


# Monotone.


def assert_no_fall(bounds):
    assert np.isfinite(bounds).all()
    assert (np.diff(bounds) >= -1e-9 * np.abs(bounds[:-1])).all()


BITS = st.sampled_from([0.0, 1.0])


@st.composite
def problems(draw, kind):
    """A small table, sometimes with constant or repeated columns, and perhaps weights."""
    n, d = draw(st.integers(5, 30)), draw(st.integers(1, 4))
    X = table(kind, n, d, draw(st.integers(1, 3)), draw(seeds))
    d = X.shape[1]
    what = draw(st.sampled_from(["plain", "constant", "repeated", "two rows"]))
    if what == "constant":
        X[:, draw(st.integers(0, d - 1))] = 1.0 if kind == "lognormal" else draw(BITS)
    elif what == "repeated":
        X[:, -1] = X[:, 0] if kind != "mixed" else X[:, -1]
    elif what == "two rows":
        X[1:] = X[1]
    if kind in REAL:
        X = X * draw(st.sampled_from([1.0, 1e-100, 1e100])) + draw(st.sampled_from([0.0, 1e8]))
    return X, draw(weights_of(n)), draw(st.integers(1, 6))


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize(
    "X", [np.zeros((5, 1)), np.c_[np.r_[3.0, np.full(29, 2.0)], np.ones(30)]], ids=["zeros", "ones"]
)
def test_counts_that_hardly_vary_have_a_fit(X, k):
    em = fitted("poisson", X, k, None, max_iter=4)
    assert_no_fall(em.lower_bounds_)
    assert np.isfinite(em.score_samples(X)).all()


@every_likelihood
@given(data=st.data())
@costly(10)
def test_the_bound_never_falls(kind, data):
    X, weight, k = data.draw(problems(kind))
    em = fitted(kind, X, k, weight, max_iter=4)
    assert_no_fall(em.lower_bounds_)
    assert em.lower_bound_ == em.lower_bounds_[-1]
    assert np.isfinite(em.score_samples(X)).all()
    assert np.isfinite(em.elbo(X)).all()
    assert em.transform(X).shape == (len(X), k)
    assert em.sample(3)[0].shape == (3, X.shape[1])


@every_likelihood
def test_the_bound_rises_and_most_of_it_at_first(kind):
    bounds = fitted(kind, table(kind), max_iter=20, tol=0).lower_bounds_
    assert_no_fall(bounds)
    assert bounds[-1] > bounds[0]
    assert bounds[10] - bounds[0] > 0.5 * (bounds[-1] - bounds[0])


@pytest.mark.parametrize("kind", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_more_factors_than_columns_have_nothing_to_explain(kind, d):
    X = table(kind, d=d)
    many, as_many = fitted(kind, X, d + 2, tol=1e-6), fitted(kind, X, d, tol=1e-6)
    assert many.model_.loadings_.shape == (d, d + 2)
    np.testing.assert_allclose(many.model_.loadings_[:, d:], 0, atol=1e-6)
    assert many.n_parameters_ == as_many.n_parameters_
    assert many.lower_bound_ >= as_many.lower_bound_ - 0.01
    assert many.transform(X).shape == (40, d + 2)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_rotations_are_no_parameters(k):
    assert fitted("bernoulli", table("bernoulli"), k).n_parameters_ == 4 * k + 4 - k * (k - 1) // 2
    n_parameters = fitted("gaussian", table("gaussian"), k).n_parameters_
    assert n_parameters == 4 * k + 8 - k * (k - 1) // 2


@pytest.mark.parametrize("kind", sorted(set(LIKELIHOODS) - IN_POINTS))
def test_the_bound_of_the_fit_is_the_mean_of_the_rows_bounds(kind):
    X, weight = table(kind), np.random.default_rng(0).gamma(2.0, size=40)
    em = fitted(kind, X, sample_weight=weight, max_iter=30)
    assert np.average(em.elbo(X), weights=weight) == pytest.approx(em.lower_bound_, abs=0.01)
    assert np.average(em.elbo(X), weights=weight) >= em.lower_bound_ - 1e-9


# True.


def codes(kind, X, training):
    """Standardised numbers or logarithms, labels by first appearance; and the volume."""
    u, log_volume = np.empty(X.shape), 0.0
    of_kind = {j: name for name, (j,) in MIXED} if kind == "mixed" else {}
    for j, (x, old) in enumerate(zip(X.T, training.T, strict=True)):
        head = of_kind.get(j, LIKELIHOODS[kind])
        u[:, j] = x
        if isinstance(head, Gaussian) or head in ("gaussian", "student_t"):
            scale = np.std(old)
            u[:, j] = (x - np.mean(old)) / scale
            log_volume += np.log(scale)
        elif head == "lognormal":
            mean, scale = np.log(old).mean(), np.log(old).std()
            u[:, j] = (np.log(x) - mean) / scale
            log_volume += np.log(scale) + mean
        elif head == "categorical":
            labels = {label: i for i, label in enumerate(dict.fromkeys(old))}
            u[:, j] = [labels.get(label, -1) for label in x]
    return u, log_volume


def exact_log_density(em, kind, X, training, half=9.0):
    """log p(x) by the trapezoidal rule over z, from public parameters alone."""
    model, (u, log_volume) = em.model_, codes(kind, X, training)
    k = model.loadings_.shape[1]
    line = np.linspace(-half, half, 401 if k == 1 else 241)
    z = np.stack(np.meshgrid(*[line] * k), -1).reshape(-1, k)
    total = -0.5 * (z**2).sum(1) - 0.5 * k * np.log(2 * np.pi) + k * np.log(line[1] - line[0])
    eta = torch.from_numpy(z @ model.loadings_.T + model.intercept_)
    columns = [columns for _, columns in MIXED] if kind == "mixed" else [range(X.shape[1])]
    start, density = 0, np.empty(len(X))
    parts = []
    for head, where in zip(model.likelihoods_, columns, strict=True):
        parts.append((head, list(where), eta[:, start : start + head.n_outputs]))
        start += head.n_outputs
    for i, row in enumerate(torch.from_numpy(u)):
        with torch.no_grad():
            log_p = sum(
                head.log_prob(row[None, where], part).numpy() for head, where, part in parts
            )
        density[i] = logsumexp(total + log_p)
    return density - log_volume


@every_likelihood
@pytest.mark.parametrize("k", [1, 2])
def test_the_bound_is_below_and_the_score_is_at_log_p(kind, k):
    X, new = table(kind, 60, seed=1), table(kind, 20, seed=2)
    em = fitted(kind, X, k)
    exact = exact_log_density(em, kind, new, X)
    elbo, elbo_error = em.elbo(new, return_std=True)
    score, error = em.score_samples(new, return_std=True)
    assert elbo.shape == elbo_error.shape == score.shape == error.shape == (20,)
    below = elbo <= exact + 4 * elbo_error + 1e-6
    assert below.all() if kind not in IN_POINTS else below.mean() > 0.94
    assert np.abs(score - exact).mean() < 0.05
    assert (elbo_error == 0).all() == (kind not in IN_POINTS)
    assert (error == 0).all() == (kind in ("gaussian", "shared", "lognormal"))
    assert exact.mean() - 0.3 < elbo.mean() < exact.mean() + 0.05
    # All rows are looked at in the same points, so errors are honest over several sets of them.
    errors = []
    for em.model_._seed in range(6):
        score, error = em.score_samples(new[:8], return_std=True)
        errors.append((score - exact[:8]) / (error + 1e-9))
    assert np.sqrt(np.square(errors).mean()) < 2.5
    assert (np.abs(errors) < 4).mean() > 0.9
    assert np.abs(np.mean(errors)) < 1.2


def test_columns_that_tell_a_factor_apart_keep_the_bound_below():
    """The loadings then grow, and quadrature with them."""
    X = np.repeat((np.arange(200) % 2)[:, None], 6, 1).astype(float)
    em = fitted("bernoulli", X, 1, max_iter=200, tol=0)
    exact = exact_log_density(em, "bernoulli", X[:2], X)
    assert (em.elbo(X[:2]) <= exact + 1e-3).all()
    assert em.lower_bound_ < np.log(0.5) + 1e-3


@pytest.mark.parametrize("k", [1, 3])
def test_the_probabilities_of_all_binary_vectors_sum_to_one(k):
    every = np.array(list(itertools.product([0.0, 1.0], repeat=7)))
    em = fitted("bernoulli", table("bernoulli", 200, 7), k)
    assert np.exp(em.score_samples(every)).sum() == pytest.approx(1, abs=0.01)
    assert 0.8 < np.exp(em.elbo(every)).sum() < 1 + 1e-6


@pytest.mark.parametrize("kind", ["poisson", "negative_binomial"])
def test_the_probabilities_of_all_counts_sum_to_one(kind):
    every = np.array(list(itertools.product(range(50), repeat=2)), dtype=float)
    em = fitted(kind, table(kind, 200, 2, 1), 1)
    assert np.exp(em.score_samples(every)).sum() == pytest.approx(1, abs=0.01)


def test_the_probabilities_of_all_labels_seen_and_unseen_sum_to_one():
    every = np.array(list(itertools.product([-1.0, 0.0, 1.0, 99.0], repeat=3)))
    em = fitted("categorical", table("categorical", 100, 3))
    assert np.exp(em.score_samples(every)).sum() == pytest.approx(1, abs=0.01)


@every_real
def test_a_density_integrates_to_one(kind):
    X = 3 + 20 * table(kind, 200, 1)
    em = fitted(kind, X, 1)
    x = X.mean() + X.std() * np.linspace(-60, 60, 12001)
    mass = np.exp(em.score_samples(x[:, None])).sum() * (x[1] - x[0])
    assert mass == pytest.approx(1, abs=0.01)


# Equality.


@pytest.mark.parametrize(("k", "d", "seed"), [(1, 4, 0), (2, 6, 1), (2, 10, 2)])
def test_with_normal_columns_it_is_factor_analysis(k, d, seed):
    X = 1.0 + 3 * table("gaussian", 200, d, k, seed)
    em = fitted("gaussian", X, k, tol=1e-5, max_iter=300)
    peer = FactorAnalysis(k, tol=1e-9, max_iter=5000, svd_method="lapack").fit(X)
    assert em.score(X) == pytest.approx(peer.score(X), abs=1e-3)
    np.testing.assert_allclose(em.score_samples(X), peer.score_samples(X), atol=0.1)
    score, error = em.score_samples(X, return_std=True)
    np.testing.assert_allclose(em.elbo(X), score, atol=1e-8)
    assert (error == 0).all()
    variances = np.exp(em.model_.likelihoods_[0].log_variance.detach().numpy()) + 1e-6
    covariance = em.model_.loadings_ @ em.model_.loadings_.T + np.diag(variances)
    covariance *= X.std(0)[:, None] * X.std(0)
    offset = X.mean(0) + em.model_.intercept_ * X.std(0)
    np.testing.assert_allclose(score, multivariate_normal(offset, covariance).logpdf(X), atol=1e-8)


def test_the_posterior_of_normal_columns_is_that_of_bayes():
    X = table("gaussian", 100, 5)
    em = fitted("gaussian", X)
    W, b = em.model_.loadings_, em.model_.intercept_
    noise = np.exp(em.model_.likelihoods_[0].log_variance.detach().numpy()) + 1e-6
    u = (X - X.mean(0)) / X.std(0)
    expected = np.linalg.solve(np.eye(2) + (W.T / noise) @ W, (W.T / noise) @ (u - b).T).T
    np.testing.assert_allclose(em.transform(X), expected, atol=1e-8)


def test_loadings_are_orthogonal_and_the_largest_first():
    for kind in ("gaussian", "poisson"):
        W = fitted(kind, table(kind), 3).model_.loadings_
        gram = W.T @ W
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-8 * gram.max())
        assert (np.diff(np.diag(gram)) <= 1e-9).all()


# Units and order.


@every_real
@pytest.mark.parametrize("scale", [2.0**-300, [4.0, 0.5, 1, 2.0**300]], ids=str)
def test_units_that_are_powers_of_two_change_all_by_exactly_their_volume(kind, scale):
    X = table(kind)
    here, there = fitted(kind, X, max_iter=4), fitted(kind, X * scale, max_iter=4)
    volume = np.log(np.broadcast_to(scale, 4)).sum()
    for name in ("score_samples", "elbo"):
        expected = getattr(here, name)(X) - volume
        np.testing.assert_allclose(getattr(there, name)(X * scale), expected, rtol=1e-12)
    np.testing.assert_allclose(there.lower_bounds_, here.lower_bounds_ - volume, rtol=1e-12)
    np.testing.assert_array_equal(there.transform(X * scale), here.transform(X))
    np.testing.assert_array_equal(there.model_.loadings_, here.model_.loadings_)


@every_real
@pytest.mark.parametrize("offset", [7.0, -(2.0**27)])
def test_offsets_change_nothing(kind, offset):
    X = np.round(table(kind) * 2**20) / 2**20  # X + offset is exact
    here, there = fitted(kind, X, max_iter=4), fitted(kind, X + offset, max_iter=4)
    np.testing.assert_allclose(there.score_samples(X + offset), here.score_samples(X), atol=1e-5)
    np.testing.assert_allclose(there.lower_bounds_, here.lower_bounds_, atol=1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "student_t", "bernoulli"])
def test_the_order_of_rows_and_of_columns_does_not_matter(kind):
    X = table(kind, 50)
    rows, columns = np.random.default_rng(1).permutation(50), [2, 0, 3, 1]
    here = fitted(kind, X, 1, tol=1e-6, max_iter=60)
    other = fitted(kind, X[rows], 1, tol=1e-6, max_iter=60)
    turned = fitted(kind, X[:, columns], 1, tol=1e-6, max_iter=60)
    # Where a start is another one, the maximum is the same.
    np.testing.assert_allclose(other.elbo(X), here.elbo(X), atol=0.05)
    np.testing.assert_allclose(turned.elbo(X[:, columns]), here.elbo(X), atol=0.05)
    for em in (other, turned):
        assert em.lower_bound_ == pytest.approx(here.lower_bound_, abs=1e-3)


@every_likelihood
def test_rows_in_another_order_have_the_same_fit_while_the_first_stays(kind):
    X = table(kind)
    order = np.append(0, 1 + np.random.default_rng(1).permutation(39))
    if kind in ("categorical", "mixed"):  # labels are numbered by first appearance
        order[1:6], order[6:] = np.arange(1, 6), 6 + np.random.default_rng(1).permutation(34)
    here, other = fitted(kind, X, max_iter=3), fitted(kind, X[order], max_iter=3)
    np.testing.assert_allclose(other.score_samples(X), here.score_samples(X), atol=1e-6)


@every_likelihood
def test_integer_weights_equal_repeated_rows(kind):
    X, times = table(kind, 30), np.append(1, np.random.default_rng(0).integers(1, 4, size=29))
    weighted = fitted(kind, X, sample_weight=times, max_iter=3)
    repeated = fitted(kind, X.repeat(times, 0), max_iter=3)
    np.testing.assert_allclose(weighted.lower_bounds_, repeated.lower_bounds_, atol=1e-6)
    np.testing.assert_allclose(weighted.score_samples(X), repeated.score_samples(X), atol=1e-5)


def test_rows_of_weight_zero_do_not_count():
    X, weight = table("poisson"), np.ones(40)
    X[30:], weight[30:] = 1000, 0
    em, without = fitted("poisson", X, sample_weight=weight), fitted("poisson", X[:30])
    np.testing.assert_array_equal(em.lower_bounds_, without.lower_bounds_)


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_neither_threads_nor_the_cut_of_a_table_change_a_score(kind, monkeypatch):
    X = table(kind, 50)
    whole = fitted(kind, X, max_iter=2)
    monkeypatch.setattr(blocks, "_BLOCK_NUMBERS", 2**11)
    with limited(1):
        one = fitted(kind, X, max_iter=2)
        alone = one.score_samples(X)
    with limited(4):
        several = fitted(kind, X, max_iter=2)
        np.testing.assert_array_equal(several.score_samples(X), alone)
    np.testing.assert_array_equal(several.lower_bounds_, one.lower_bounds_)
    np.testing.assert_allclose(one.lower_bounds_, whole.lower_bounds_, rtol=1e-8)
    for name in ("score_samples", "elbo", "transform"):
        answer = getattr(whole, name)
        parts = np.concatenate([answer(X[:1]), answer(X[1:20]), answer(X[20:])])
        np.testing.assert_allclose(parts, answer(X), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(answer(X[::-1])[::-1], answer(X), rtol=1e-6, atol=1e-6)


def test_rows_beyond_one_chunk_are_scored_like_others():
    em = fitted("bernoulli", table("bernoulli"), 1)
    X = np.tile(table("bernoulli", 7), (2400, 1))
    np.testing.assert_allclose(em.elbo(X)[-7:], em.elbo(X[:7]), rtol=1e-9)


# Recovery.


@pytest.mark.parametrize("kind", ["bernoulli", "poisson"])
def test_loadings_are_found_again_and_explain_new_rows(kind):
    rng = np.random.default_rng(3)
    W = rng.standard_normal((10, 2)) * (0.6 if kind == "poisson" else 0.7)
    b = rng.uniform(-0.5, 0.5, 10)
    eta = rng.standard_normal((4000, 2)) @ W.T + b
    X = rng.poisson(np.exp(eta)) if kind == "poisson" else rng.random(eta.shape) < expit(eta)
    X, new = X[:3000].astype(float), X[3000:].astype(float)
    em = fitted(kind, X, max_iter=60)
    found = em.model_.loadings_
    error = np.linalg.norm(found @ found.T - W @ W.T) / np.linalg.norm(W @ W.T)
    assert error < (0.1 if kind == "poisson" else 0.35)  # the bound prefers smaller ones
    assert np.corrcoef((found @ found.T).ravel(), (W @ W.T).ravel())[0, 1] > 0.95
    np.testing.assert_allclose(em.model_.intercept_, b, atol=0.25)
    mean = X.mean(0)
    alone = poisson(mean).logpmf(new) if kind == "poisson" else np.log(np.abs(1 - new - mean))
    assert em.score(new) > alone.sum(1).mean() + 0.1
    with_truth = pickle.loads(pickle.dumps(em))
    inner = with_truth.model_._factors
    inner.loadings[0].data[:], inner.intercepts[0].data[:] = map(torch.from_numpy, (W, b))
    assert with_truth.score(new) == pytest.approx(em.score(new), abs=0.03)


# Latent points, samples.


def test_latent_means_are_standard_and_rows_come_back_in_their_units():
    X = 1000 + 50 * table("gaussian", 400, 8)
    em = fitted("gaussian", X, tol=1e-6, max_iter=100)
    Z = em.transform(X)
    assert Z.shape == (400, 2)
    np.testing.assert_allclose(Z.mean(0), 0, atol=1e-2)
    assert (Z.std(0) < 1.01).all()
    back = em.inverse_transform(Z)
    assert np.mean((back - X) ** 2) < 0.5 * X.var(0).mean()
    np.testing.assert_allclose(em.inverse_transform(np.zeros((1, 2)))[0], X.mean(0), atol=2)
    np.testing.assert_array_equal(em.get_feature_names_out(), ["variationalem0", "variationalem1"])
    with pytest.raises(ValueError, match="Z has 3 columns, but transform returns 2"):
        em.inverse_transform(np.zeros((1, 3)))


def test_expected_rows_are_the_means_given_z():
    Z = np.random.default_rng(0).standard_normal((5, 2))
    for kind, link in (("bernoulli", expit), ("poisson", np.exp), ("negative_binomial", np.exp)):
        em = fitted(kind, table(kind))
        expected = link(Z @ em.model_.loadings_.T + em.model_.intercept_)
        np.testing.assert_allclose(em.inverse_transform(Z), expected)
    em = fitted("mixed", table("mixed"))
    assert set(em.inverse_transform(Z)[:, 2]) <= {-1, 0, 1}


def test_samples_of_normal_columns_have_the_moments_of_the_model():
    X = 5 + 3 * table("gaussian", 200)
    em = fitted("gaussian", X, tol=1e-6, max_iter=200)
    drawn, Z = em.sample(20_000, random_state=0)
    assert (drawn.shape, Z.shape) == ((20_000, 4), (20_000, 2))
    np.testing.assert_allclose(np.cov(Z.T), np.eye(2), atol=0.05)
    np.testing.assert_allclose(drawn.mean(0), X.mean(0), atol=0.2)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(X.T), rtol=0.1, atol=1)
    residual = drawn - em.inverse_transform(Z)
    np.testing.assert_allclose(np.corrcoef(residual.T), np.eye(4), atol=0.05)
    np.testing.assert_array_equal(em.sample(5, 1)[0], em.sample(5, 1)[0])


@pytest.mark.parametrize("kind", ["bernoulli", "poisson", "negative_binomial"])
def test_samples_have_the_means_that_their_latent_points_give_them(kind):
    """Residuals have mean 0, and do not go along with z."""
    em = fitted(kind, table(kind, 200))
    drawn, Z = em.sample(20_000, random_state=0)
    assert (drawn == np.round(drawn)).all()
    residual = drawn - em.inverse_transform(Z)
    for factor in (np.ones(len(Z)), Z[:, 0], Z[:, 1]):
        product = residual * factor[:, None]
        z_score = product.mean(0) / (product.std(0) / np.sqrt(len(Z)))
        assert np.abs(z_score).max() < 4.5
    assert em.score(drawn[:500]) == pytest.approx(em.score(drawn[500:1500]), abs=0.5)


# What is refused.


@pytest.mark.parametrize(
    ("likelihood", "value", "message"),
    [
        ("bernoulli", 0.5, "Column 1 holds 0.5 in row 3: a Bernoulli likelihood scores 0 and 1"),
        ("bernoulli", 2.0, "Column 1 holds 2.0 in row 3"),
        ("poisson", -1.0, "Column 1 holds -1.0 in row 3: counts are integers"),
        ("poisson", 0.5, "Column 1 holds 0.5 in row 3: counts are integers"),
        ("negative_binomial", -2.0, "Column 1 holds -2.0 in row 3: counts are integers"),
        ("negative_binomial", 1.5, "Column 1 holds 1.5 in row 3: counts are integers"),
        *[(kind, np.nan, "NaN") for kind in (*REAL.values(), "bernoulli", "poisson")],
        ("lognormal", -1.0, "Column 1 holds -1.0 in row 3: a log-normal .* Add a constant"),
        ("lognormal", np.inf, "infinity"),
        *[(kind, np.inf, "infinity") for kind in ("gaussian", "student_t", "poisson")],
        ("categorical", np.nan, "Column 1 holds nan in row 3: missing values are not supported"),
    ],
    ids=str,
)
def test_a_value_without_a_density_is_named(likelihood, value, message):
    good = np.random.default_rng(0).integers(2, size=(20, 3)).astype(float)
    if likelihood == "lognormal":
        good += 1
    bad = good.copy()
    bad[3, 1] = value
    em = VariationalEM(FactorModel(1, likelihood), max_iter=1)
    with pytest.raises(ValueError, match=message):
        em.fit(bad)
    em.fit(good)
    for method in (em.score_samples, em.elbo, em.transform):
        with pytest.raises(ValueError, match=message):
            method(bad)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"n_factors": 0}, ValueError, "n_factors == 0, must be >= 1"),
        ({"n_factors": "1"}, TypeError, "n_factors must be an instance of int"),
        ({"n_factors": 1.5}, TypeError, "n_factors must be an instance of int"),
        ({"n_factors": True}, TypeError, "n_factors=True must be an int"),
        ({"n_factors": None}, TypeError, "n_factors must be an instance of int"),
        ({"n_score_samples": 0}, ValueError, "n_score_samples == 0, must be >= 1"),
        ({"likelihood": "normal"}, ValueError, "likelihood='normal' is not one of"),
        ({"likelihood": None}, ValueError, "likelihood holds None"),
        ({"likelihood": []}, ValueError, r"Columns \[0, 1, 2\] have no likelihood"),
        ({"likelihood": [("gaussian", [0, 1])]}, ValueError, r"Columns \[2\] have no likelihood"),
        (
            {"likelihood": [("poisson", [0]), ("gaussian", [0, 1, 2])]},
            ValueError,
            "Column 0 has two",
        ),
        ({"likelihood": [("gaussian", [0, 1, 7])]}, ValueError, "are not positions of 3 features"),
        ({"likelihood": [("gaussian", ["a"])]}, ValueError, "are not among the feature names"),
    ],
    ids=str,
)
def test_a_parameter_that_makes_no_sense_is_named(parameters, error, message):
    with pytest.raises(error, match=message):
        VariationalEM(FactorModel(**parameters)).fit(np.eye(3))


def test_a_label_that_fit_has_not_seen_is_improbable_but_possible():
    X = table("categorical")
    em = fitted("categorical", X)
    strange = X.copy()
    strange[:, 0] = 17
    for method in (em.score_samples, em.elbo):
        assert np.isfinite(method(strange)).all()
    assert em.score(strange) < em.score(X) - 1
    assert np.isfinite(em.transform(strange)).all()


# Warm starts, pickles, frames.


@every_likelihood
def test_a_warm_start_goes_on_where_the_fit_has_ended(kind):
    X = table(kind)
    em = fitted(kind, X, max_iter=4, warm_start=True, tol=0)
    first = em.lower_bounds_
    em.fit(X)
    again = em.lower_bounds_[-(em.n_iter_ + 1) :]
    assert again[0] >= first[-1] - 1e-6
    assert_no_fall(again)


@pytest.mark.parametrize("kind", ["gaussian", "bernoulli"])
def test_the_history_of_a_warm_start_continues_on_the_same_data(kind):
    X = table(kind)
    em = fitted(kind, X, max_iter=4, warm_start=True, tol=0)
    first = em.lower_bounds_
    em.fit(X)
    assert len(em.lower_bounds_) == 9
    np.testing.assert_array_equal(em.lower_bounds_[:4], first[:4])


@pytest.mark.parametrize(
    "change", [{"n_factors": 1}, {"likelihood": "student_t"}, {"likelihood": Gaussian("shared")}]
)
def test_a_warm_start_refuses_another_design(change):
    X = table("gaussian")
    em = fitted("gaussian", X, max_iter=2, warm_start=True)
    em.set_params(**{f"model__{name}": value for name, value in change.items()})
    with pytest.raises(ValueError, match=f"The fitted model has {next(iter(change))} .*warm_start"):
        em.fit(X)
    em.set_params(model__n_factors=2, model__likelihood="gaussian")
    with pytest.raises(ValueError, match=r"The fitted model has likelihood .*warm_start=False"):
        em.fit(X[:, :3])


@every_likelihood
def test_a_pickle_answers_as_before(kind):
    X = table(kind)
    em = fitted(kind, X, max_iter=2)
    other = pickle.loads(pickle.dumps(em))
    for name in ("score_samples", "elbo", "transform"):
        np.testing.assert_array_equal(getattr(other, name)(X), getattr(em, name)(X))
    np.testing.assert_array_equal(other.sample(5, 0)[0], em.sample(5, 0)[0])


@every_likelihood
def test_the_same_seed_gives_the_same_fit_and_the_model_stays_as_it_was(kind):
    X, model = table(kind), FactorModel(2, LIKELIHOODS[kind])
    before = repr(model)
    fits = [VariationalEM(model, max_iter=3, random_state=0).fit(X) for _ in range(2)]
    assert repr(model) == before
    assert not hasattr(model, "loadings_")
    np.testing.assert_array_equal(*[em.score_samples(X) for em in fits])


@pytest.mark.parametrize("kind", ["gaussian", "student_t", "bernoulli", "poisson"])
def test_float32_in_is_float32_out(kind):
    X = table(kind)
    em = fitted(kind, X.astype(np.float32), max_iter=3)
    small = X.astype(np.float32)
    for name in ("score_samples", "elbo", "transform"):
        answer = getattr(em, name)
        assert answer(small).dtype == np.float32
        assert answer(small.astype(float)).dtype == np.float64
        np.testing.assert_allclose(answer(small), answer(small.astype(float)), rtol=1e-5, atol=1e-5)
    Z = em.transform(small)
    assert em.inverse_transform(Z).dtype == np.float32
    assert em.inverse_transform(Z.astype(float)).dtype == np.float64


FRAME = [
    ("gaussian", ["length"]),
    ("categorical", ["colour"]),
    ("poisson", ["count"]),
    ("bernoulli", ["flag"]),
]


def frame(colours, n=150):
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, n)
    return pd.DataFrame(
        {
            "length": rng.normal(group, 0.3),
            "colour": np.array(colours, dtype=object)[group],
            "count": rng.poisson(group + 1.0),
            "flag": (rng.uniform(size=n) < 0.2 + 0.3 * group).astype(int),
        }
    )


@pytest.mark.parametrize(
    "estimator",
    [VariationalEM(FactorModel(1, "categorical")), VAEEstimator(1, likelihood="categorical")],
    ids=["factors", "VAE"],
)
def test_identifiers_among_the_labels_are_refused_by_name(estimator):
    frame = pd.DataFrame({"kind": np.arange(40_000) % 3, "id": np.arange(40_000)}).astype(str)
    with pytest.raises(ValueError, match=r"1,000 labels: 'id' \(40,000\)\. Leave identifiers out"):
        estimator.fit(frame)


def test_a_mixed_frame_is_fitted_by_its_names_and_its_labels_names_do_not_matter():
    X = frame(["red", "green", "blue"])
    renamed = X.assign(colour=X["colour"].map({"red": 7, "green": -1, "blue": 0}))
    one, other = (
        VariationalEM(FactorModel(1, FRAME), max_iter=30, random_state=0).fit(each)
        for each in (X, renamed)
    )
    np.testing.assert_array_equal(one.score_samples(X), other.score_samples(renamed))
    assert list(one.feature_names_in_) == ["length", "colour", "count", "flag"]
    drawn, Z = one.sample(500, random_state=0)
    assert (drawn.shape, Z.shape) == ((500, 4), (500, 1))
    assert set(drawn[:, 1]) == {"red", "green", "blue"}
    back = one.inverse_transform(one.transform(X))
    assert np.corrcoef(back[:, 0].astype(float), X["length"])[0, 1] > 0.8
    assert (back[:, 1] == X["colour"]).mean() > 0.5
    with pytest.raises(ValueError, match=r"Column flag holds 0.5 in row 2"):
        one.score_samples(X.assign(flag=[0, 0, 0.5] + [1] * 147))


def test_likelihoods_of_ones_own_keep_their_floors():
    X = np.c_[np.zeros(30), table("gaussian", 30, 1), np.ones(30)]
    heads = [(Gaussian(min_variance=0.1), [0]), (StudentT(0.2), [1]), (NegativeBinomial(0.5), [2])]
    em = VariationalEM(FactorModel(1, heads), max_iter=20, random_state=0).fit(X)
    assert [repr(head) for head in em.model_.likelihoods_] == [repr(head) for head, _ in heads]
    assert np.isfinite(em.score_samples(X)).all()


# Every row arrives.


def deep_counts(n, seed, k=2, d=12):
    """Counts whose totals differ by factors of a thousand: one factor is their depth."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(d, k)) * 0.4
    W[:, 0] += 1.2
    return rng.poisson(np.exp(rng.normal(size=(n, k)) @ W.T + rng.uniform(1, 7, d))).astype(float)


def test_rows_of_any_depth_find_their_place():
    """The first step of a row whose counts are far above the others' is too long by far."""
    X = deep_counts(800, 0)
    em = fitted("poisson", X[:300])
    new = np.r_[X[300:], np.zeros((1, 12)), np.tile(X[:1], (7, 1)) * [[10.0**i] for i in range(7)]]
    new = np.minimum(new, 2**24)
    score, error = em.score_samples(new, return_std=True)
    assert not (em.transform(new) == 0).all(1).any()
    assert (score >= em.elbo(new) - 4 * error - 1e-6).all()
    assert score[:500].min() > -200
    assert em.score(X[:300]) == pytest.approx(em.lower_bound_, abs=0.1)


@pytest.mark.parametrize("kind", ["bernoulli", "poisson", "negative_binomial", "mixed"])
def test_the_gradient_of_each_rows_bound_vanishes(kind):
    X = deep_counts(200, 0) if kind == "poisson" else table(kind, 200)
    model = fitted(kind, X, max_iter=3).model_
    factors, points = model._factors, model._points
    u = torch.from_numpy(model._table.encode(X, np.float64, exact=True))
    log_joint, prior = LogJoint(factors, u, points), FullGaussian.standard(len(u), 2)
    with torch.no_grad():
        q, expected = climb(log_joint, prior, log_joint(prior), n_steps=100)
        step = (expected.gradient[:, None] @ q.scale)[:, 0]
        bend = q.scale.mT @ expected.curvature @ q.scale
    # In units of q: half the square is what is left to gain, in nats.
    np.testing.assert_allclose(step, 0, atol=1e-4)
    np.testing.assert_allclose(bend, np.eye(2)[None].repeat(200, 0), atol=1e-4)


@pytest.mark.parametrize("variance", ["feature", "shared"])
@pytest.mark.parametrize(("n", "d", "k"), [(100, 6, 1), (300, 6, 2), (60, 20, 5)])
def test_normal_columns_end_at_the_maximum_of_their_likelihood(variance, n, d, k):
    X = table("gaussian", n, d, k, seed=n)
    em = VariationalEM(FactorModel(k, Gaussian(variance)), tol=1e-8, random_state=0).fit(X)
    assert em.converged_
    assert_no_fall(em.lower_bounds_)
    if variance == "feature":
        peer = FactorAnalysis(k, tol=1e-10, max_iter=2000, svd_method="lapack").fit(X)
    else:  # of columns in standard deviations, as likelihoods see them
        X = (X - X.mean(0)) / X.std(0)
        em.fit(X)
        peer = PCA(k).fit(X)
        maximum_likelihood = peer.explained_variance_ * (n - 1) / n
        noise = (d - maximum_likelihood.sum()) / (d - k)
        density = -0.5 * (np.log(maximum_likelihood).sum() + (d - k) * np.log(noise) + d)
        assert em.lower_bound_ == pytest.approx(density - 0.5 * d * np.log(2 * np.pi), abs=1e-4)
        return
    assert em.lower_bound_ >= peer.score(X) - 1e-4
    assert em.lower_bound_ == pytest.approx(em.score(X), abs=1e-6)
