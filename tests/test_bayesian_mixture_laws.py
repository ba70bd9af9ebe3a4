"""Laws of the Bayesian Gaussian mixture: its bound, its predictive density, its equivariances."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import chi2
from sklearn.mixture import BayesianGaussianMixture

from skemvae import EMGaussianMixture, VariationalEM, fitting
from skemvae.core.iterate import iterate
from skemvae.core.rows import Rows
from skemvae.engine.passes import numpy_pass
from skemvae.mixtures.weights import MIXING_WEIGHTS
from skemvae.models import BayesianMixture
from tests.conjugacy import log_evidence
from tests.laws import costly
from tests.strategies import CONJUGATE, conjugates, seeds, tables, weights_of
from tests.threads import limited

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Tables with ties and with columns that follow others are fitted on purpose.
    pytest.mark.filterwarnings("ignore::skemvae.DoubtfulFitWarning"),
]
KINDS = sorted(MIXING_WEIGHTS)
kinds = st.sampled_from(KINDS)
components = st.integers(1, 6)


def clusters(seed=0, n=300, d=2, k=3, distance=4.0, shares=None):
    """Rows of k clusters; with ``shares`` their centres are ``distance`` apart."""
    rng = np.random.default_rng(seed)
    if shares is None:
        centres = distance * rng.standard_normal((k, d))
        labels = rng.integers(k, size=n)
    else:
        angle = 2 * np.pi * np.arange(k) / k
        centres = np.zeros((k, d))
        centres[:, :2] = distance * np.c_[np.cos(angle), np.sin(angle)]
        labels = np.repeat(np.arange(k), np.round(n * np.array(shares)).astype(int))
    return centres[labels] + rng.standard_normal((len(labels), d))


def em(k=3, structure="full", kind="dirichlet_process", *, model=None, **parameters):
    parameters = {"random_state": 0, **parameters}
    mixture = BayesianMixture(
        k, covariance_type=structure, weight_concentration_prior_type=kind, **(model or {})
    )
    return VariationalEM(mixture, **parameters)


def divergence(fitted):
    return fitted.model_._mixture.divergence


# The bound never falls.


@given(tables(), conjugates, kinds, components, seeds, st.data())
def test_no_iteration_lowers_the_bound(X, structure, kind, k, seed, data):
    """Without the estimator's guard against rounding."""
    weight = data.draw(weights_of(len(X)))
    if data.draw(st.booleans()):
        X = (X + data.draw(st.sampled_from([0.0, 1e4]))).astype(np.float32)
    else:
        X = X + data.draw(st.sampled_from([0.0, -1e8]))
        X = X * data.draw(st.sampled_from([1e-100, 1.0, 1e100]))
    if weight is not None:
        X, weight = X[weight > 0], weight[weight > 0]
    model = em(k, structure, kind).model
    fit = model.begin(Rows.of(X, weight), None, None, np.random.RandomState(seed % 1000), None)
    state, _ = fit.start()
    bounds = [state.bound]
    for _ in range(10):
        state = fit._climb.ascent.em.step(state)
        bounds.append(state.bound)
    assert np.isfinite(bounds).all()
    assert np.diff(bounds).min() >= -1e-9 * max(1.0, np.abs(bounds).max())


