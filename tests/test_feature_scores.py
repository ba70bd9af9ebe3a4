"""How surprising each value is, given all others: laws of ``feature_scores``."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from skemvae import (
    DensityOutlierDetector,
    EMGaussianMixture,
    TransformedDensity,
    VAEEstimator,
    VariationalEM,
)
from skemvae.core.bound import log_conditionals
from skemvae.core.rows import Frame, Rows
from skemvae.engine.passes.numpy_pass import map_conditionals, map_rows
from skemvae.likelihoods import Gaussian, LogNormal
from skemvae.mixtures.bayesian_mixture import Parameters, Predictive
from skemvae.mixtures.normal_wishart import NormalWishart
from skemvae.mixtures.weights import MIXING_WEIGHTS
from skemvae.models import BayesianMixture, FactorModel
from skemvae.structures.registry import STRUCTURES
from tests import strategies
from tests.laws import costly
from tests.own_models import GaussianPair, LinearGaussian
from tests.strategies import CONJUGATE, mixtures, seeds
from tests.test_bijections import LOG, table

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS = load_iris().data
ROWS = IRIS[::10]


class GaussianPairByColumn(GaussianPair):
    def log_probs(self, X, Z, parameters):
        _, means, log_scale = parameters.values()
        scale = log_scale.exp()[:, None]
        return torch.distributions.Normal(means, scale, validate_args=False).log_prob(X)


class LinearGaussianByColumn(LinearGaussian):
    n_score_samples = 512

    def log_probs(self, X, Z, parameters):
        loadings, intercept, log_scale = parameters.values()
        return torch.distributions.Normal(Z @ loadings + intercept, log_scale.exp()).log_prob(X)


def quick(model, **parameters):
    return VariationalEM(model, max_iter=20, random_state=0, **parameters)


# The core: mixtures in closed form.


def densities(model, X):
    """log p(x) and log p(x_j | x_-j) of rows in the model's own coordinates."""
    rows = Rows(X, None, Frame.identity(X.shape[1]))
    log_density = map_rows(model, rows, lambda seen: seen.log_evidence, np.empty(len(X)))
    return log_density, map_conditionals(model, rows, np.empty(X.shape))


@given(mixtures(), seeds, st.sampled_from([0.0, 1e3, 1e6]))
def test_conditionals_of_a_mixture_are_the_density_over_the_marginal(mixture, seed, offset):
    """Far from the origin, other arithmetic takes over; 1e6 costs six of sixteen digits."""
    rng = np.random.default_rng(seed)
    X, _ = mixture.sample(20, rng)
    X[:10] += rng.standard_normal((10, 1)) * 20
    mixture = mixture.into(Frame(np.full(X.shape[1], -offset), np.ones(X.shape[1])))
    log_density, conditionals = densities(mixture, X + offset)
    for j in range(X.shape[1]):
        others = np.delete(np.arange(X.shape[1]), j)
        marginal = np.zeros(20)
        if len(others):
            marginal, _ = densities(mixture.marginal(others), X[:, others] + offset)
        tolerance = 1e-9 * max(1.0, offset)
        np.testing.assert_allclose(
            conditionals[:, j], log_density - marginal, rtol=1e-8, atol=tolerance
        )


def test_conditionals_of_one_gaussian_are_those_of_the_textbook():
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((4, 6))
    mean, covariance = rng.standard_normal(4), factor @ factor.T
    X = rng.multivariate_normal(mean, covariance, 30)
    gaussian = EMGaussianMixture.from_parameters([1.0], [mean], [covariance])
    scores = gaussian.feature_scores(X)
    for j in range(4):
        o = np.delete(np.arange(4), j)
        gain = np.linalg.solve(covariance[np.ix_(o, o)], covariance[o, j])
        variance = covariance[j, j] - gain @ covariance[o, j]
        residuals = X[:, j] - mean[j] - (X[:, o] - mean[o]) @ gain
        textbook = -multivariate_normal.logpdf(residuals, 0.0, variance)
        expected = 0.5 * (1 + np.log(2 * np.pi * variance))
        difference = scores[:, j] - (textbook - expected)
        np.testing.assert_allclose(difference, difference[0], atol=1e-10)
        assert abs(difference[0]) < 0.1  # the expectation is that of 512 draws


