"""Laws of exact EM, over all structures, with and without weights and regularisation."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import chi2, kstest, multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skemvae import EMGaussianMixture
from skemvae.structures.registry import STRUCTURES
from tests.ridge import ridge
from tests.strategies import (
    ALL,
    MATRICES,
    estimator_of,
    matrices,
    mixtures,
    regularisations,
    seeds,
    structures,
    tables,
    weights_of,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Tables with ties and with columns that follow others are fitted on purpose.
    pytest.mark.filterwarnings("ignore::skemvae.DoubtfulFitWarning"),
]
components = st.integers(1, 8)


def clusters(seed=0, n=300, d=2, k=3, distance=4.0):
    rng = np.random.default_rng(seed)
    centres = distance * rng.standard_normal((k, d))
    return centres[rng.integers(k, size=n)] + rng.standard_normal((n, d))


def start(X, k, structure, seed=0):
    """Explicit initial parameters, for fits that must begin alike."""
    rng = np.random.default_rng(seed)
    d, variances = X.shape[1], X.var(0)
    return {
        "weights_init": np.full(k, 1 / k),
        "means_init": X[rng.choice(len(X), k, replace=False)],
        "precisions_init": {
            "full": np.broadcast_to(np.diag(1 / variances), (k, d, d)),
            "tied": np.diag(1 / variances),
            "diag": np.broadcast_to(1 / variances, (k, d)),
            "spherical": np.full(k, 1 / variances.mean()),
            "factor_analytic": np.broadcast_to(np.diag(1 / variances), (k, d, d)),
        }[structure],
    }


# The bound.


@given(tables(), structures, components, regularisations, seeds, st.data())
def test_no_iteration_lowers_the_objective(X, structure, k, reg_covar, seed, data):
    weight = data.draw(weights_of(len(X)))
    init_params = data.draw(st.sampled_from(["auto", "kmeans", "random", "random_from_data"]))
    if data.draw(st.booleans()):
        X = (X + data.draw(st.sampled_from([0.0, 1e4]))).astype(np.float32)
    else:
        X = X + data.draw(st.sampled_from([0.0, -1e8]))
        X = X * data.draw(st.sampled_from([1e-100, 1.0, 1e100]))
    mixture = EMGaussianMixture(
        k,
        covariance_type=structure,
        reg_covar=reg_covar,
        init_params=init_params,
        max_iter=30,
        tol=0,
        random_state=seed % 1000,
    ).fit(X, sample_weight=weight)
    bounds = mixture.lower_bounds_
    assert np.isfinite(bounds).all()
    assert np.diff(bounds).min() >= -1e-9 * max(1.0, np.abs(bounds).max())
    assert bounds[-1] == mixture.lower_bound_
    assert len(bounds) == mixture.n_iter_ + 1
    for name in ("weights_", "means_", "covariances_", "precisions_"):
        assert np.isfinite(getattr(mixture, name)).all()
        assert getattr(mixture, name).dtype == np.float64


@given(seeds, matrices, st.integers(1, 4), st.booleans())
def test_without_regularisation_the_bound_is_the_score(seed, structure, k, weighted):
    X = clusters(seed)
    weight = np.random.default_rng(seed).gamma(2.0, size=len(X)) if weighted else None
    mixture = EMGaussianMixture(k, covariance_type=structure, reg_covar=0, random_state=0)
    mixture.fit(X, sample_weight=weight)
    # The floor under the variances shows where a component has collapsed.
    assume(np.diagonal(mixture._mixture().covariance.dense(), axis1=1, axis2=2).min() > 1e-9)
    np.testing.assert_allclose(
        mixture.lower_bound_, mixture.score(X, sample_weight=weight), rtol=1e-10
    )


@given(seeds, structures, st.sampled_from([1e-6, 1e-2]))
def test_the_bound_is_the_score_less_the_expected_penalty(seed, structure, reg_covar):
    """log sum_k w_k N_k exp(-tr(E C_k^-1) / 2), averaged over the rows, by its definition."""
    X = clusters(seed)
    mixture = EMGaussianMixture(3, covariance_type=structure, reg_covar=reg_covar, random_state=0)
    mixture.fit(X)
    noise = ridge(X, reg_covar)
    model = mixture._mixture()
    densities = np.column_stack(
        [
            multivariate_normal(mean, covariance).pdf(X)
            * np.exp(-0.5 * np.trace(np.diag(noise) @ np.linalg.inv(covariance)))
            for mean, covariance in zip(model.means, model.covariance.dense(), strict=True)
        ]
    )
    expected = np.log(densities @ mixture.weights_).mean()
    np.testing.assert_allclose(mixture.lower_bound_, expected, rtol=1e-9)


@pytest.mark.parametrize("structure", ALL)
def test_the_history_holds_the_bound_of_every_iteration(structure):
    X = clusters(n=200)
    fixed = {"covariance_type": structure, "tol": 0, **start(X, 3, structure)}
    whole = EMGaussianMixture(3, max_iter=6, **fixed).fit(X)
    for i in range(7):
        part = EMGaussianMixture(3, max_iter=i, **fixed).fit(X)
        assert part.lower_bound_ == whole.lower_bounds_[i]
        assert part.n_iter_ == i
    np.testing.assert_allclose(
        EMGaussianMixture(3, max_iter=0, **fixed).fit(X).means_, fixed["means_init"], rtol=1e-12
    )


@given(seeds, matrices)
def test_a_converged_fit_is_a_stationary_point_of_the_likelihood(seed, structure):
    """Finite differences of the score in every parameter direction vanish."""
    X = clusters(seed, n=150)
    mixture = EMGaussianMixture(
        2, covariance_type=structure, reg_covar=0, tol=1e-13, max_iter=5000, random_state=0
    ).fit(X)
    assume(mixture.converged_)
    rng = np.random.default_rng(seed)
    d_weights = rng.standard_normal(2)
    d_weights -= d_weights.mean()
    d_covariances = mixture.covariances_ * rng.uniform(-1, 1)
    if structure in ("diag", "spherical"):
        d_covariances = mixture.covariances_ * rng.uniform(-1, 1, mixture.covariances_.shape)

    def score(h):
        moved = EMGaussianMixture.from_parameters(
            mixture.weights_ * np.exp(h * d_weights) / (mixture.weights_ @ np.exp(h * d_weights)),
            mixture.means_ + h * d_means,
            mixture.covariances_ + h * d_covariances,
            covariance_type=structure,
        )
        return moved.score(X)

    d_means = rng.standard_normal(mixture.means_.shape)
    h = 1e-4
    assert abs(score(h) - score(-h)) / (2 * h) < 1e-4
    assert score(h) <= score(0) + 1e-9
    assert score(-h) <= score(0) + 1e-9


@given(mixtures(), seeds)
def test_the_free_energy_is_the_log_density(mixture, seed):
    fitted = estimator_of(mixture)
    X = 5 * np.random.default_rng(seed).standard_normal((20, mixture.means.shape[1]))
    log_densities = [
        multivariate_normal(mean, covariance).logpdf(X)
        for mean, covariance in zip(mixture.means, mixture.covariance.dense(), strict=True)
    ]
    expected = logsumexp(log_densities, axis=0, b=mixture.weights[:, None])
    np.testing.assert_allclose(fitted.score_samples(X), expected, rtol=1e-8)
    np.testing.assert_allclose(fitted.elbo(X), fitted.score_samples(X), rtol=1e-12)


@pytest.mark.parametrize("structure", ALL)
def test_the_density_integrates_to_one(structure):
    X = clusters(d=2)
    mixture = EMGaussianMixture(3, covariance_type=structure, random_state=0).fit(X)
    low, high = X.min(0) - 6, X.max(0) + 6
    axes = [np.linspace(a, b, 400) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    np.testing.assert_allclose(np.exp(mixture.score_samples(grid)).sum() * cell, 1, atol=1e-6)


@pytest.mark.parametrize("structure", MATRICES)
def test_the_criteria_are_what_their_papers_say(structure):
    X = clusters()
    mixture = EMGaussianMixture(3, covariance_type=structure, random_state=0).fit(X)
    log_likelihood = mixture.score_samples(X).sum()
    r = mixture.predict_proba(X)
    entropy = -(r[r > 0] * np.log(r[r > 0])).sum()
    n_covariances = {"full": 9, "tied": 3, "diag": 6, "spherical": 3}[structure]
    n_parameters = 2 + 6 + n_covariances
    assert mixture.n_parameters_ == n_parameters
    np.testing.assert_allclose(mixture.aic(X), -2 * log_likelihood + 2 * n_parameters)
    bic = -2 * log_likelihood + np.log(len(X)) * n_parameters
    np.testing.assert_allclose(mixture.bic(X), bic)
    np.testing.assert_allclose(mixture.icl(X), bic + 2 * entropy)


# Units, offsets, precision.


@given(
    seeds,
    structures,
    st.sampled_from([1e-100, 1e-8, 0.37, 1.0, -2.0, 1e5, 1e100]),
    st.sampled_from([0.0, 10.0]),
    st.sampled_from([0.0, 1e-6, 1e-2]),
)
def test_a_change_of_units_moves_the_score_by_the_jacobian(seed, structure, a, b, reg_covar):
    """Starts included: the default initialisation does not see units either."""
    X = clusters(seed)
    scale = np.full(2, a) if structure == "spherical" else np.array([a, -3.3])
    parameters = {"covariance_type": structure, "reg_covar": reg_covar, "random_state": 0}
    plain = EMGaussianMixture(3, **parameters).fit(X)
    Y = scale * (X + b)
    changed = EMGaussianMixture(3, **parameters).fit(Y)
    jacobian = np.log(np.abs(scale)).sum()
    np.testing.assert_allclose(changed.score(Y), plain.score(X) - jacobian, rtol=0, atol=1e-7)
    np.testing.assert_allclose(
        changed.lower_bounds_, plain.lower_bounds_ - jacobian, rtol=0, atol=1e-7
    )
    np.testing.assert_allclose(changed.predict_proba(Y), plain.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("structure", ALL)
def test_powers_of_two_change_no_digit(structure):
    X = clusters()
    scale = np.full(2, 2.0**30) if structure == "spherical" else np.array([2.0**30, 2.0**-40])
    plain = EMGaussianMixture(3, covariance_type=structure, random_state=0).fit(X)
    changed = EMGaussianMixture(3, covariance_type=structure, random_state=0).fit(scale * X)
    np.testing.assert_array_equal(changed.weights_, plain.weights_)
    np.testing.assert_array_equal(changed.means_, scale * plain.means_)


@pytest.mark.parametrize("structure", ALL)
@pytest.mark.parametrize("separation", [0.0, 1e4])
def test_an_offset_of_1e8_costs_only_what_rounding_x_costs(structure, separation):
    X = clusters()
    X[:150] += separation
    far = X + 1e8
    near = far - 1e8  # what rounding left of the rows
    begin = {"covariance_type": structure, "tol": 0, "max_iter": 20, **start(near, 3, structure)}
    begin["acceleration"] = None  # what rounding left is compared step by step
    fits = [EMGaussianMixture(3, **begin).fit(near)]
    begin["means_init"] = begin["means_init"] + 1e8
    fits.append(EMGaussianMixture(3, **begin).fit(far))
    np.testing.assert_allclose(fits[1].score_samples(far), fits[0].score_samples(near), atol=1e-5)
    np.testing.assert_allclose(fits[1].covariances_, fits[0].covariances_, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("structure", ALL)
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
def test_float32_is_computed_to_float32_accuracy_at_any_offset(structure, offset):
    X = (clusters() + offset).astype(np.float32)
    single = EMGaussianMixture(3, covariance_type=structure, random_state=0).fit(X)
    double = EMGaussianMixture(3, covariance_type=structure, random_state=0)
    double.fit(X.astype(np.float64))
    np.testing.assert_allclose(single.means_, double.means_, rtol=1e-12)
    np.testing.assert_allclose(single.covariances_, double.covariances_, rtol=1e-9, atol=1e-9)
    for method in ("score_samples", "predict_proba", "elbo", "transform"):
        rows = getattr(single, method)(X)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(
            rows, getattr(double, method)(X.astype(np.float64)), rtol=1e-6, atol=1e-6
        )
    assert single.means_.dtype == np.float64


# Weights.


@given(seeds, structures, components)
def test_weights_are_repetitions_and_row_order_does_not_matter(seed, structure, k):
    X = clusters(seed, n=120)
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 4, len(X))
    parameters = {"covariance_type": structure, "random_state": 0}
    weighted = EMGaussianMixture(k, **parameters).fit(X, sample_weight=count)
    scaled = EMGaussianMixture(k, **parameters).fit(X, sample_weight=1e-200 * count)
    repeated = EMGaussianMixture(k, **parameters).fit(rng.permutation(np.repeat(X, count, axis=0)))
    for other in (scaled, repeated):
        np.testing.assert_allclose(other.lower_bound_, weighted.lower_bound_, rtol=1e-8)
        np.testing.assert_allclose(other.score_samples(X), weighted.score_samples(X), atol=1e-4)


@given(seeds, structures, st.sampled_from(["auto", "kmeans", "k-means++", "random_from_data"]))
def test_ties_are_not_decided_by_rounding(seed, structure, init_params):
    """Integers stand at equal distances from many things."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 6, (80, 2)).astype(float)
    count = rng.integers(0, 4, len(X))
    parameters = {"covariance_type": structure, "init_params": init_params, "random_state": 0}
    weighted = EMGaussianMixture(3, **parameters).fit(X, sample_weight=count)
    scaled = EMGaussianMixture(3, **parameters).fit(X, sample_weight=0.3 * count)
    repeated = EMGaussianMixture(3, **parameters).fit(rng.permutation(np.repeat(X, count, axis=0)))
    for other in (scaled, repeated):
        np.testing.assert_allclose(other.lower_bounds_[0], weighted.lower_bounds_[0], atol=1e-8)