@given(tables(), conjugates, kinds, components, seeds, st.data())
@costly(2)
def test_the_history_never_falls_and_all_is_finite(X, structure, kind, k, seed, data):
    weight = data.draw(weights_of(len(X)))
    fitted = em(k, structure, kind, tol=1e-9, max_iter=30, random_state=seed % 1000)
    fitted.fit(X, sample_weight=weight)
    bounds = fitted.lower_bounds_
    assert np.isfinite(bounds).all()
    assert np.diff(bounds).min(initial=0) >= 0
    assert bounds[-1] == fitted.lower_bound_
    assert len(bounds) == fitted.n_iter_ + 1
    model = fitted.model_
    for name in ("weights_", "means_", "covariances_", "precisions_", "weight_concentration_"):
        assert np.isfinite(getattr(model, name)).all()
        assert getattr(model, name).dtype == np.float64
    np.testing.assert_allclose(model.weights_.sum(), 1, rtol=1e-12)
    assert np.isfinite(fitted.score_samples(X)).all()
    np.testing.assert_allclose(fitted.predict_proba(X).sum(1), 1, rtol=1e-12)


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "X",
    [
        np.zeros((8, 2)),
        np.full((8, 2), 1e8),
        np.repeat([[0.0, 1.0], [5.0, 2.0]], 4, axis=0),
        np.arange(6.0).reshape(3, 2),
        np.outer(np.arange(30.0), [1.0, 2.0, -1.0]),
        np.repeat(np.arange(20), 2).reshape(20, 2) % 3,
        np.random.default_rng(0).integers(0, 3, (40, 3)),
        np.r_[np.random.default_rng(0).standard_normal((40, 2)), [[1e6, -1e6]]],
    ],
    ids=["zero", "constant", "two points", "n < K", "collinear", "twins", "integers", "outlier"],
)
def test_degenerate_tables_get_a_usable_fit(X, structure, kind):
    fitted = em(5, structure, kind, max_iter=30).fit(X)
    assert np.isfinite(fitted.lower_bounds_).all()
    assert np.isfinite(fitted.score_samples(X)).all()
    assert (fitted.elbo(X) <= fitted.score_samples(X) + 1e-9).all()
    np.testing.assert_allclose(fitted.predict_proba(X).sum(1), 1, rtol=1e-12)
    rows, labels = fitted.sample(20)
    assert np.isfinite(rows).all()
    assert set(labels) <= set(range(5))


# The bound is true.


def drawn_prior(structure, d, rng):
    """Explicit parameters in scikit-learn's layout, and the inverse scale as a matrix."""
    factor = rng.standard_normal((d, d + 1))
    matrix = factor @ factor.T + 0.2 * np.eye(d)
    public = {
        "full": matrix,
        "tied": matrix,
        "diag": np.diagonal(matrix),
        "spherical": matrix[0, 0],
    }[structure]
    dense = {
        "full": matrix,
        "tied": matrix,
        "diag": np.diag(np.diagonal(matrix)),
        "spherical": matrix[0, 0] * np.eye(d),
    }[structure]
    parameters = {
        "weight_concentration_prior": rng.uniform(0.2, 3),
        "mean_prior": rng.standard_normal(d),
        "mean_precision_prior": rng.uniform(0.1, 3),
        "degrees_of_freedom_prior": d - 1 + rng.uniform(0.5, 4),
        "covariance_prior": public,
    }
    return parameters, dense


def exact(X, structure, kind, k, parameters, dense):
    return log_evidence(
        structure,
        kind,
        X,
        k,
        parameters["weight_concentration_prior"],
        parameters["mean_prior"],
        parameters["mean_precision_prior"],
        parameters["degrees_of_freedom_prior"],
        dense,
    )