@pytest.mark.parametrize("name", CONJUGATE)
@pytest.mark.parametrize("d", [1, 3])
def test_conditionals_of_student_mixtures_are_densities(name, d):
    """They integrate to 1, and log p(x) less them does not depend on x_j."""
    rng = np.random.default_rng(1)
    structure = STRUCTURES[name]
    factor = rng.standard_normal((3, d, d + 2))
    dense = factor @ factor.transpose(0, 2, 1) / d
    diagonal = np.diagonal(dense, axis1=1, axis2=2)
    public = {"full": dense, "tied": dense[0], "diag": diagonal, "spherical": dense[:, 0, 0]}
    dof = np.full(3, 4.5) if name == "tied" else np.array([3.5, 5.0, 40.0])
    components = NormalWishart(
        rng.standard_normal((3, d)),
        np.array([0.5, 3.0, 30.0]),
        dof,
        structure.from_public(public[name], 3, d),
    )
    weights = MIXING_WEIGHTS["dirichlet_distribution"].prior(3, 1.0)
    model = Predictive(Parameters(weights, components))
    x = rng.standard_normal(d)
    t = np.linspace(-12, 12, 4001)  # x_j = sinh t reaches into the tails
    for j in range(d):
        X = np.where(np.arange(d) == j, np.sinh(t)[:, None], x)
        log_density, conditionals = densities(model, X)
        mass = np.trapezoid(np.exp(conditionals[:, j]) * np.cosh(t), t)
        assert mass == pytest.approx(1, abs=1e-6)
        rest = log_density - conditionals[:, j]
        np.testing.assert_allclose(rest, rest[2000], atol=1e-5)
        near = np.abs(t) < 5
        np.testing.assert_allclose(rest[near], rest[2000], atol=1e-10)


def test_a_state_that_underflows_does_not_count_and_none_leaves_no_state_favoured():
    log_joint = np.array([[-np.inf, -1.0], [-np.inf, -np.inf]])
    log_given = np.log(np.array([[[0.2], [0.5]], [[0.2], [0.5]]]))
    values = log_conditionals(log_joint, log_given)
    assert values[0, 0] == pytest.approx(np.log(0.5))
    assert values[1, 0] == pytest.approx(np.log(2) - np.log(1 / 0.2 + 1 / 0.5))
    log_given[0] = -np.inf
    assert log_conditionals(log_joint, log_given)[0, 0] == -np.inf
    assert np.isnan(log_conditionals(log_joint, log_given)).sum() == 0


# All estimators.

COUNTS = np.random.RandomState(0).poisson(np.exp(np.random.RandomState(1).randn(80, 1)), (80, 3))
BITS = (COUNTS > 1).astype(float)
LABELS = np.minimum(COUNTS, 3)
MIXED = np.c_[IRIS[:80, 0], LABELS[:, 0], IRIS[:80, 2], COUNTS[:, 1], BITS[:, 2]]
KINDS = [("poisson", [3]), ("gaussian", [2]), ("categorical", [1]), ("bernoulli", [4])]
KINDS.append(("student_t", [0]))
MANY = 512  # points for each row
NETWORK = {
    "hidden_layer_sizes": (8,),
    "max_iter": 30,
    "n_score_samples": MANY,
    "random_state": 0,
}

EXACT = {
    **{f"EM {name}": (EMGaussianMixture(3, covariance_type=name), IRIS) for name in strategies.ALL},
    **{f"Bayes {name}": (quick(BayesianMixture(3, name)), IRIS) for name in CONJUGATE},
    "factors": (quick(FactorModel(2)), IRIS),
    "factors, amounts": (quick(FactorModel(2, "lognormal")), IRIS),
    "factors, shared": (quick(FactorModel(2, Gaussian("shared"))), IRIS),
    "own, enumerated": (quick(GaussianPairByColumn(3)), IRIS),
}
SAMPLED = {
    "factors, t": (quick(FactorModel(1, "student_t", MANY)), IRIS),
    "factors, row": (quick(FactorModel(1, Gaussian("row"), MANY)), IRIS),
    "factors, bits": (quick(FactorModel(1, "bernoulli", MANY)), BITS),
    "factors, counts": (quick(FactorModel(1, "negative_binomial", MANY)), COUNTS),
    # Where others nearly determine a column, few points do for its score.
    "factors, amounts row": (quick(FactorModel(1, LogNormal("row"), 4 * MANY)), IRIS),
    "factors, labels": (quick(FactorModel(1, "categorical", MANY)), LABELS),
    "factors, mixed": (quick(FactorModel(1, KINDS, MANY)), MIXED),
    "own": (quick(LinearGaussianByColumn(1)), IRIS),
    "VAE": (VAEEstimator(**NETWORK), IRIS),
    "VAE, vamp": (VAEEstimator(**NETWORK, prior="vamp", likelihood=Gaussian("row")), IRIS),
    "VAE, amounts": (VAEEstimator(**NETWORK, likelihood="lognormal"), IRIS),
    "VAE, mixed": (VAEEstimator(**NETWORK, likelihood=KINDS), MIXED),
    "VAE, bits": (VAEEstimator(**NETWORK, likelihood="bernoulli"), BITS),
}
ALL = {**EXACT, **SAMPLED}
fits = {}