def test_rows_of_weight_zero_do_not_exist_however_far_they_are():
    X = clusters()
    far = np.r_[X, [[1e200, -1e308]]]
    weight = np.r_[np.ones(len(X)), 0.0]
    expected = EMGaussianMixture(3, random_state=0).fit(X)
    actual = EMGaussianMixture(3, random_state=0).fit(far, sample_weight=weight)
    np.testing.assert_allclose(actual.means_, expected.means_, rtol=1e-10)
    for method in ("score", "aic", "bic", "icl"):
        np.testing.assert_allclose(
            getattr(actual, method)(far, sample_weight=weight), getattr(expected, method)(X)
        )


@pytest.mark.parametrize("structure", ALL)
@pytest.mark.parametrize("spread", [1e-4, 1e-8, 1e-9, 1e-10])
@pytest.mark.parametrize("init_params", ["auto", "random", "random_from_data"])
def test_clusters_far_narrower_than_their_distance(structure, spread, init_params):
    """They are neither collapsed components, nor do they cancel."""
    X = spread * np.random.default_rng(1).standard_normal((120, 2))
    X[:60] += 1
    for reg_covar in (0.0, 1e-6):
        for seed in range(4):
            mixture = EMGaussianMixture(
                2,
                covariance_type=structure,
                init_params=init_params,
                reg_covar=reg_covar,
                random_state=seed,
                tol=1e-10,
            ).fit(X)
            assert np.diff(mixture.lower_bounds_).min() > -1e-9
            if init_params == "auto":
                np.testing.assert_allclose(mixture.weights_, 0.5, atol=1e-6)


