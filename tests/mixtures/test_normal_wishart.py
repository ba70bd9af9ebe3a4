"""Conjugate distributions of mixtures, against their definitions and scipy.stats."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import betaln
from scipy.stats import beta as beta_distribution
from scipy.stats import (
    dirichlet,
    f,
    kstest,
    multivariate_normal,
    multivariate_t,
    spearmanr,
    wishart,
)
from scipy.stats import t as student

from skemvae.core.rows import Frame, Rows
from skemvae.core.workspace import Workspace
from skemvae.engine.passes.numpy_pass import map_rows, moments_given
from skemvae.mixtures.bayesian_mixture import Parameters, Predictive
from skemvae.mixtures.normal_wishart import NormalWishart
from skemvae.mixtures.weights import MIXING_WEIGHTS, Dirichlet, StickBreaking
from skemvae.structures.registry import STRUCTURES
from tests.conjugacy import log_evidence_given_labels
from tests.strategies import CONJUGATE, conjugates, seeds

sizes = st.tuples(st.integers(1, 4), st.integers(1, 3))


def make(structure, k, d, seed):
    """A distribution of K components that obeys what its structure shares."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((k, d, d + 2))
    dense = factor @ factor.transpose(0, 2, 1) + 0.2 * np.eye(d)
    public = {
        "full": dense,
        "tied": dense[0],
        "diag": np.diagonal(dense, axis1=1, axis2=2),
        "spherical": dense[:, 0, 0],
    }[structure]
    dof = d + rng.uniform(1.5, 9, k)
    return NormalWishart(
        rng.standard_normal((k, d)),
        rng.uniform(0.3, 5, k),
        np.full(k, dof[0]) if structure == "tied" else dof,
        STRUCTURES[structure].from_public(public, k, d),
    )


def wisharts(q):
    """Component, features and scipy's distribution of each Wishart that is no copy."""
    k, d = q.mean.shape
    inverse_scales = q.dof[:, None, None] * q.covariance.dense()
    where = {
        "full": [(i, range(d)) for i in range(k)],
        "tied": [(0, range(d))],
        "diag": [(i, [j]) for i in range(k) for j in range(d)],
        "spherical": [(i, [0]) for i in range(k)],
    }[q.covariance.name]
    return [
        (i, js, wishart(q.dof[i], np.linalg.inv(inverse_scales[i][np.ix_(js, js)])))
        for i, js in where
    ]


def draw_precisions(q, n, rng):
    """Dense precisions of all components, shape (n, K, d, d)."""
    k, d = q.mean.shape
    out = np.zeros((n, k, d, d))
    for i, js, distribution in wisharts(q):
        drawn = distribution.rvs(n, random_state=rng).reshape(n, len(js), len(js))
        if q.covariance.name == "tied":
            out[:] = drawn[:, None]
        elif q.covariance.name == "spherical":
            out[:, i] = drawn * np.eye(d)
        else:
            out[(slice(None), i, *np.ix_(js, js))] = drawn
    return out


def draw_means(q, precisions, rng):
    """Means given the precisions, shape (n, K, d)."""
    normal = rng.standard_normal(precisions.shape[:3])
    lower = np.linalg.cholesky(precisions)
    whitened = np.linalg.solve(lower.swapaxes(-1, -2), normal[..., None])[..., 0]
    return q.mean + whitened / np.sqrt(q.mean_precision)[:, None]


def log_normal(x, mean, precision):
    """log N(x | mean, precision^-1), over leading axes."""
    off = x - mean
    return 0.5 * (
        np.linalg.slogdet(precision)[1]
        - x.shape[-1] * np.log(2 * np.pi)
        - np.einsum("...i,...ij,...j->...", off, precision, off)
    )