def fitted(name):
    if name not in fits:
        estimator, X = ALL[name]
        fits[name] = estimator.fit(X)
    return fits[name], ALL[name][1]


@pytest.mark.parametrize("name", ALL)
def test_where_one_value_differs_its_score_falls_as_the_log_density_rises(name):
    """p(x_-j) cancels: whatever the model and the kind of the column."""
    estimator, X = fitted(name)
    here, there = X[:60:12], X[5:65:12]
    log_density, scores = estimator.score_samples(here), estimator.feature_scores(here)
    for j in range(X.shape[1]):
        changed = here.copy()
        changed[:, j] = there[:, j]
        rise = estimator.score_samples(changed) - log_density
        fall = scores[:, j] - estimator.feature_scores(changed)[:, j]
        exact = name in EXACT
        np.testing.assert_allclose(
            fall, rise, atol=1e-8 if exact else 0.15, rtol=1e-7 if exact else 0.05
        )


@pytest.mark.parametrize("name", [name for name in ALL if name != "VAE, mixed"])
def test_scores_know_the_density_of_all_other_columns(name):
    """log p(x_-j) by a sum or an integral over x_j, from the density of whole rows."""
    estimator, X = fitted(name)
    j, rows = 2, X[3:63:20]
    low, high = X[:, j].min(), X[:, j].max()
    values = np.unique(X[:, j])
    if "bits" not in name and "labels" not in name:
        reach = 3 * (high - low)
        values = np.linspace(low - reach, high + reach, 300)
    if "amounts" in name:
        values = np.linspace(1e-3, high + 3 * (high - low), 600)
    if "counts" in name:
        values = np.arange(200)
    grid = np.repeat(rows, len(values), axis=0)
    grid[:, j] = np.tile(values, len(rows))
    each = estimator.score_samples(grid).reshape(len(rows), -1)
    conditional = estimator.score_samples(rows) - logsumexp(each, axis=1)
    difference = estimator.feature_scores(rows)[:, j] + conditional
    atol = 1e-4 if name in EXACT else 0.15
    np.testing.assert_allclose(difference, difference[0], atol=atol)


def tenth(X):
    """Of a nat, where the mean comes from a part of the rows."""
    return 1e-9 if len(X) <= 128 else 0.1


@pytest.mark.parametrize("name", ALL)
def test_the_mean_over_the_training_rows_is_zero(name):
    estimator, X = fitted(name)
    np.testing.assert_allclose(estimator.feature_scores(X).mean(0), 0, atol=tenth(X))


@pytest.mark.parametrize("name", ALL)
def test_a_row_has_the_same_scores_in_any_company(name):
    estimator, X = fitted(name)
    together = estimator.feature_scores(X)
    np.testing.assert_allclose(estimator.feature_scores(X[7:9]), together[7:9], atol=1e-7)
    np.testing.assert_allclose(estimator.feature_scores(X[::-1]), together[::-1], atol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_a_pickle_scores_as_before(name):
    estimator, X = fitted(name)
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.feature_scores(X[:5]), estimator.feature_scores(X[:5]))


@pytest.mark.parametrize("name", ["EM full", "Bayes diag", "factors", "factors, t", "VAE"])
def test_absurd_values_are_to_blame_and_nothing_is_nan(name):
    estimator, X = fitted(name)
    row = X[:1].copy()
    for value in (1e6, -1e30, 1e200):
        row[0, 1] = value
        scores = estimator.feature_scores(row)[0]
        assert not np.isnan(scores).any()
        if value == 1e6:
            assert scores.argmax() == 1