@given(conjugates, kinds, st.integers(2, 6), st.integers(1, 2), seeds)
def test_the_bound_is_below_the_evidence(structure, kind, n, d, seed):
    rng = np.random.default_rng(seed)
    X = rng.choice([0.3, 3.0]) * rng.standard_normal((n, d))
    X[: n // 2] += rng.choice([0.0, 5.0])
    parameters, dense = drawn_prior(structure, d, rng)
    fitted = em(2, structure, kind, model=parameters).fit(X)
    evidence = exact(X, structure, kind, 2, parameters, dense)
    assert (n * fitted.lower_bounds_ <= evidence + 1e-9 * max(1, abs(evidence))).all()
    # It is far from vacuous: mean-field loses little beyond the symmetries of the labels.
    assert n * fitted.lower_bound_ > evidence - 5 - n


@given(conjugates, kinds, st.integers(2, 6), st.integers(1, 2), seeds)
def test_with_one_component_the_bound_is_the_evidence(structure, kind, n, d, seed):
    rng = np.random.default_rng(seed)
    X = 5 + 2 * rng.standard_normal((n, d))
    parameters, dense = drawn_prior(structure, d, rng)
    fitted = em(1, structure, kind, model=parameters).fit(X)
    evidence = exact(X, structure, kind, 1, parameters, dense)
    np.testing.assert_allclose(n * fitted.lower_bound_, evidence, rtol=1e-9, atol=1e-9)


@given(conjugates, kinds, st.integers(2, 6), st.integers(1, 2), seeds)
def test_given_the_fitted_prior_the_bound_is_below_the_evidence(structure, kind, n, d, seed):
    """With one component it is the evidence, less what the prior costs."""
    rng = np.random.default_rng(seed)
    X = 5 + 3 * rng.standard_normal((n, d))
    k = int(rng.integers(1, 3))
    model = (fitted := em(k, structure, kind).fit(X)).model_
    spread = np.asarray(model.covariance_prior_)
    spread = spread if spread.ndim == 2 else np.diag(np.broadcast_to(spread, d))
    prior = (model.mean_prior_, model.mean_precision_prior_, model.degrees_of_freedom_prior_)
    evidence = log_evidence(structure, kind, X, k, 1 / k, *prior, spread)
    np.testing.assert_allclose(model.mean_prior_, X.mean(0))
    assert model.degrees_of_freedom_prior_ == (d if structure in ("full", "tied") else 1)
    penalty = model._mixture.hyperprior.penalty(model._mixture.prior.components)
    assert penalty >= 0
    assert n * fitted.lower_bound_ <= evidence - penalty + 1e-7
    if k == 1:
        np.testing.assert_allclose(
            n * fitted.lower_bound_, evidence - penalty, rtol=1e-7, atol=1e-7
        )


@given(conjugates, kinds, components, seeds, st.booleans())
@costly(2)
def test_the_bound_is_the_mean_elbo_less_the_cost_of_the_parameters(
    structure, kind, k, seed, weighted
):
    X = clusters(seed, n=80)
    weight = np.random.default_rng(seed).gamma(2.0, size=len(X)) if weighted else np.ones(len(X))
    fitted = em(k, structure, kind, max_iter=20).fit(X, sample_weight=weight)
    assert divergence(fitted) >= 0
    expected = (weight @ fitted.elbo(X) - divergence(fitted)) / weight.sum()
    np.testing.assert_allclose(fitted.lower_bound_, expected, rtol=1e-9)


@given(conjugates, kinds, components, seeds)
@costly(2)
def test_no_row_has_an_elbo_above_its_predictive_density(structure, kind, k, seed):
    X = clusters(seed, n=40)
    fitted = em(k, structure, kind, max_iter=20).fit(X)
    rng = np.random.default_rng(seed)
    for rows in (X, 10 * rng.standard_normal((50, 2)), 1e4 * rng.standard_normal((50, 2))):
        assert (fitted.elbo(rows) <= fitted.score_samples(rows) + 1e-9).all()


@given(conjugates, kinds, seeds)
@costly(2)
def test_a_converged_fit_is_a_fixed_point(structure, kind, seed):
    """Responsibilities of the fitted model, put into Bayes' theorem, give the fitted model."""
    X = clusters(seed, n=60)
    plain = em(3, structure, kind, tol=1e-13, max_iter=3000, acceleration=None)
    model = plain.fit(X).model_
    r = model.posterior_mean(X)
    b = model.mean_precision_prior_
    means = (r.T @ X + b * X.mean(0)) / (r.sum(0)[:, None] + b)
    np.testing.assert_allclose(model.mean_precision_, b + r.sum(0), rtol=1e-4)
    np.testing.assert_allclose(model.means_, means, rtol=1e-3, atol=1e-3)
    rows = {"full": r.sum(0), "tied": len(X), "diag": r.sum(0), "spherical": 2 * r.sum(0)}
    dof = {"full": 2, "tied": 2, "diag": 1, "spherical": 1}[structure] + rows[structure]
    np.testing.assert_allclose(model.degrees_of_freedom_, np.broadcast_to(dof, 3), rtol=1e-4)


# The predictive density.


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [4, 60])
def test_the_density_of_one_feature_integrates_to_one(structure, kind, n):
    """Few rows leave tails as heavy as Cauchy's."""
    X = clusters(n=n, d=1)
    fitted = em(6, structure, kind, max_iter=20).fit(X)

    def integrand(u):
        return np.exp(fitted.score_samples([[np.sinh(u)]])[0]) * np.cosh(u)

    total, _ = quad(integrand, -25, 25, points=np.linspace(-5, 5, 9), limit=200, epsrel=1e-6)
    np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [5, 60])