@pytest.mark.parametrize("structure", ALL)
def test_weights_of_any_range(structure):
    X, rng = clusters(), np.random.default_rng(0)
    for weight in (np.exp(20 * rng.standard_normal(300)), np.r_[np.ones(150), np.full(150, 1e-17)]):
        mixture = EMGaussianMixture(2, covariance_type=structure, random_state=0)
        assert np.isfinite(mixture.fit(X, sample_weight=weight).score(X, sample_weight=weight))


# Parity with scikit-learn, where it is right.


@pytest.mark.parametrize("structure", MATRICES)
@pytest.mark.parametrize("n_iter", [1, 5, 50])
def test_parameters_equal_those_of_scikit_learn(structure, n_iter):
    X = clusters(n=500, d=3, distance=1.5)
    parameters = {
        "covariance_type": structure,
        "tol": 0,
        "max_iter": n_iter,
        "reg_covar": 1e-12,
        **start(X, 3, structure),
    }
    ours = EMGaussianMixture(3, acceleration=None, **parameters).fit(X)
    theirs = GaussianMixture(3, **parameters).fit(X)
    for name in ("weights_", "means_", "covariances_", "precisions_"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-8, err_msg=name
        )
    for method in ("score_samples", "predict_proba", "predict", "bic", "aic", "score"):
        np.testing.assert_allclose(getattr(ours, method)(X), getattr(theirs, method)(X), rtol=1e-6)
    assert ours.n_parameters_ == theirs._n_parameters()