def test_linear_networks_and_factors_agree_with_the_gaussian_they_are():
    """Both densities are N(b, W W^T + Psi): here from draws; the VAE at its points only."""
    wine = load_wine().data[:, :5]
    factors = quick(FactorModel(2)).fit(wine)
    loadings, spread = factors.model_.loadings_, wine.std(0)
    noise = np.exp(factors.model_.likelihoods_[0].moments(torch.zeros(1))[1].numpy())
    covariance = (loadings @ loadings.T + np.diag(noise)) * np.outer(spread, spread)
    mean = wine.mean(0) + spread * factors.model_.intercept_
    gaussian = EMGaussianMixture.from_parameters([1.0], [mean], [covariance])
    ours, theirs = factors.feature_scores(wine), gaussian.feature_scores(wine)
    assert np.ptp(ours - theirs, axis=0).max() < 1e-6

    vae = VAEEstimator(2, hidden_layer_sizes=(), max_iter=300, random_state=0).fit(wine)
    network = vae.module_.decoder.double()
    loadings = network.outputs.weight.detach().numpy()
    noise = np.exp(network.heads[0].moments(torch.zeros(1))[1].detach().numpy())
    scale, shift = vae._table.blocks[0].scale, vae._table.blocks[0].shift
    covariance = (loadings @ loadings.T + np.diag(noise)) * np.outer(scale, scale)
    mean = shift + scale * network.outputs.bias.detach().numpy()
    gaussian = EMGaussianMixture.from_parameters([1.0], [mean], [covariance])
    ours, theirs = vae.feature_scores(wine), gaussian.feature_scores(wine)
    error = ours - theirs
    error = np.abs(error - np.median(error, axis=0))
    assert np.median(error) < 0.02
    assert np.quantile(error, 0.99) < 0.3


# Units, columns, weights.


@pytest.mark.parametrize("name", strategies.ALL)
@pytest.mark.parametrize(("scale", "offset"), [(1e100, 0.0), (1e-100, 0.0), (1.0, 1e8)])
def test_units_and_offsets_do_not_matter(name, scale, offset):
    X = np.round(IRIS * 64) / 64  # exact at the offset, too
    estimator = EMGaussianMixture(2, covariance_type=name, random_state=0)
    here, there = (estimator.fit(t).feature_scores(t) for t in (X, X * scale + offset))
    np.testing.assert_allclose(there, here, atol=1e-6)


def test_each_column_may_have_a_unit_of_its_own():
    scale, offset = np.array([1e-6, 3.0, -50.0, 1e9]), np.array([0.0, 1.0, -7.0, 1e3])
    estimator = EMGaussianMixture(2, random_state=0)
    here, there = (estimator.fit(t).feature_scores(t) for t in (IRIS, IRIS * scale + offset))
    np.testing.assert_allclose(there, here, atol=1e-5)


@pytest.mark.parametrize("model", [None, FactorModel(1), FactorModel(1, "student_t")], ids=str)
def test_scores_go_with_their_columns(model):
    order = [2, 0, 3, 1]
    estimator = EMGaussianMixture(2, random_state=0) if model is None else quick(model)
    straight = estimator.fit(IRIS).feature_scores(ROWS)
    turned = estimator.fit(IRIS[:, order]).feature_scores(ROWS[:, order])
    atol = 0.2 if model is not None and model.likelihood == "student_t" else 1e-3
    np.testing.assert_allclose(turned, straight[:, order], atol=atol)


def test_weights_are_repetitions():
    few = IRIS[::2]
    weight = np.arange(len(few)) % 3
    estimator = EMGaussianMixture(2, random_state=0)
    weighted = estimator.fit(few, sample_weight=weight).feature_scores(ROWS)
    repeated = estimator.fit(few.repeat(weight, axis=0)).feature_scores(ROWS)
    np.testing.assert_allclose(weighted, repeated, atol=1e-9)


def test_the_mean_of_a_long_table_comes_from_rows_at_even_steps_of_weight():
    rng = np.random.RandomState(0)
    X = np.sort(rng.standard_exponential((20_000, 2)), axis=0)  # the last rows are surprising
    estimator = EMGaussianMixture(2, random_state=0).fit(X)
    np.testing.assert_allclose(estimator.feature_scores(X).mean(0), 0, atol=0.15)
    weight = np.where(np.arange(len(X)) < 15_000, 0.0, 1.0)
    estimator.fit(X, sample_weight=weight)
    np.testing.assert_allclose(estimator.feature_scores(X[15_000:]).mean(0), 0, atol=0.15)