def test_the_density_of_two_features_integrates_to_one(structure, kind, n):
    X = clusters(n=n, d=2)
    fitted = em(4, structure, kind, max_iter=20).fit(X)
    u = np.linspace(-14, 14, 500)
    grid = np.stack(np.meshgrid(np.sinh(u), np.sinh(u)), axis=-1).reshape(-1, 2)
    area = np.multiply.outer(np.cosh(u), np.cosh(u)).ravel() * (u[1] - u[0]) ** 2
    np.testing.assert_allclose(np.exp(fitted.score_samples(grid)) @ area, 1, atol=1e-4)


@pytest.mark.parametrize("structure", CONJUGATE)
def test_labels_of_samples_come_at_the_expected_weights(structure):
    fitted = em(3, structure, tol=1e-8).fit(clusters(distance=6.0))
    X, labels = fitted.sample(5000, random_state=1)
    expected = 5000 * fitted.model_.weights_
    observed = np.bincount(labels, minlength=3)
    assert chi2(2).sf(((observed - expected) ** 2 / expected).sum()) > 1e-4
    # Responsibilities of q are those of the predictive density but for what is uncertain.
    np.testing.assert_allclose(fitted.predict_proba(X).mean(0), observed / 5000, atol=0.02)
    np.testing.assert_array_equal(fitted.sample(7)[0], fitted.sample(7)[0])


def test_far_rows_are_anomalies_with_finite_densities():
    fitted = em().fit(clusters())
    near = fitted.score_samples(clusters()).min()
    far = fitted.score_samples([[1e6, 0.0], [1e100, -1e100]])
    assert near > far[0] > far[1] > -1e6


# Units, order, repetition.


@given(seeds, conjugates, kinds, st.integers(-300, 300), st.integers(-40, 40), st.booleans())
@costly(2)
def test_units_and_offsets_move_the_bound_by_the_jacobian(seed, structure, kind, a, b, offset):
    X = np.round(clusters(seed, n=60) * 1024) / 1024  # an offset rounds nothing
    exponents = np.full(2, a) if structure == "spherical" else np.array([a, b])
    scale = 2.0**exponents
    Y = scale * (X + 4096.0 * offset)
    plain = em(3, structure, kind, max_iter=20).fit(X)
    changed = em(3, structure, kind, max_iter=20).fit(Y)
    jacobian = exponents.sum() * np.log(2)
    np.testing.assert_allclose(
        changed.lower_bounds_, plain.lower_bounds_ - jacobian, rtol=0, atol=1e-7
    )
    np.testing.assert_allclose(
        changed.score_samples(Y), plain.score_samples(X) - jacobian, rtol=0, atol=1e-7
    )
    np.testing.assert_allclose(changed.predict_proba(Y), plain.predict_proba(X), atol=1e-7)


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("kind", KINDS)
def test_powers_of_two_change_no_digit(structure, kind):
    X = clusters()
    scale = np.full(2, 2.0**30) if structure == "spherical" else np.array([2.0**30, 2.0**-40])
    plain = em(3, structure, kind).fit(X).model_
    changed = em(3, structure, kind).fit(scale * X).model_
    np.testing.assert_array_equal(changed.weights_, plain.weights_)
    np.testing.assert_array_equal(changed.means_, scale * plain.means_)


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("kind", KINDS)
def test_explicit_priors_have_units_too(structure, kind):
    """Priors that are moved with the rows move the bound by the Jacobian only."""
    X = clusters(n=80)
    parameters, _ = drawn_prior(structure, 2, np.random.default_rng(0))
    scale, offset = 64.0, np.array([1e3, -7.0])
    moved = parameters | {
        "mean_prior": scale * parameters["mean_prior"] + offset,
        "covariance_prior": scale**2 * parameters["covariance_prior"],
    }
    plain = em(3, structure, kind, model=parameters).fit(X)
    changed = em(3, structure, kind, model=moved).fit(scale * X + offset)
    jacobian = 2 * np.log(scale)
    np.testing.assert_allclose(changed.lower_bound_, plain.lower_bound_ - jacobian, atol=1e-8)