# Samples.


@pytest.mark.parametrize("structure", ALL)
def test_samples_follow_the_density(structure):
    """Three goodness-of-fit tests, none of which looks at shapes."""
    k, d = 3, 2
    rng = np.random.default_rng(1)
    cls = STRUCTURES[structure].races_as()
    public = cls.identity(k, d)
    public = public.public(public.values)
    public = public * (
        rng.uniform(0.5, 2, k).reshape(-1, *[1] * (public.ndim - 1)) if structure != "tied" else 0.7
    )
    mixture = EMGaussianMixture.from_parameters(
        [0.2, 0.3, 0.5], 3 * rng.standard_normal((k, d)), public, covariance_type=structure
    )
    X, labels = mixture.sample(4000, random_state=0)
    # Labels come at their rates, and in random order.
    expected = 4000 * mixture.weights_
    observed = np.bincount(labels, minlength=k)
    assert chi2(k - 1).sf(((observed - expected) ** 2 / expected).sum()) > 1e-4
    changes = (np.diff(labels) != 0).mean()
    assert abs(changes - (1 - (mixture.weights_**2).sum())) < 0.05
    # Along any direction the rows follow the marginal distribution of that direction.
    for direction in rng.standard_normal((3, d)):
        model = mixture._mixture()
        means = model.means @ direction
        spreads = np.sqrt(direction @ model.covariance.dense() @ direction)

        def cdf(x, means=means, spreads=spreads):
            from scipy.stats import norm

            return norm.cdf(np.subtract.outer(x, means) / spreads) @ mixture.weights_

        assert kstest(X @ direction, cdf).pvalue > 1e-4
    # Within components Mahalanobis distances are chi-squared.
    squared = [
        multivariate_normal(mean, covariance).logpdf(X[labels == i])
        - multivariate_normal(mean, covariance).logpdf(mean)
        for i, (mean, covariance) in enumerate(
            zip(model.means, model.covariance.dense(), strict=True)
        )
    ]
    assert kstest(-2 * np.concatenate(squared), chi2(d).cdf).pvalue > 1e-4


