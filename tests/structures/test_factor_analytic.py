"""Laws of factor-analytic covariances, beside those that hold for every structure."""

import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import FactorAnalysis
from sklearn.preprocessing import StandardScaler

import skemvae
from skemvae import DoubtfulFitWarning, EMGaussianMixture
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.rows import Frame, Rows
from skemvae.structures.dense import Full
from skemvae.structures.factor_analytic import FactorAnalytic
from skemvae.structures.factor_scan import ExpandedFactorScan, FactorScan
from tests.levels import levels, path
from tests.passes import em_on, expectation
from tests.strategies import covariances, mixtures, seeds

factor_analytic = st.just("factor_analytic")


def table(seed=0, n=400, d=6, q=2, k=2, noise=0.5):
    """Clusters, in each of which a few factors move all columns."""
    rng = np.random.default_rng(seed)
    loadings = rng.standard_normal((k, q, d))
    labels = rng.integers(k, size=n)
    X = np.einsum("nq,nqd->nd", rng.standard_normal((n, q)), loadings[labels])
    X += 4 * rng.standard_normal((k, d))[labels]
    return X + noise * rng.uniform(0.5, 1.5, d) * rng.standard_normal((n, d))


def fitted(X, k=2, q=2, **parameters):
    return EMGaussianMixture(
        k, covariance_type="factor_analytic", n_factors=q, random_state=0, **parameters
    ).fit(X)


# The algebra, by matrices.


@given(covariances(structure=factor_analytic), seeds)
def test_the_algebra_is_that_of_its_matrices(covariance, seed):
    rng = np.random.default_rng(seed)
    k, d = covariance.n_components, covariance.n_features
    matrices = Full(covariance.dense())
    noise = rng.gamma(2.0, size=d)
    np.testing.assert_allclose(covariance.log_det, matrices.log_det, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(covariance.variances, matrices.variances)
    np.testing.assert_allclose(
        covariance.trace_precision(noise), matrices.trace_precision(noise), rtol=1e-7
    )
    np.testing.assert_allclose(covariance.fitted()["precisions_"], matrices.precisions, atol=1e-7)
    scale = 2.0 ** rng.integers(-3, 4, d)
    np.testing.assert_allclose(covariance.scaled(scale).dense(), matrices.scaled(scale).dense())
    again = type(covariance).from_fitted(
        k, d, *(covariance.fitted()[name] for name in covariance.fitted_shapes(k, d))
    )
    np.testing.assert_array_equal(again.values, covariance.values)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(covariance)).values, covariance.values)


@given(covariances(structure=factor_analytic), seeds)
def test_draws_have_its_covariance(covariance, seed):
    """``draw`` is linear in normal numbers, so its matrix tells."""
    d = covariance.n_features
    for k, dense in enumerate(covariance.dense()):
        units = SimpleNamespace(standard_normal=lambda shape: np.eye(d))
        root = covariance.draw(np.full(d, k), units)
        np.testing.assert_allclose(root.T @ root, dense, rtol=1e-8, atol=1e-8)