def log_density(q, means, precisions):
    """log q(means, precisions) of n draws, by its definition."""
    total = log_normal(q.mean, means, q.mean_precision[:, None, None] * precisions).sum(-1)
    for i, js, distribution in wisharts(q):
        blocks = precisions[(slice(None), i, *np.ix_(js, js))]
        total = total + distribution.logpdf(np.moveaxis(blocks, 0, -1)).reshape(-1)
    return total


def assert_mean(values, expected, errors=5.0):
    """The mean of draws is what is expected, within standard errors."""
    error = values.std(0) / np.sqrt(len(values))
    assert (np.abs(values.mean(0) - expected) <= errors * error + 1e-10).all()


def expected_log_det(distribution):
    """E log |L| of scipy's Wishart, from its entropy and one value of its density."""
    mean = distribution.mean()
    p = distribution.dim
    power = (distribution.df - p - 1) / 2
    at_mean = np.linalg.slogdet(np.atleast_2d(mean))[1]
    return at_mean - (distribution.entropy() + distribution.logpdf(mean)) / power


def evaluate(metric, log_normaliser, X):
    """What a pass over rows says, shape (n, K)."""
    z = np.r_[X.T, np.ones((1, len(X)))]
    distances = metric.squared_distances(metric.features(z, Workspace()), Workspace())
    return log_normaliser - 0.5 * distances.T


# Normal-Wishart.


@given(conjugates, sizes, seeds)
def test_the_divergence_of_precisions_is_that_of_scipys_wisharts(structure, size, seed):
    q, prior = make(structure, *size, seed), make(structure, *size, seed + 1)
    expected = 0.0
    for (*_, a), (*_, b) in zip(wisharts(q), wisharts(prior), strict=True):
        mean = a.mean()
        log_det = expected_log_det(a) - np.linalg.slogdet(np.atleast_2d(mean))[1]
        cross = b.logpdf(mean) + (b.df - a.dim - 1) / 2 * log_det
        expected += -a.entropy() - cross
    np.testing.assert_allclose(q._divergence_of_precisions(prior), expected, rtol=1e-8, atol=1e-8)


@given(conjugates, sizes, seeds)
def test_divergences_are_zero_of_oneself_and_else_positive(structure, size, seed):
    q, other = make(structure, *size, seed), make(structure, *size, seed + 1)
    np.testing.assert_allclose(q.divergence(q), 0, atol=1e-12)
    assert q.divergence(other) > 0
    assert q._divergence_of_means(other) > 0
    assert q._divergence_of_precisions(other) > 0


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 3)])
def test_the_divergence_is_the_mean_log_ratio_of_densities(structure, size):
    rng = np.random.default_rng(0)
    q, prior = make(structure, *size, 1), make(structure, *size, 2)
    precisions = draw_precisions(q, 2000, rng)
    means = draw_means(q, precisions, rng)
    ratio = log_density(q, means, precisions) - log_density(prior, means, precisions)
    assert_mean(ratio, q.divergence(prior))