# Without training rows.


def test_without_training_rows_the_mean_is_that_of_the_model():
    mixture = EMGaussianMixture(2, random_state=0).fit(IRIS)
    known = EMGaussianMixture.from_parameters(
        mixture.weights_, mixture.means_, mixture.covariances_
    )
    marginal = mixture.marginal([1, 3])
    for estimator, X in ((known, IRIS), (marginal, IRIS[:, [1, 3]])):
        first = estimator.feature_scores(X)
        np.testing.assert_array_equal(estimator.feature_scores(X), first)
        drawn, _ = estimator.sample(4000, random_state=1)
        np.testing.assert_allclose(estimator.feature_scores(drawn).mean(0), 0, atol=0.15)


def test_after_partial_fit_the_mean_is_that_of_the_model():
    vae = VAEEstimator(**NETWORK).fit(IRIS)
    before = vae._mean_surprise
    vae.partial_fit(IRIS)
    drawn, _ = vae.sample(2000, random_state=1)
    np.testing.assert_allclose(vae.feature_scores(drawn).mean(0), 0, atol=0.15)
    assert vae._mean_surprise is None
    assert before is not None


# What users meet.


def test_a_corrupted_value_has_the_largest_score_of_its_row():
    rng = np.random.RandomState(0)
    wine = load_wine().data
    train, test = wine[::2], wine[1::2].copy()
    wrong = rng.randint(wine.shape[1], size=len(test))
    test[np.arange(len(test)), wrong] += 6 * wine.std(0)[wrong]
    for estimator in (
        EMGaussianMixture(reg_covar=1e-2, random_state=0),
        quick(BayesianMixture(2)),
        quick(FactorModel(3)),
        quick(FactorModel(3, "student_t")),
    ):
        found = estimator.fit(train).feature_scores(test).argmax(1)
        assert (found == wrong).mean() > 0.85


def test_labels_and_names_are_taken_as_in_fit():
    n = 80
    frame = pd.DataFrame(
        {
            "age": IRIS[:n, 0],
            "colour": np.array(["red", "green", "blue"])[LABELS[:, 0] % 3],
            "visits": COUNTS[:, 1],
        }
    )
    kinds = [("categorical", ["colour"]), ("gaussian", ["age"]), ("poisson", ["visits"])]
    for estimator in (VAEEstimator(**NETWORK, likelihood=kinds), quick(FactorModel(1, kinds))):
        estimator.fit(frame)
        odd = frame.iloc[:2].copy()
        odd.loc[0, "age"], odd.loc[1, "colour"] = 30.0, "purple"
        scores = estimator.feature_scores(odd)
        assert scores.shape == (2, 3)
        assert list(scores.argmax(1)) == [0, 1]


@pytest.mark.filterwarnings("ignore:5 columns, such as 0, hold values between 0 and 1")
def test_grey_values_are_taken_as_in_fit():
    grey = np.random.RandomState(0).uniform(size=(60, 5))
    vae = VAEEstimator(**NETWORK, likelihood="bernoulli").fit(grey)
    assert np.isfinite(vae.feature_scores(grey)).all()


@pytest.mark.parametrize("name", ["EM full", "factors", "VAE"])
def test_float32_in_is_float32_out(name):
    estimator, X = fitted(name)
    narrow = estimator.feature_scores(X[:9].astype(np.float32))
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, estimator.feature_scores(X[:9]), atol=1e-2)


@pytest.mark.parametrize(
    "estimator", [EMGaussianMixture(), VariationalEM(), VAEEstimator()], ids=repr
)
def test_an_estimator_without_a_fit_says_so(estimator):
    with pytest.raises(NotFittedError):
        estimator.feature_scores(IRIS)


def test_wrong_rows_are_named():
    estimator, _ = fitted("EM full")
    with pytest.raises(ValueError, match="3 features"):
        estimator.feature_scores(IRIS[:, :3])
    with pytest.raises(ValueError, match="NaN"):
        estimator.feature_scores(np.full((2, 4), np.nan))


def test_a_model_that_knows_whole_rows_only_says_what_to_write():
    em = quick(LinearGaussian(1)).fit(IRIS)
    with pytest.raises(NotImplementedError, match=r"LinearGaussian .* write its method log_probs"):
        em.feature_scores(IRIS)