@given(mixtures(structure=factor_analytic), seeds, levels, st.sampled_from([0.0, 1e3, 1e6]))
def test_both_scans_and_the_kernel_agree_with_matrices(mixture, seed, level, distance):
    rng = np.random.default_rng(seed)
    X, _ = mixture.sample(50, rng)
    offset = distance * rng.standard_normal(X.shape[1])
    covariance, means = mixture.covariance, mixture.means + offset
    scan = covariance.scan(means)
    assert isinstance(scan, ExpandedFactorScan if distance == 0 else FactorScan)
    here = GaussianMixture(mixture.weights, means, covariance, mixture.noise)
    there = GaussianMixture(mixture.weights, means, Full(covariance.dense()), mixture.noise)
    rows = Rows.of(X + offset)
    with path(level):
        ours = expectation(here, rows)
    theirs = expectation(there, rows)
    np.testing.assert_allclose(ours.bound, theirs.bound, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(ours.moments.count, theirs.moments.count, atol=1e-6)
    held = theirs.moments.count > 1
    np.testing.assert_allclose(
        ours.moments.variances[held], theirs.moments.variances[held], rtol=1e-5, atol=1e-5
    )
    log_joint = [
        np.log(weight) + multivariate_normal(mean, matrix).logpdf(X + offset)
        for weight, mean, matrix in zip(mixture.weights, means, covariance.dense(), strict=True)
    ]
    np.testing.assert_allclose(here.log_joint(X + offset), np.transpose(log_joint), atol=1e-6)


@given(mixtures(structure=factor_analytic), seeds)
def test_moments_may_be_taken_about_any_origin(mixture, seed):
    rng = np.random.default_rng(seed)
    X, _ = mixture.sample(30, rng)
    moments = expectation(mixture, Rows.of(X)).moments
    moved = moments.about(moments.origin + rng.standard_normal(moments.origin.shape))
    np.testing.assert_allclose(moved.means, moments.means, atol=1e-9)
    held = moments.count > 1e-3
    np.testing.assert_allclose(moved.covariances[held], moments.covariances[held], atol=1e-6)


@given(mixtures(structure=factor_analytic), seeds, st.floats(1e-3, 1.0))
def test_an_m_step_raises_the_expected_log_likelihood(mixture, seed, ridge):
    """It is that of matrices: one step of EM for the factors, however many rows there are."""
    rng = np.random.default_rng(seed)
    d = mixture.means.shape[1]
    noise = np.full(d, ridge)
    scatter = rng.standard_normal((d, d + 2))
    scatter = scatter @ scatter.T / (d + 2)

    def expected(covariance):
        own = Full(covariance.dense())
        precisions = np.linalg.inv(own.dense())
        return -(own.log_det + np.einsum("kij,ij->k", precisions, scatter + np.diag(noise))) / 2

    before = mixture.covariance.above(noise)
    k = before.n_components
    turned = before.scan(np.zeros((k, d))).directions.transpose(0, 2, 1)
    second = np.concatenate([scatter @ turned, np.tile(scatter.diagonal(), (k, 1))[..., None]], 2)
    scan = before.scan(np.zeros((k, d)))
    moments = FactorScan.moments(scan, np.ones(k), np.zeros((k, d)), second)
    after = before.maximise(moments, noise)
    assert (expected(after) >= expected(before) - 1e-9).all()
    assert (after.own_variances >= noise).all()
    # What it made would be made again of its own scatter.
    still = FactorScan.moments(
        after.scan(np.zeros((k, d))), np.ones(k), np.zeros((k, d)), after.scatter(noise)
    )
    np.testing.assert_allclose(
        Full(after.maximise(still, noise).dense()).values, after.dense(), rtol=1e-6, atol=1e-6
    )


@given(seeds, st.integers(1, 4))
def test_the_nearest_covariances_of_such_a_matrix_are_its_own(seed, q):
    rng = np.random.default_rng(seed)
    loadings, own = rng.standard_normal((9, q)), rng.uniform(0.5, 2, 9)
    matrix = loadings @ loadings.T + np.diag(own)
    nearest = FactorAnalytic.with_factors(q).nearest(Full(matrix[None]), np.zeros(9))

    def divergence(covariance):
        return np.trace(np.linalg.solve(covariance, matrix)) + np.linalg.slogdet(covariance)[1]

    excess = divergence(nearest.dense()[0]) - divergence(matrix)
    assert -1e-9 <= excess < 0.5
    assert excess <= divergence(np.diag(matrix.diagonal())) - divergence(matrix) + 1e-9


# Fits.


@pytest.mark.parametrize("q", [1, 2, 5])
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_one_component_is_factor_analysis(load, q):
    X = StandardScaler().fit_transform(load().data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # columns that determine each other make both slow
        theirs = FactorAnalysis(q, tol=1e-8, max_iter=5000).fit(X).score(X)
        ours = fitted(X, 1, q, tol=1e-7, max_iter=3000, reg_covar=1e-10)
    assert ours.converged_
    assert ours.score(X) > theirs - 1e-4


@given(seeds, st.integers(1, 3), st.integers(1, 4), st.sampled_from([0.0, 1e-6, 1e-2]))
def test_no_iteration_lowers_the_bound(seed, k, q, reg_covar):
    X = table(seed, n=80, d=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture = fitted(X, k, q, reg_covar=reg_covar, max_iter=40, tol=0)
    assert np.diff(mixture.lower_bounds_).min() >= -1e-9
    assert mixture.score(X) >= mixture.lower_bound_ - 1e-9


def test_a_converged_fit_has_no_gradient():
    X = table(n=300)
    mixture = fitted(X, tol=1e-11, max_iter=5000, reg_covar=1e-8)
    loadings, own = mixture.loadings_, mixture.noise_variances_

    def score(step, direction):
        moved = FactorAnalytic.with_factors(2).from_fitted(
            2, 6, loadings + step * direction[:, :, :2], own * np.exp(step * direction[:, :, 2])
        )
        return EMGaussianMixture.from_parameters(
            mixture.weights_, mixture.means_, moved.dense()
        ).score(X)

    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = rng.standard_normal((2, 6, 3))
        slope = (score(1e-4, direction) - score(-1e-4, direction)) / 2e-4
        assert abs(slope) < 1e-4


def test_it_finds_the_clusters_and_beats_full_covariances_on_new_rows():
    X = table(seed=3, n=1200, d=30, q=2, k=3)
    train, test = X[:300], X[300:]
    ours = fitted(train, 3, 2)
    full = EMGaussianMixture(3, random_state=0).fit(train)
    assert ours.score(test) > full.score(test) + 1
    assert ours.n_parameters_ < full.n_parameters_ / 3


def test_weights_are_repetitions_and_units_do_not_matter():
    X = table(n=150)
    often = np.random.default_rng(0).integers(1, 4, len(X))
    weighted, repeated = fitted(X), fitted(np.repeat(X, often, axis=0))
    weighted = EMGaussianMixture(**weighted.get_params()).fit(X, sample_weight=often)
    np.testing.assert_allclose(weighted.lower_bound_, repeated.lower_bound_, rtol=1e-6)
    scale = 2.0 ** np.arange(-3, 3)
    scaled = fitted(X * scale + 7)
    np.testing.assert_allclose(
        scaled.score(X * scale + 7) + np.log(scale).sum(), fitted(X).score(X), rtol=1e-6
    )


def test_smaller_mixtures_are_of_the_same_structure():
    X = table()
    mixture = fitted(X)
    some = mixture.marginal([4, 0, 1])
    np.testing.assert_array_equal(some.loadings_, mixture.loadings_[:, [4, 0, 1]])
    given_ = mixture.condition([0, 2], X[0, [0, 2]])
    ratio = mixture.score_samples(X[:1]) - mixture.marginal([0, 2]).score_samples(X[:1, [0, 2]])
    np.testing.assert_allclose(given_.score_samples(X[:1, [1, 3, 4, 5]]), ratio, rtol=1e-9)
    assert given_.loadings_.shape == (2, 4, 2)


def test_bic_counts_loadings_up_to_rotation():
    assert fitted(table(), 2, 2).n_parameters_ == 1 + 12 + 2 * (6 + 6 * 2 - 1)
    # As many factors as columns are no more than a matrix.
    assert fitted(table(d=3), 1, 3, reg_covar=1e-3).n_parameters_ == 3 + 6


def test_a_warm_start_a_file_and_a_pickle_keep_every_number(tmp_path):
    X = table()
    mixture = fitted(X, max_iter=500, tol=1e-8)
    skemvae.save(mixture, tmp_path / "mixture.skemvae")
    for again in (skemvae.load(tmp_path / "mixture.skemvae"), pickle.loads(pickle.dumps(mixture))):
        np.testing.assert_array_equal(again.score_samples(X), mixture.score_samples(X))
    bound = mixture.lower_bound_
    mixture.set_params(warm_start=True).fit(X)
    assert mixture.n_iter_ <= 3
    assert mixture.lower_bound_ >= bound - 1e-12


def test_what_belongs_to_another_structure_is_gone_after_a_fit():
    X = table()
    mixture = fitted(X)
    mixture.set_params(covariance_type="full").fit(X)
    assert not hasattr(mixture, "loadings_")
    mixture.set_params(covariance_type="factor_analytic").fit(X)
    assert not hasattr(mixture, "precisions_cholesky_")
    assert mixture.loadings_.shape == (2, 6, 2)


def test_a_column_without_noise_of_its_own_is_named():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 4))
    X[:, 1] = X[:, 0] + 1e-6 * rng.standard_normal(300)
    with pytest.warns(DoubtfulFitWarning, match="a Heywood case"):
        mixture = fitted(X, 1, 1, tol=1e-9, max_iter=5000)
    assert np.isfinite(mixture.lower_bounds_).all()
    assert np.diff(mixture.lower_bounds_).min() >= -1e-9


def test_online_em_is_refused_with_what_to_do_instead():
    with pytest.raises(ValueError, match="does not support covariance_type='factor_analytic'"):
        EMGaussianMixture(2, covariance_type="factor_analytic").partial_fit(table())


@pytest.mark.parametrize("n_factors", [0, -1, 1.5, True, "2"])
def test_no_such_number_of_factors(n_factors):
    with pytest.raises((TypeError, ValueError), match="n_factors"):
        fitted(table(), 2, n_factors)


def test_half_the_squared_length_of_coordinates_is_a_divergence_with_factors():
    """Complete are rows, their components and their factors."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.standard_normal((1, 4, 2)), rng.uniform(0.5, 2, (1, 4, 1))], 2)
    one = FactorAnalytic.with_factors(2)(values)
    moved = 1e-4 * rng.standard_normal(values.shape)
    other = type(one)(values + moved)
    length = np.linalg.norm(one.axes().log_ratios(other))
    # KL of x given u, averaged over u, which is standard normal.
    shift = ((other.loadings - one.loadings) ** 2).sum(2) / other.own_variances
    ratio = one.own_variances / other.own_variances
    divergence = 0.5 * (ratio - 1 - np.log(ratio) + shift).sum()
    np.testing.assert_allclose(length**2 / 2, divergence, rtol=0.01)
    rebuilt = one.axes().values(one.axes().log_ratios(other))
    np.testing.assert_allclose(rebuilt, other.values, rtol=1e-9)


def test_em_alone_and_with_acceleration_end_at_the_same_bound():
    X = table(seed=1, n=600)
    em = em_on(Rows(X, None, Frame(X.mean(0), np.ones(6))))
    start = fitted(X, max_iter=0, tol=0, reg_covar=1e-4)
    assert em.start(start._mixture().into(em.table.frame)).bound == pytest.approx(start.score(X))
    plain = fitted(X, acceleration=None, tol=1e-9, max_iter=5000, reg_covar=1e-4)
    fast = fitted(X, tol=1e-9, max_iter=5000, reg_covar=1e-4)
    assert fast.lower_bound_ == pytest.approx(plain.lower_bound_, abs=1e-5)
    assert fast.n_iter_ < plain.n_iter_