@given(conjugates, sizes, seeds)
def test_the_expected_log_determinant_is_that_of_scipys_wisharts(structure, size, seed):
    q = make(structure, *size, seed)
    k, d = size
    expected = np.zeros(k)
    for i, _, distribution in wisharts(q):
        value = expected_log_det(distribution)
        if structure == "tied":
            expected[:] = value
        else:
            expected[i] += value * (d if structure == "spherical" else 1)
    np.testing.assert_allclose(q.expected_log_det, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("structure", CONJUGATE)
def test_a_pass_over_rows_gives_expected_log_densities(structure):
    rng = np.random.default_rng(0)
    q = make(structure, 3, 2, 5)
    X = 2 * rng.standard_normal((4, 2))
    precisions = draw_precisions(q, 20_000, rng)
    means = draw_means(q, precisions, rng)
    values = log_normal(X[None, :, None], means[:, None], precisions[:, None])
    assert_mean(values, evaluate(q.scan(), q.log_normaliser, X))


@given(conjugates, sizes, seeds, st.booleans())
def test_the_posterior_is_bayes_theorem(structure, size, seed, weighted):
    """log posterior - log prior - log likelihood is the same wherever one looks."""
    k, d = size
    rng = np.random.default_rng(seed)
    prior = make(structure, k, d, seed)
    X = 3 + 2 * rng.standard_normal((9, d))
    r = rng.dirichlet(np.ones(k), 9)
    weight = rng.gamma(2.0, size=9) if weighted else None
    rows = Rows(X, weight, Frame.identity(d))
    moments = moments_given(r, type(prior.covariance).identity(k, d), rows)
    posterior = prior.posterior(moments)
    precisions = draw_precisions(posterior, 6, rng)
    means = draw_means(posterior, precisions, rng)
    log_likelihood = log_normal(X[None, :, None], means[:, None], precisions[:, None])
    counted = r if weight is None else weight[:, None] * r
    constant = (
        log_density(posterior, means, precisions)
        - log_density(prior, means, precisions)
        - (counted * log_likelihood).sum((1, 2))
    )
    np.testing.assert_allclose(constant, constant[0], rtol=1e-9, atol=1e-8)


@given(conjugates, sizes, seeds)
def test_evidence_is_expected_log_likelihood_less_divergence(structure, size, seed):
    """At the exact posterior the bound of rows with known labels is their evidence."""
    k, d = size
    rng = np.random.default_rng(seed)
    one = make(structure, 1, d, seed)
    prior = NormalWishart(
        np.repeat(one.mean, k, axis=0),
        np.repeat(one.mean_precision, k),
        np.repeat(one.dof, k),
        type(one.covariance)(np.repeat(one.covariance.values, k, axis=0)),
    )
    X, labels = 2 * rng.standard_normal((7, d)), rng.integers(k, size=7)
    r = np.eye(k)[labels]
    unit = type(prior.covariance).identity(k, d)
    posterior = prior.posterior(moments_given(r, unit, Rows(X, None, Frame.identity(d))))
    expected_log = evaluate(posterior.scan(), posterior.log_normaliser, X)
    np.testing.assert_allclose(
        (r * expected_log).sum() - posterior.divergence(prior),
        log_evidence_given_labels(
            structure,
            X,
            labels,
            k,
            one.mean[0],
            one.mean_precision[0],
            one.dof[0],
            one.dof[0] * one.covariance.dense()[0],
        ),
        rtol=1e-9,
        atol=1e-9,
    )


@given(conjugates, sizes, seeds)
def test_the_order_of_learning_does_not_matter(structure, size, seed):
    """Rows in two parts, one after the other, give the posterior of all of them."""
    k, d = size
    rng = np.random.default_rng(seed)
    prior = make(structure, k, d, seed)
    X, r = rng.standard_normal((12, d)), rng.dirichlet(np.ones(k), 12)
    unit = type(prior.covariance).identity(k, d)
    parts = [
        moments_given(r[part], unit, Rows(X[part], None, Frame.identity(d)))
        for part in (slice(0, 5), slice(5, None))
    ]
    together = prior.posterior(parts[0] + parts[1])
    if structure == "tied":
        np.testing.assert_allclose(together.dof, prior.dof + 12, rtol=1e-12)
    in_turn = prior.posterior(parts[0]).posterior(parts[1])
    for name in ("mean", "mean_precision", "dof"):
        np.testing.assert_allclose(getattr(together, name), getattr(in_turn, name), rtol=1e-10)
    np.testing.assert_allclose(
        together.covariance.values, in_turn.covariance.values, rtol=1e-9, atol=1e-12
    )


@given(conjugates, sizes, seeds)
def test_components_without_rows_keep_their_prior(structure, size, seed):
    k, d = size
    prior = make(structure, k, d, seed)
    X = np.random.default_rng(seed).standard_normal((5, d))
    r = np.eye(k)[np.zeros(5, int)]
    unit = type(prior.covariance).identity(k, d)
    posterior = prior.posterior(moments_given(r, unit, Rows(X, None, Frame.identity(d))))
    np.testing.assert_array_equal(posterior.mean[1:], prior.mean[1:])
    np.testing.assert_array_equal(posterior.mean_precision[1:], prior.mean_precision[1:])
    if structure != "tied":
        np.testing.assert_array_equal(posterior.dof[1:], prior.dof[1:])
        np.testing.assert_allclose(
            posterior.covariance.values[1:], prior.covariance.values[1:], rtol=1e-14
        )


# The next row.


def student_of(q, i):
    """scipy's predictive log density of component i."""
    d = q.mean.shape[1]
    inflated = q.dof[i] * (q.mean_precision[i] + 1) / q.mean_precision[i]
    scatter = inflated * q.covariance.dense()[i]
    if q.covariance.name == "diag":
        scale = np.sqrt(np.diagonal(scatter) / q.dof[i])
        return lambda x: student(q.dof[i], q.mean[i], scale).logpdf(x).sum(-1)
    df = q.dof[i] if q.covariance.name == "spherical" else q.dof[i] + 1 - d
    return multivariate_t(q.mean[i], scatter / df, df).logpdf


@given(conjugates, sizes, seeds)
def test_predictive_densities_are_students_t(structure, size, seed):
    q = make(structure, *size, seed)
    X = 4 * np.random.default_rng(seed).standard_normal((9, size[1]))
    actual = evaluate(q.predictive_metric(), q.predictive_log_normaliser, X)
    expected = [np.reshape(student_of(q, i)(X), -1) for i in range(size[0])]
    np.testing.assert_allclose(actual, np.transpose(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("structure", CONJUGATE)
def test_predictive_densities_are_expected_densities(structure):
    rng = np.random.default_rng(0)
    q = make(structure, 2, 2, 3)
    X = q.mean.mean(0) + rng.standard_normal((4, 2))
    precisions = draw_precisions(q, 20_000, rng)
    means = draw_means(q, precisions, rng)
    densities = np.exp(log_normal(X[None, :, None], means[:, None], precisions[:, None]))
    assert_mean(densities, np.exp(evaluate(q.predictive_metric(), q.predictive_log_normaliser, X)))


@given(conjugates, sizes, seeds)
def test_the_predictive_density_is_a_ratio_of_evidences(structure, size, seed):
    d = size[1]
    rng = np.random.default_rng(seed)
    prior = make(structure, 1, d, seed)
    X = rng.standard_normal((6, d))
    unit = type(prior.covariance).identity(1, d)
    seen = Rows(X[:5], None, Frame.identity(d))
    posterior = prior.posterior(moments_given(np.ones((5, 1)), unit, seen))
    evidences = [
        log_evidence_given_labels(
            structure,
            X[:n],
            np.zeros(n, int),
            1,
            prior.mean[0],
            prior.mean_precision[0],
            prior.dof[0],
            prior.dof[0] * prior.covariance.dense()[0],
        )
        for n in (5, 6)
    ]
    actual = evaluate(posterior.predictive_metric(), posterior.predictive_log_normaliser, X[5:])
    np.testing.assert_allclose(actual[0, 0], evidences[1] - evidences[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("structure", CONJUGATE)
def test_the_mixture_weighs_predictive_densities_by_expected_weights(structure):
    q = make(structure, 3, 2, 4)
    weights = Dirichlet(np.array([0.5, 2.0, 7.0]))
    X = 3 * np.random.default_rng(0).standard_normal((20, 2))
    rows = Rows(X, None, Frame.identity(2))
    predictive = Predictive(Parameters(weights, q))
    actual = map_rows(predictive, rows, lambda seen: seen.log_evidence, np.empty(20))
    densities = np.exp([student_of(q, i)(X) for i in range(3)])
    np.testing.assert_allclose(actual, np.log(weights.mean @ densities), rtol=1e-10)


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("d", [1, 3])
def test_draws_follow_the_predictive_density(structure, d):
    q = make(structure, 2, d, 7)
    rng = np.random.RandomState(0)
    labels = rng.randint(2, size=6000)
    rows = q.draw(labels, rng)
    for i in range(2):
        own = rows[labels == i] - q.mean[i]
        inflated = q.dof[i] * (q.mean_precision[i] + 1) / q.mean_precision[i]
        scatter = inflated * q.covariance.dense()[i]
        df = q.dof[i] if structure in ("diag", "spherical") else q.dof[i] + 1 - d
        for j in range(d):
            scale = np.sqrt(scatter[j, j] / df)
            assert kstest(own[:, j], student(df, scale=scale).cdf).pvalue > 1e-4
        if structure != "diag":
            lengths = np.einsum("ni,ij,nj->n", own, np.linalg.inv(scatter / df), own)
            assert kstest(lengths / d, f(d, df).cdf).pvalue > 1e-4
        elif d > 1:
            assert spearmanr(np.abs(own[:, 0]), np.abs(own[:, 1])).pvalue > 1e-4


@given(conjugates, sizes, seeds)
def test_a_change_of_coordinates_moves_densities_by_the_volume(structure, size, seed):
    k, d = size
    rng = np.random.default_rng(seed)
    q, prior = make(structure, k, d, seed), make(structure, k, d, seed + 1)
    scale = 2.0 ** rng.integers(-9, 9, d)
    frame = Frame(
        rng.standard_normal(d), np.full(d, scale[0]) if structure == "spherical" else scale
    )
    X = rng.standard_normal((5, d))
    Z, moved = (X - frame.origin) / frame.scale, q.into(frame)
    for metric, normaliser in (
        ("scan", "log_normaliser"),
        ("predictive_metric", "predictive_log_normaliser"),
    ):
        np.testing.assert_allclose(
            evaluate(getattr(moved, metric)(), getattr(moved, normaliser), Z) - frame.log_volume,
            evaluate(getattr(q, metric)(), getattr(q, normaliser), X),
            rtol=1e-8,
            atol=1e-8,
        )
    np.testing.assert_allclose(
        moved.divergence(prior.into(frame)), q.divergence(prior), rtol=1e-9, atol=1e-9
    )
    back = moved.out_of(frame)
    np.testing.assert_allclose(back.mean, q.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(back.covariance.values, q.covariance.values, rtol=1e-12)


# Mixing weights.


def expected_log_of_beta(a, b):
    """E log v by integration over u = log v, where nothing is singular."""
    log_constant = beta_distribution(a, b).logpdf(0.5) - (a + b - 2) * np.log(0.5)

    def integrand(u):
        return u * np.exp(log_constant + a * u + (b - 1) * np.log(-np.expm1(u)))

    return quad(integrand, -60 / a, 0, epsabs=1e-13, epsrel=1e-11, limit=500)[0]


@given(st.integers(1, 5), seeds)
def test_expectations_of_dirichlet_weights_are_those_of_scipy(k, seed):
    concentration = np.random.default_rng(seed).uniform(1.1, 9, k + 1)
    weights = Dirichlet(concentration)
    np.testing.assert_allclose(weights.mean, dirichlet(concentration).mean(), rtol=1e-12)
    expected = [expected_log_of_beta(a, concentration.sum() - a) for a in concentration]
    np.testing.assert_allclose(weights.expected_log, expected, rtol=1e-6)


@given(st.integers(2, 5), seeds)
def test_the_divergence_of_dirichlets_is_that_of_scipy(k, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.1, 9, (2, k))
    # log p is its value at any point, plus what is linear in the logarithms of the weights.
    point = rng.dirichlet(np.full(k, 5.0))
    point /= point.sum()
    cross = dirichlet(b).logpdf(point) + (b - 1) @ (Dirichlet(a).expected_log - np.log(point))
    np.testing.assert_allclose(
        Dirichlet(a).divergence(Dirichlet(b)), -dirichlet(a).entropy() - cross, rtol=1e-8, atol=1e-8
    )


@given(st.integers(1, 5), seeds)
def test_expectations_of_sticks_are_products_of_betas(k, seed):
    rng = np.random.default_rng(seed)
    taken, left = rng.uniform(1.1, 9, (2, k - 1))
    weights = StickBreaking(taken, left)
    whole, log_whole = 1.0, 0.0
    for j in range(k - 1):
        np.testing.assert_allclose(
            weights.mean[j], whole * beta_distribution(taken[j], left[j]).mean(), rtol=1e-12
        )
        np.testing.assert_allclose(
            weights.expected_log[j], log_whole + expected_log_of_beta(taken[j], left[j]), rtol=1e-6
        )
        whole *= beta_distribution(left[j], taken[j]).mean()
        log_whole += expected_log_of_beta(left[j], taken[j])
    np.testing.assert_allclose(weights.mean[-1], whole, rtol=1e-12)
    np.testing.assert_allclose(weights.expected_log[-1], log_whole, rtol=1e-6)
    np.testing.assert_allclose(weights.mean.sum(), 1, rtol=1e-12)


@given(st.integers(1, 4), seeds)
def test_the_divergence_of_sticks_is_that_of_independent_betas(k, seed):
    rng = np.random.default_rng(seed)
    q = StickBreaking(*rng.uniform(1.1, 6, (2, k)))
    prior = StickBreaking(*rng.uniform(0.5, 6, (2, k)))
    expected = 0.0
    for a, b, c, d in zip(q.taken, q.left, prior.taken, prior.left, strict=True):
        taken, left = expected_log_of_beta(a, b), expected_log_of_beta(b, a)
        cross = beta_distribution(c, d).logpdf(0.5) - (c + d - 2) * np.log(0.5)
        expected -= beta_distribution(a, b).entropy() + cross + (c - 1) * taken + (d - 1) * left
    np.testing.assert_allclose(q.divergence(prior), expected, rtol=1e-6, atol=1e-7)


def log_density_of_weights(weights, points):
    if isinstance(weights, Dirichlet):
        return np.array([dirichlet(weights.concentration).logpdf(w) for w in points])
    if not len(weights.taken):
        return np.zeros(len(points))
    left = 1 - np.cumsum(points, axis=1)
    sticks = points[:, :-1] / np.c_[np.ones(len(points)), left[:, :-2]]
    return beta_distribution(weights.taken, weights.left).logpdf(sticks).sum(1)


@given(st.sampled_from(sorted(MIXING_WEIGHTS)), st.integers(2, 5), seeds)
def test_the_posterior_of_weights_is_bayes_theorem(kind, k, seed):
    rng = np.random.default_rng(seed)
    prior = MIXING_WEIGHTS[kind].prior(k, rng.uniform(0.2, 3))
    count = rng.gamma(2.0, size=k)
    points = rng.dirichlet(np.full(k, 4.0), 6)
    constant = (
        log_density_of_weights(prior.posterior(count), points)
        - log_density_of_weights(prior, points)
        - np.log(points) @ count
    )
    np.testing.assert_allclose(constant, constant[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", sorted(MIXING_WEIGHTS))
def test_one_component_has_weight_one(kind):
    weights = MIXING_WEIGHTS[kind].prior(1, 0.7).posterior(np.array([12.5]))
    np.testing.assert_array_equal(weights.mean, [1.0])
    np.testing.assert_allclose(weights.expected_log, [0.0], atol=1e-15)
    np.testing.assert_allclose(
        weights.divergence(MIXING_WEIGHTS[kind].prior(1, 0.7)), 0, atol=1e-13
    )


@given(st.integers(1, 5), seeds, st.sampled_from([0.01, 0.3, 1.0, 2.5, 50.0]), st.booleans())
def test_no_order_of_sticks_is_more_probable_than_the_one_chosen(k, seed, concentration, rounded):
    rng = np.random.default_rng(seed)
    count = rng.gamma(0.3, 30, size=k)
    if rounded:
        count = np.round(count)
    prior = StickBreaking.prior(k, concentration)
    best = max(_log_evidence(prior, count[list(order)]) for order in permutations(range(k)))
    np.testing.assert_allclose(
        _log_evidence(prior, count[prior.order(count)]), best, rtol=1e-12, atol=1e-12
    )
    count = count[prior.order(count)]
    np.testing.assert_array_equal(prior.order(count), np.arange(k))


@given(st.integers(1, 5), seeds)
def test_the_order_of_dirichlet_components_is_left_alone(k, seed):
    count = np.random.default_rng(seed).gamma(1.0, size=k)
    np.testing.assert_array_equal(Dirichlet.prior(k, 0.3).order(count), np.arange(k))


# Moments.


def _log_evidence(prior, count):
    """log p(labels) of components that hold so many rows, but for a constant."""
    posterior = prior.posterior(count)
    return betaln(posterior.taken, posterior.left).sum()


def moments_of(X, r, structure):
    unit = STRUCTURES[structure].identity(r.shape[1], X.shape[1])
    return moments_given(r, unit, Rows(X, None, Frame.identity(X.shape[1])))


def assert_same_moments(actual, expected):
    expected = expected.about(actual.origin)
    for name in ("count", "first", "second"):
        np.testing.assert_allclose(
            getattr(actual, name), getattr(expected, name), rtol=1e-9, atol=1e-9
        )


@given(conjugates, st.integers(1, 5), st.integers(1, 3), seeds)
def test_merged_moments_are_those_of_merged_responsibilities(structure, k, d, seed):
    rng = np.random.default_rng(seed)
    X, r = 3 * rng.standard_normal((15, d)), rng.dirichlet(np.ones(k), 15)
    moments = moments_of(X, r, structure)
    count, second = moments.count.copy(), moments.second.copy()
    to = rng.integers(k, size=k)
    assert_same_moments(moments.merged(to), moments_of(X, r @ np.eye(k)[to], structure))
    np.testing.assert_array_equal(moments.count, count)
    np.testing.assert_array_equal(moments.second, second)


@given(conjugates, st.integers(1, 5), st.integers(1, 3), seeds)
def test_moments_taken_are_those_of_components_taken(structure, k, d, seed):
    rng = np.random.default_rng(seed)
    X, r = 3 * rng.standard_normal((15, d)), rng.dirichlet(np.ones(k), 15)
    order = rng.permutation(k)[: rng.integers(1, k + 1)]
    assert_same_moments(
        moments_of(X, r, structure).take(order), moments_of(X, r[:, order], structure)
    )


@pytest.mark.parametrize("structure", CONJUGATE)
def test_one_gaussian_of_known_parameters_is_the_limit_of_certainty(structure):
    """With many degrees of freedom and a sure mean the predictive density is normal."""
    k, d = 2, 3
    unsure = make(structure, k, d, 11)
    sure = NormalWishart(unsure.mean, np.full(k, 1e9), np.full(k, 1e9), unsure.covariance)
    X = np.random.default_rng(0).standard_normal((6, d))
    expected = np.transpose(
        [
            multivariate_normal(mean, covariance).logpdf(X)
            for mean, covariance in zip(sure.mean, sure.covariance.dense(), strict=True)
        ]
    )
    for metric, normaliser in (
        (sure.scan(), sure.log_normaliser),
        (sure.predictive_metric(), sure.predictive_log_normaliser),
    ):
        np.testing.assert_allclose(evaluate(metric, normaliser, X), expected, rtol=1e-6)