@given(seeds, conjugates, kinds, st.integers(1, 5))
@costly(2)
def test_the_order_of_rows_does_not_matter(seed, structure, kind, k):
    X = clusters(seed, n=60)
    order = np.random.default_rng(seed).permutation(60)
    plain = em(k, structure, kind, max_iter=20).fit(X)
    shuffled = em(k, structure, kind, max_iter=20).fit(X[order])
    np.testing.assert_allclose(shuffled.lower_bounds_, plain.lower_bounds_, rtol=1e-8)
    np.testing.assert_allclose(shuffled.score_samples(X), plain.score_samples(X), atol=1e-6)


@given(seeds, conjugates, kinds)
@costly(2)
def test_the_order_of_features_does_not_matter(seed, structure, kind):
    X = clusters(seed % 1000, n=150, d=3, shares=[0.2, 0.3, 0.5], distance=8.0)
    order = np.random.default_rng(seed).permutation(3)
    parameters, _ = drawn_prior(structure, 3, np.random.default_rng(seed))
    prior = np.asarray(parameters["covariance_prior"])
    turned = parameters | {
        "mean_prior": parameters["mean_prior"][order],
        "covariance_prior": prior[np.ix_(*[order] * prior.ndim)],
    }
    plain = em(3, structure, kind, model=parameters, tol=1e-10).fit(X)
    changed = em(3, structure, kind, model=turned, tol=1e-10).fit(X[:, order])
    np.testing.assert_allclose(changed.lower_bound_, plain.lower_bound_, rtol=1e-7)


@given(seeds, conjugates, kinds, components)
@costly(2)
def test_weights_are_repetitions(seed, structure, kind, k):
    X = clusters(seed, n=60)
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 4, len(X))
    count[:2] = 1
    weighted = em(k, structure, kind, max_iter=20).fit(X, sample_weight=count)
    repeated = em(k, structure, kind, max_iter=20).fit(rng.permutation(np.repeat(X, count, axis=0)))
    np.testing.assert_allclose(repeated.lower_bound_, weighted.lower_bound_, rtol=1e-8)
    np.testing.assert_allclose(repeated.score_samples(X), weighted.score_samples(X), atol=1e-4)
    assert repeated.model_.n_active_components_ == weighted.model_.n_active_components_


@pytest.mark.parametrize("structure", CONJUGATE)
def test_weights_say_how_much_is_known(structure):
    """Unlike in maximum likelihood, ten times the weight is ten times the evidence."""
    X = clusters(n=60)
    once = em(3, structure).fit(X).model_
    often = em(3, structure).fit(X, sample_weight=np.full(60, 10.0)).model_
    for model, n in ((once, 60), (often, 600)):
        held = model.mean_precision_ - model.mean_precision_prior_
        np.testing.assert_allclose(held.sum(), n, rtol=1e-9)