def test_a_method_of_ones_own_that_returns_another_shape_is_named():
    class Wrong(GaussianPair):
        def log_probs(self, X, Z, parameters):
            return X

    with pytest.raises(ValueError, match=r"Wrong.log_probs returned .* and column"):
        quick(Wrong(2)).fit(IRIS)


# Behind transformers.

PERMUTING = ColumnTransformer(
    [("power", make_pipeline(PowerTransformer(), MinMaxScaler()), [2]), ("log", LOG, [0, 3])],
    remainder="passthrough",
)
BY_COLUMNS = {
    "scaled": StandardScaler(),
    "log": "log",
    "power": make_pipeline(MinMaxScaler((1, 2)), PowerTransformer("box-cox")),
    "permuted": PERMUTING,
    "permuted twice": make_pipeline(
        PERMUTING, ColumnTransformer([("a", RobustScaler(), [3])], remainder="passthrough")
    ),
    "own": ColumnTransformer(
        [("own", FunctionTransformer(np.cbrt, lambda Y: Y**3), [1])], remainder="passthrough"
    ),
}


def slope_of_cbrt(X):
    return -np.log(3 * np.cbrt(X) ** 2).sum(axis=1)


def behind(name, density=None):
    density = EMGaussianMixture(2, random_state=0) if density is None else density
    return TransformedDensity(BY_COLUMNS[name], density, log_abs_det={np.cbrt: slope_of_cbrt})


@pytest.mark.parametrize("name", BY_COLUMNS)
def test_scores_behind_a_transformer_of_columns_are_those_of_the_density_of_x(name):
    density = behind(name).fit(IRIS[:120])
    here, there = IRIS[:50:10], IRIS[5:55:10]
    for j in range(4):
        changed = here.copy()
        changed[:, j] = there[:, j]
        rise = density.score_samples(changed) - density.score_samples(here)
        fall = density.feature_scores(here)[:, j] - density.feature_scores(changed)[:, j]
        np.testing.assert_allclose(fall, rise, atol=1e-8, rtol=1e-7)
        values = np.linspace(1e-3 if name == "log" else -20, 30, 5000)
        if name in ("log", "scaled"):  # the values of others end at an edge
            grid = np.repeat(here, len(values), axis=0)
            grid[:, j] = np.tile(values, len(here))
            each = density.score_samples(grid).reshape(len(here), -1)
            difference = density.feature_scores(here)[:, j] + density.score_samples(here)
            difference -= logsumexp(each, axis=1)
            np.testing.assert_allclose(difference, difference[0], atol=1e-3)
    np.testing.assert_allclose(density.feature_scores(IRIS[:120]).mean(0), 0, atol=1e-9)
    detector = DensityOutlierDetector(density, contamination=0.05).fit(IRIS[:120])
    np.testing.assert_array_equal(detector.feature_scores(here), density.feature_scores(here))
    again = pickle.loads(pickle.dumps(density)) if name != "own" else density
    np.testing.assert_array_equal(again.feature_scores(here), density.feature_scores(here))


@given(seeds, st.sampled_from([StandardScaler(), MinMaxScaler(), RobustScaler(), None]))
@costly(10)
def test_shifts_and_scales_leave_scores_as_they_are(seed, scaler):
    X = table(seed)
    weight = np.random.default_rng(seed).integers(1, 4, len(X))
    plain = EMGaussianMixture().fit(X, sample_weight=weight)
    behind = TransformedDensity(scaler, EMGaussianMixture()).fit(X, sample_weight=weight)
    np.testing.assert_allclose(behind.feature_scores(X), plain.feature_scores(X), atol=1e-6)


def test_where_columns_mix_scores_are_refused_with_the_reason():
    turned = TransformedDensity(make_pipeline(StandardScaler(), PCA()), EMGaussianMixture())
    for estimator in (turned.fit(IRIS), DensityOutlierDetector(turned).fit(IRIS)):
        assert not hasattr(estimator, "feature_scores")
    detector = DensityOutlierDetector(turned).fit(IRIS)
    with pytest.raises(AttributeError) as refused:
        detector.feature_scores(IRIS)
    assert "each column alone, but PCA() may mix columns" in str(refused.value.__cause__)
    assert "choose an estimator of skemvae" not in str(refused.value.__cause__)
    peer = TransformedDensity(StandardScaler(), GaussianMixture()).fit(IRIS)
    assert not hasattr(peer, "feature_scores")