# Marginals and conditionals.


@given(mixtures(max_features=4), seeds)
def test_joint_is_marginal_times_conditional(mixture, seed):
    d = mixture.means.shape[1]
    assume(d > 1)
    rng = np.random.default_rng(seed)
    joint = estimator_of(mixture)
    order = rng.permutation(d)
    known, free = order[: rng.integers(1, d)], None
    free = np.setdiff1d(np.arange(d), known)
    x, _ = joint.sample(1, random_state=int(seed % 2**31))
    conditional = joint.condition(known, x[0, known])
    expected = joint.score_samples(x) - joint.marginal(known).score_samples(x[:, known])
    np.testing.assert_allclose(
        conditional.score_samples(x[:, free]), expected, rtol=1e-7, atol=1e-7
    )
    assert conditional.n_features_in_ == len(free)


# Rows that are hard.


def test_rows_beyond_the_range_of_the_density_are_certain_anomalies():
    mixture = EMGaussianMixture(2, random_state=0).fit(clusters())
    far = np.array([[1e150, 0.0], [1e200, 1.0], [-1e308, 1e308]])
    log_density = mixture.score_samples(far)
    assert np.isfinite(log_density[0])
    assert log_density[0] < -1e295
    assert (log_density[1:] == -np.inf).all()
    np.testing.assert_allclose(mixture.predict_proba(far).sum(1), 1)


@pytest.mark.parametrize("structure", ALL)
@pytest.mark.parametrize("reg_covar", [0.0, 1e-6])
@pytest.mark.parametrize(
    "X",
    [
        np.zeros((8, 2)),
        np.full((8, 2), 1e8),
        np.repeat([[0.0, 1.0], [5.0, 2.0]], 4, axis=0),
        np.arange(10.0).reshape(5, 2),
        np.outer(np.arange(30.0), [1.0, 2.0, -1.0]),
        np.eye(5),
        np.r_[np.random.default_rng(0).standard_normal((40, 2)), [[1e6, -1e6]]],
    ],
    ids=["zeros", "constant", "two points", "collinear and few", "collinear", "n = K", "outlier"],
)
def test_degenerate_tables_get_a_usable_fit(X, structure, reg_covar):
    mixture = EMGaussianMixture(
        5, covariance_type=structure, reg_covar=reg_covar, random_state=0, max_iter=50
    ).fit(X)
    assert np.isfinite(mixture.score_samples(X)).all()
    assert (
        np.diff(mixture.lower_bounds_).min(initial=0) >= -1e-8 * np.abs(mixture.lower_bounds_).max()
    )
    np.testing.assert_allclose(mixture.predict_proba(X).sum(1), 1)
    np.testing.assert_allclose(mixture.weights_.sum(), 1)


def test_memory_beyond_the_table_does_not_grow_with_its_length(tmp_path):
    import tracemalloc

    peaks = []
    for n in (100_000, 400_000):
        path = tmp_path / f"{n}.npy"
        table = np.lib.format.open_memmap(path, "w+", np.float64, (n, 4))
        table[:] = np.random.default_rng(0).standard_normal((n, 4))
        table.flush()
        X = np.load(path, mmap_mode="r")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            tracemalloc.start()
            EMGaussianMixture(4, max_iter=2, random_state=0).fit(X)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