@pytest.mark.parametrize("structure", CONJUGATE)
def test_threads_change_no_digit_and_blocks_only_the_last(structure, monkeypatch):
    X = clusters(n=20_000)
    fits = []
    for n_threads in (1, 2):
        with limited(n_threads):
            fits.append(em(3, structure, max_iter=5).fit(X))
    np.testing.assert_array_equal(fits[0].lower_bounds_, fits[1].lower_bounds_)
    np.testing.assert_array_equal(fits[0].model_.means_, fits[1].model_.means_)
    np.testing.assert_array_equal(fits[0].score_samples(X), fits[1].score_samples(X))
    monkeypatch.setattr(numpy_pass, "_MOST_ROWS", 600)
    small = em(3, structure, max_iter=5).fit(X)
    np.testing.assert_allclose(small.lower_bounds_, fits[0].lower_bounds_, rtol=1e-10)
    pieces = [small.score_samples(part) for part in np.array_split(X, 7)]
    np.testing.assert_allclose(np.concatenate(pieces), fits[0].score_samples(X), rtol=1e-8)


@pytest.mark.parametrize("structure", CONJUGATE)
def test_float32_and_integers_are_computed_in_float64(structure):
    X = np.round(clusters() * 8)
    expected = em(3, structure).fit(X)
    for dtype, out in ((np.float32, np.float32), (np.int32, np.float64), (np.int8, np.float64)):
        actual = em(3, structure).fit(X.astype(dtype))
        np.testing.assert_array_equal(actual.lower_bounds_, expected.lower_bounds_)
        for method in ("score_samples", "elbo", "transform"):
            values = getattr(actual, method)(X.astype(dtype))
            assert values.dtype == out
            np.testing.assert_allclose(values, getattr(expected, method)(X), rtol=1e-5, atol=1e-6)


# Many rows, and how many components.


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("kind", KINDS)
def test_with_many_rows_the_prior_is_forgotten(structure, kind):
    X = clusters(n=20_000, shares=[0.2, 0.3, 0.5], distance=5.0)
    ours = em(3, structure, kind, tol=1e-8).fit(X)
    theirs = EMGaussianMixture(3, covariance_type=structure, tol=1e-8, random_state=0).fit(X)
    order, to = (np.lexsort(m.means_.round().T) for m in (ours.model_, theirs))
    for name in ("weights_", "means_", "covariances_"):
        a, b = getattr(ours.model_, name), getattr(theirs, name)
        if not (structure == "tied" and name == "covariances_"):
            a, b = a[order], b[to]
        np.testing.assert_allclose(a, b, atol=2e-2)
    np.testing.assert_allclose(ours.score(X), theirs.score(X), atol=1e-3)
    # Nothing is lost but the cost of the parameters, about log(n) / 2 for each.
    cost = len(X) * (theirs.score(X) - ours.lower_bound_)
    assert 0.5 < cost / (0.5 * np.log(len(X)) * theirs.n_parameters_) < 2.5


@pytest.mark.parametrize("structure", CONJUGATE)
def test_the_bound_peaks_at_the_true_number_of_components(structure):
    for seed in range(4):
        X = clusters(seed, n=100, shares=[0.3, 0.3, 0.4], distance=6.0)
        kind = KINDS[seed % 2]
        bounds = [em(k, structure, kind).fit(X).lower_bound_ for k in range(1, 7)]
        assert int(np.argmax(bounds)) + 1 == 3, (seed, bounds)


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize(
    ("d", "shares"),
    [(2, [0.3, 0.3, 0.4]), (2, [0.05, 0.15, 0.8]), (5, [0.3, 0.3, 0.4])],
    ids=["even", "uneven", "five features"],
)
def test_a_dirichlet_process_finds_the_number_of_components(structure, d, shares):
    found = []
    for seed in range(3):
        X = clusters(seed, n=300, d=d, shares=shares, distance=6.0)
        model = em(15, structure).fit(X).model_
        found.append(model.n_active_components_)
        held = model.mean_precision_ - model.mean_precision_prior_
        assert model.n_active_components_ == (held > 1).sum()
    assert found == [3] * 3


# Parity with scikit-learn.


def test_the_posterior_is_that_of_scikit_learn():
    X = clusters(n=400, d=2, shares=[0.2, 0.3, 0.5], distance=8.0)
    prior = {
        "weight_concentration_prior": 0.7,
        "mean_precision_prior": 0.5,
        "mean_prior": [0.3, -0.2],
        "degrees_of_freedom_prior": 4.5,
        "covariance_prior": [[2.0, 0.5], [0.5, 1.0]],
    }
    ours = em(3, "full", "dirichlet_distribution", model=prior, tol=1e-12, max_iter=500).fit(X)
    theirs = BayesianGaussianMixture(
        n_components=3,
        covariance_type="full",
        weight_concentration_prior_type="dirichlet_distribution",
        reg_covar=0,
        tol=1e-12,
        max_iter=500,
        random_state=0,
        **prior,
    ).fit(X)
    order, to = (
        np.argsort(m.means_[:, 0].round() + 1e-3 * m.means_[:, 1]) for m in (ours.model_, theirs)
    )
    for name in (
        "weight_concentration_",
        "mean_precision_",
        "means_",
        "degrees_of_freedom_",
        "covariances_",
        "precisions_",
        "weights_",
    ):
        np.testing.assert_allclose(
            getattr(ours.model_, name)[order],
            getattr(theirs, name)[to],
            rtol=1e-5,
            atol=1e-7,
            err_msg=name,
        )
    np.testing.assert_allclose(
        ours.predict_proba(X)[:, order], theirs.predict_proba(X)[:, to], atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_concentrations_have_the_layout_of_scikit_learn(kind):
    X = clusters(shares=[0.2, 0.3, 0.5], distance=8.0)
    model = em(3, "full", kind, model={"weight_concentration_prior": 0.4}).fit(X).model_
    theirs = BayesianGaussianMixture(
        n_components=3,
        weight_concentration_prior_type=kind,
        weight_concentration_prior=0.4,
        random_state=0,
    ).fit(X)
    if kind == "dirichlet_distribution":
        np.testing.assert_allclose(
            np.sort(model.weight_concentration_), np.sort(theirs.weight_concentration_), rtol=1e-3
        )
        return
    # scikit-learn gives the last stick a beta distribution, too.
    assert model.weight_concentration_.shape == (2, 2)
    count = model.mean_precision_ - model.mean_precision_prior_
    np.testing.assert_allclose(model.weight_concentration_[0], 1 + count[:-1])
    np.testing.assert_allclose(
        model.weight_concentration_[1], 0.4 + np.cumsum(count[::-1])[::-1][1:]
    )
    assert (np.diff(count) <= 1e-9).all()


# Fits go on, start again, and travel.


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_start_goes_on_where_the_fit_ended(structure, kind):
    X = clusters(distance=1.5)
    plain = {"tol": 0, "acceleration": None}
    whole = em(4, structure, kind, max_iter=8, **plain).fit(X)
    parts = em(4, structure, kind, max_iter=4, warm_start=True, **plain).fit(X)
    first = parts.lower_bounds_
    parts.fit(X)
    np.testing.assert_allclose(parts.lower_bounds_[:5], first, rtol=1e-12)
    np.testing.assert_allclose(parts.lower_bounds_, whole.lower_bounds_, rtol=1e-10)
    assert np.diff(parts.lower_bounds_).min() >= -1e-12
    np.testing.assert_allclose(parts.model_.means_, whole.model_.means_, rtol=1e-7, atol=1e-7)


def test_a_warm_start_on_new_rows_begins_with_the_old_posterior():
    X = clusters(distance=1.5)
    fitted = em(tol=1e-8, warm_start=True).fit(X[:200])
    fitted.fit(X)
    assert np.diff(fitted.lower_bounds_).min(initial=0) >= 0
    held = fitted.model_.mean_precision_ - fitted.model_.mean_precision_prior_
    np.testing.assert_allclose(held.sum(), 300, rtol=1e-9)
    cold = em(tol=1e-8).fit(X)
    np.testing.assert_allclose(fitted.lower_bound_, cold.lower_bound_, atol=0.05)


def test_a_warm_start_of_another_shape_says_so():
    fitted = em(3, warm_start=True).fit(clusters())
    fitted.set_params(model__n_components=4)
    with pytest.raises(ValueError, match="warm_start=False"):
        fitted.fit(clusters())


def test_the_best_of_several_starts_is_kept(monkeypatch):
    climbed = []

    def recorded(*args, **kwargs):
        result = iterate(*args, **kwargs)
        climbed.append(result.bounds[-1])
        return result

    monkeypatch.setattr(fitting, "iterate", recorded)
    rows = np.random.default_rng(0).exponential(size=(200, 4))
    fitted = em(8, "diag", n_init=5, max_iter=1).fit(rows)
    assert len(set(climbed)) > 1
    assert fitted.lower_bound_ == max(climbed) == fitted.lower_bounds_[-1]


@pytest.mark.parametrize("structure", CONJUGATE)
def test_pickles_answer_alike(structure):
    X = clusters()
    fitted = em(4, structure).fit(X)
    copy = pickle.loads(pickle.dumps(fitted))
    for method in ("score_samples", "elbo", "predict", "transform"):
        np.testing.assert_array_equal(getattr(copy, method)(X), getattr(fitted, method)(X))
    np.testing.assert_array_equal(copy.sample(5)[0], fitted.sample(5)[0])


def test_a_fit_leaves_the_given_model_alone():
    model = BayesianMixture(4)
    VariationalEM(model, random_state=0).fit(clusters())
    assert vars(model) == vars(BayesianMixture(4))


# Parameters.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 0),
        ("n_components", 2.5),
        ("n_components", True),
        ("covariance_type", "round"),
        ("covariance_type", None),
        ("weight_concentration_prior_type", "gamma"),
        ("weight_concentration_prior", 0.0),
        ("weight_concentration_prior", np.nan),
        ("weight_concentration_prior", "many"),
        ("mean_precision_prior", -1.0),
        ("mean_precision_prior", np.inf),
        ("mean_prior", [0.0]),
        ("mean_prior", [0.0, np.nan]),
        ("degrees_of_freedom_prior", 1.0),
        ("degrees_of_freedom_prior", 0),
        ("covariance_prior", [1.0, 1.0]),
        ("covariance_prior", [[1.0, 2.0], [2.0, 1.0]]),
        ("covariance_prior", [[1.0, 0.5], [0.0, 1.0]]),
        ("covariance_prior", [[1.0, np.inf], [np.inf, 1.0]]),
    ],
)
def test_errors_name_the_parameter(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        em(model={}).set_params(**{f"model__{name}": value}).fit(clusters())


@pytest.mark.parametrize(
    ("structure", "value"),
    [
        ("tied", np.ones(2)),
        ("diag", np.eye(2)),
        ("diag", [1.0, 0.0]),
        ("diag", [1.0, -1.0]),
        ("spherical", [1.0, 1.0]),
        ("spherical", 0.0),
        ("spherical", -2.0),
    ],
)
def test_errors_name_the_covariance_prior_of_every_structure(structure, value):
    with pytest.raises(ValueError, match="covariance_prior"):
        em(3, structure, model={"covariance_prior": value}).fit(clusters())


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("kind", KINDS)
def test_more_components_than_rows_are_allowed(structure, kind):
    X = clusters(n=6)
    fitted = em(20, structure, kind).fit(X)
    assert fitted.model_.weights_.shape == (20,)
    assert fitted.transform(X).shape == (6, 20)
    assert np.isfinite(fitted.score_samples(X)).all()
    assert fitted.model_.n_active_components_ <= 6
