"""``TransformedDensity``: laws of its densities and samples, and its place in scikit-learn."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.estimator_checks import parametrize_with_checks

from skemvae import EMGaussianMixture, TransformedDensity, VAEEstimator, VariationalEM
from skemvae.bijections.elementary import ELEMENTARY
from skemvae.likelihoods import Gaussian
from skemvae.models import FactorModel
from tests.laws import costly
from tests.recording import Recorder
from tests.strategies import seeds, tables
from tests.test_bijections import LOG, ROOT, SLOPES, FixedPower, log_slope_of_log, table
from tests.test_sklearn_checks import NOT_YIELDED, OF_CONTAINERS
from tests.versions import RECENT, is_exact_power, needs_callbacks

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    pytest.mark.filterwarnings("ignore:X has feature names, but"),
]

CONFIGURATIONS = [
    TransformedDensity(StandardScaler(), EMGaussianMixture(2, random_state=0)),
    TransformedDensity(
        PowerTransformer(), EMGaussianMixture(2, covariance_type="diag", random_state=0)
    ),
    TransformedDensity(
        ColumnTransformer([("scale", StandardScaler(), [0])], remainder="passthrough"),
        VariationalEM(max_iter=3, random_state=0),
    ),
    TransformedDensity(
        make_pipeline(MaxAbsScaler(), PCA()), GaussianMixture(init_params="random", random_state=0)
    ),
    TransformedDensity("passthrough", KernelDensity()),
]


def expected_failures(estimator):
    """Weights count for a fit where transformer and density take them."""
    reason = None
    if isinstance(estimator.estimator, GaussianMixture):
        return {
            name: "the density takes no weights"
            for name in (
                "check_all_zero_sample_weights_error",
                "check_sample_weights_pandas_series",
                "check_sample_weights_not_an_array",
                "check_sample_weights_list",
                "check_sample_weights_shape",
                "check_sample_weights_not_overwritten",
                "check_sample_weight_equivalence_on_dense_data",
            )
        }
    if isinstance(estimator.transformer, PowerTransformer):
        reason = "the transformer takes no weights"
    return {"check_sample_weight_equivalence_on_dense_data": reason} if reason else {}


@parametrize_with_checks(CONFIGURATIONS, expected_failed_checks=expected_failures)
def test_what_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", CONFIGURATIONS[:1], ids=str)
@pytest.mark.parametrize("check", NOT_YIELDED + OF_CONTAINERS, ids=lambda check: check.__name__)
def test_what_its_generator_does_not_yield(estimator, check):
    check(type(estimator).__name__, clone(estimator))


# Laws of the density.


def grid(density):
    """Points along all of the line, and the length for which each stands."""
    t = np.linspace(-60, 60, 60_000)
    x, length = np.sinh(t), np.cosh(t) * (t[1] - t[0])
    return x[:, None], length


def total_mass(density):
    x, length = grid(density)
    return np.exp(density.score_samples(x)) @ length


NORMAL = EMGaussianMixture.from_parameters([0.6, 0.4], [[0.0], [1.0]], [[[0.5]], [[0.1]]])


class Given(BaseEstimator):
    """A density that is known beforehand."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def score_samples(self, X):
        return NORMAL.score_samples(X)

    def sample(self, n_samples=1, random_state=None):
        return NORMAL.sample(n_samples, random_state)


@given(st.sampled_from(["box-cox", "yeo-johnson"]), st.floats(-2.5, 4.5).filter(is_exact_power))
@example("box-cox", 5e-324)  # times another number it is rounded to a multiple of itself
@costly(3)
def test_power_transformations_integrate_to_one(method, power):
    density = TransformedDensity(FixedPower(method, powers=power), Given())
    density.fit(np.arange(1.0, 9)[:, None])
    error = 5 * density.log_mass_std_ + 1e-3  # of the mass, and of tails beyond float64
    assert abs(np.log(total_mass(density))) < error
    x, _ = density.sample(300, random_state=0)
    assert np.isfinite(density.score_samples(x)).all()
    # The distribution function at the samples is uniform.
    points, length = grid(density)
    below = np.cumsum(np.exp(density.score_samples(points)) * length)
    uniform = np.interp(x[:, 0], points[:, 0], below / below[-1])
    assert stats.kstest(uniform, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("name", ELEMENTARY)
@given(seed=seeds)
@costly(4)
def test_named_transformations_integrate_to_one_and_draw_from_their_density(name, seed):
    known = ELEMENTARY[name]
    rng = np.random.default_rng(seed)
    low, high = known.domain
    X = known.inverse(
        np.abs(rng.normal(size=(60, 1))) if name == "sqrt" else rng.normal(size=(60, 1))
    )
    density = TransformedDensity(name, EMGaussianMixture()).fit(X)
    error = 5 * density.log_mass_std_ + 1e-3
    x, length = grid(density)
    if name in ("logit", "sqrt"):  # densities that are infinite at an edge, or end there
        x, length = x[np.abs(x[:, 0]) < 30], length[np.abs(x[:, 0]) < 30]
        x, length = x[x[:, 0] > 0] if name == "sqrt" else x, length
        length = length[-len(x) :]
        x = known.inverse(x)
        length = length / np.exp(known.log_slopes(x))[:, 0]
    assert abs(np.log(np.exp(density.score_samples(x)) @ length)) < error
    drawn, _ = density.sample(300, random_state=0)
    assert (density.score_samples(drawn) > -np.inf).all()
    assert ((drawn > low) & (drawn < high)).all()
    # The same as with a derivative that the user writes down.
    if name != "logit":
        own = FunctionTransformer(lambda X: known.func(X), lambda X: known.inverse(X))
        slow = TransformedDensity(
            own, EMGaussianMixture(), log_abs_det=lambda X: known.log_slopes(X).sum(axis=1)
        ).fit(X)
        np.testing.assert_allclose(slow.score_samples(X), density.score_samples(X), atol=1e-9)


@pytest.mark.parametrize("kind", ["array", "pandas", "polars"])
@pytest.mark.parametrize("name", ["log", "log1p", "sqrt", PowerTransformer("box-cox")])
def test_columns_are_transformed_in_their_places(name, kind):
    """As a ColumnTransformer would, with all columns where they were."""
    X = table()
    X[:, 0] -= X[:, 0].mean()
    transformer = ELEMENTARY[name].transformer() if isinstance(name, str) else name
    moved = ColumnTransformer([("part", transformer, [3, 1])], remainder="passthrough")
    expected = TransformedDensity(moved, EMGaussianMixture()).fit(X)
    rows = X
    if kind != "array":
        rows = pytest.importorskip(kind).DataFrame(dict(zip("abcd", X.T, strict=True)))
    for columns in [["d", "b"], lambda X: ["b", "d"]] if kind != "array" else [[3, 1], [1, 3]]:
        density = TransformedDensity(name, EMGaussianMixture(), columns=columns).fit(rows)
        np.testing.assert_allclose(
            density.score_samples(rows) + density.log_mass_,
            expected.score_samples(X) + expected.log_mass_,
        )
        assert density.estimator_.means_[0, 0] == pytest.approx(X[:, 0].mean(), abs=1e-9)
        drawn, _ = density.sample(500, random_state=0)
        assert (drawn[:, [1, 3]] > 0).all()
        assert (drawn[:, 0] < 0).any()
        again = pickle.loads(pickle.dumps(density)) if not callable(columns) else density
        np.testing.assert_array_equal(again.score_samples(rows), density.score_samples(rows))


def test_a_search_tries_named_transformations_on_some_columns():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"amount": np.exp(rng.normal(2, 1, 300)), "change": rng.normal(0, 1, 300)})
    density = TransformedDensity(None, EMGaussianMixture(), columns=["amount"])
    search = GridSearchCV(density, {"transformer": ["log", None, StandardScaler()]}).fit(X)
    assert search.best_params_ == {"transformer": "log"}
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] == pytest.approx(scores[2], abs=1e-6)
    for columns, message in [(["sum"], "columns=.*'sum'.* are not among"), ([2], "not positions")]:
        with pytest.raises(ValueError, match=message):
            clone(density).set_params(transformer="log", columns=columns).fit(X)


def test_labels_beside_a_named_transformation_stay_labels():
    frame = pd.DataFrame({"kind": ["x", "y"] * 20, "amount": table()[:, 0]})
    model = FactorModel(1, [("categorical", ["kind"]), ("gaussian", ["amount"])], 16)
    density = TransformedDensity(
        "log", VariationalEM(model, max_iter=3, random_state=0), columns=["amount"]
    ).fit(frame)
    assert np.isfinite(density.score(frame))
    drawn, _ = density.sample(30, random_state=0)
    assert set(drawn[:, 0]) == {"x", "y"}
    assert (drawn[:, 1] > 0).all()


@pytest.mark.parametrize("transformer", [LOG, ROOT, FunctionTransformer(np.arcsinh, np.sinh)])
def test_functions_integrate_to_one(transformer):
    slopes = {**SLOPES, np.arcsinh: lambda X: -0.5 * np.log1p(X**2).sum(axis=1)}

    def slope_or_nothing(X):
        with np.errstate(all="ignore"):
            slope = slopes[transformer.func](X)
        return np.where(np.isnan(slope), -np.inf, slope)

    density = TransformedDensity(transformer, Given(), log_abs_det=slope_or_nothing)
    density.fit(np.arange(1.0, 9)[:, None])
    np.testing.assert_allclose(total_mass(density), 1, atol=5 * density.log_mass_std_ + 1e-6)
    expected_mass = np.exp(density.log_mass_)
    true_mass = 1.0
    if transformer is ROOT:
        means, variances = NORMAL.means_[:, 0], NORMAL.covariances_[:, 0, 0]
        true_mass = NORMAL.weights_ @ stats.norm.cdf(means / np.sqrt(variances))
    assert abs(expected_mass - true_mass) <= 5 * density.log_mass_std_


@pytest.mark.parametrize(
    "transformer",
    [
        PowerTransformer(),
        make_pipeline(PowerTransformer("box-cox"), PCA(whiten=True)),
        make_pipeline(RobustScaler(), FixedPower(powers=[-1.0, 3.0])),
        ColumnTransformer([("b", PowerTransformer(), [1]), ("a", MinMaxScaler(), [0])]),
    ],
)
def test_two_columns_integrate_to_one(transformer):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 2)) @ [[1.0, 0.5], [0, 1]]
    X[:, 1] = np.exp(0.5 * X[:, 1])
    X[:, 0] = np.exp(0.3 * X[:, 0])
    density = TransformedDensity(transformer, EMGaussianMixture(2, random_state=0)).fit(X)
    t = np.linspace(-9, 9, 700)
    axes = [np.median(X[:, j]) + X[:, j].std() * np.sinh(t) for j in range(2)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    area = np.multiply.outer(X[:, 0].std() * np.cosh(t), X[:, 1].std() * np.cosh(t)).ravel()
    mass = np.exp(density.score_samples(points)) @ area * (t[1] - t[0]) ** 2
    assert abs(mass - 1) < 5 * density.log_mass_std_ + 2e-3


SCALERS = [
    None,
    StandardScaler(),
    MinMaxScaler((-1, 3)),
    MaxAbsScaler(),
    RobustScaler(),
    PCA(),
    PCA(whiten=True),
    make_pipeline(StandardScaler(), PCA(whiten=True)),
    ColumnTransformer([("a", MinMaxScaler(), [0])], remainder=StandardScaler()),
]


@given(seeds, st.sampled_from(SCALERS))
@costly(2)
def test_affine_maps_in_front_of_equivariant_densities_do_not_matter(seed, scaler):
    """With one start, EM's scores do not depend on the scaler, PCA or its order."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((60, 3)) @ rng.standard_normal((3, 3)) + [0, 10, -3]
    start = rng.dirichlet([0.5, 0.5], 60)
    plain = {"max_iter": 5, "tol": 0, "reg_covar": 0, "acceleration": None}
    em = EMGaussianMixture(2, init_params=start, **plain)
    expected = em.fit(X)
    density = TransformedDensity(scaler, em).fit(X)
    np.testing.assert_allclose(density.score_samples(X), expected.score_samples(X), atol=1e-6)
    np.testing.assert_allclose(density.elbo(X), expected.elbo(X), atol=1e-6)
    np.testing.assert_allclose(density.predict_proba(X), expected.predict_proba(X), atol=1e-6)
    weight = rng.integers(0, 3, 60)
    for criterion in ("aic", "bic"):
        for given_weight in (None, weight):
            np.testing.assert_allclose(
                getattr(density, criterion)(X, given_weight),
                getattr(expected, criterion)(X, given_weight),
                atol=1e-4,
            )
    parts, own = density.decompose_bound(X), expected.decompose_bound(X)
    np.testing.assert_allclose(parts.log_likelihood, own.log_likelihood, atol=1e-6)
    np.testing.assert_allclose(parts.elbo, own.elbo, atol=1e-6)
    np.testing.assert_allclose(parts.gap, own.gap, atol=1e-6)
    assert density.n_parameters_ == expected.n_parameters_


@pytest.mark.filterwarnings("ignore::skemvae.DoubtfulFitWarning")
@given(tables(), st.sampled_from([1e-8, 1e3, 1e8]), st.sampled_from([0, 1e8]))
@costly(3)
def test_units(X, unit, offset):
    """A change of units moves the log density by its logarithm."""
    offset = offset * (unit < 1e8) * unit
    density = TransformedDensity(StandardScaler(), EMGaussianMixture(reg_covar=1e-2))
    scores = clone(density).fit(X).score_samples(X)
    moved = unit * X + offset
    X = (moved - offset) / unit  # what the rounding of the offset has left
    known = np.allclose(clone(density).fit(X).score_samples(X), scores, atol=1e-6)
    varies = np.ptp(X, axis=0) > 0
    if known and varies.all():
        found = clone(density).fit(moved).score_samples(moved)
        np.testing.assert_allclose(found + X.shape[1] * np.log(unit), scores, atol=1e-4)


def test_a_power_of_a_lognormal_is_its_density():
    """Box-Cox finds the logarithm, so the density is known."""
    x = np.random.default_rng(0).lognormal(3, 0.5, (20_000, 1))
    density = TransformedDensity(PowerTransformer("box-cox"), EMGaussianMixture()).fit(x)
    expected = stats.lognorm(0.5, scale=np.exp(3)).logpdf(x[:, 0])
    assert abs(np.mean(density.score_samples(x) - expected)) < 1e-3
    assert density.n_parameters_ == 3
    assert density.score_samples([[-1.0], [0.0], [20.0]])[:2].tolist() == [-np.inf, -np.inf]
    assert density.score(np.r_[x, [[-1.0]]]) == -np.inf
    assert density.score_samples([[-1.0]]) == -np.inf


def test_the_breast_cancer_table():
    """29 of its 30 powers lie outside of [0, 2], so mass is lost on all sides."""
    X = load_breast_cancer().data
    em = EMGaussianMixture(2, reg_covar=1e-2, random_state=0)
    density = TransformedDensity(PowerTransformer(), em).fit(X)
    powers = density.transformer_.lambdas_
    assert ((powers < 0) | (powers > 2)).sum() == 29
    assert -0.2 < density.log_mass_ < -0.01
    assert 0 < density.log_mass_std_ < 2e-3
    inner = density.estimator_.score_samples(density.transformer_.transform(X))
    log_det = density.bijection_.log_abs_det(X)
    np.testing.assert_allclose(density.score_samples(X), inner + log_det - density.log_mass_)
    samples, components = density.sample(2000, random_state=0)
    assert np.isfinite(samples).all()
    again = density.transformer_.transform(samples)
    assert density.bijection_.inverse(again)[1].all()
    # Samples have the density's own mean score, as many rows again have.
    other, _ = density.sample(2000, random_state=1)
    error = density.score_samples(samples).std() / np.sqrt(1000)
    assert abs(density.score(samples) - density.score(other)) < 4 * error
    assert (density.predict(samples) == components).mean() > 0.95
    assert abs((components == 0).mean() - density.estimator_.weights_[0]) < 0.05


# Samples.


@pytest.mark.parametrize("transformer", [t for t in SCALERS if t is not None], ids=str)
def test_samples_of_affine_maps_are_those_of_the_density_transformed_back(transformer):
    X = table()
    density = TransformedDensity(transformer, EMGaussianMixture(2, random_state=0)).fit(X)
    samples, labels = density.sample(50, random_state=1)
    Y, expected = density.estimator_.sample(50, random_state=1)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(density.transformer_.transform(samples), Y, atol=1e-9)


def test_samples_of_densities_of_all_kinds():
    X = table(n=200)
    for estimator in (GaussianMixture(3, random_state=0), KernelDensity(bandwidth=0.3)):
        density = TransformedDensity(PowerTransformer(), estimator).fit(X)
        assert density.log_mass_ < 0
        samples, latents = density.sample(500, random_state=0)
        np.testing.assert_array_equal(density.sample(500, random_state=0)[0], samples)
        assert not np.isin(density.sample(500, random_state=1)[0], samples).any()
        assert len(np.unique(samples[:, 0])) == 500
        for j in range(4):
            assert stats.ks_2samp(samples[:, j], X[:, j]).pvalue > 1e-3
        if latents is not None:
            assert (np.diff(latents) < 0).any()  # a mixture's draws are sorted: part of them is not
            assert (density.predict(samples) == latents).mean() > 0.8
            found = np.bincount(latents, minlength=3) / 500
            np.testing.assert_allclose(found, density.estimator_.weights_, atol=0.08)
    assert len(density.sample()[0]) == 1
    with pytest.raises(ValueError, match="n_samples"):
        density.sample(0)


class Stubborn(Given):
    """Repeats its draws, which miss the image from some moment on."""

    inside = True

    def sample(self, n_samples=1):
        return np.full((n_samples, 1), 0.0 if self.inside else -5.0)


def test_draws_that_stay_outside_end_with_an_error():
    x = np.arange(1.0, 9)[:, None]
    density = TransformedDensity(FixedPower("box-cox", powers=1.0), Stubborn()).fit(x)
    assert density.log_mass_ == 0
    density.estimator_.inside = False
    with pytest.raises(ValueError, match="Only 0 of 3 samples lie in the image of FixedPower"):
        density.sample(3)


def test_no_mass_and_no_samples_are_named():
    x = np.arange(1.0, 9)[:, None]
    outside = Stubborn()
    outside.fit = lambda X, y=None: setattr(outside, "inside", False)
    density = TransformedDensity(FixedPower("box-cox", powers=1.0), Outside())
    with pytest.raises(
        ValueError, match="None of 131072 draws of Outside lies in the image of Fix"
    ):
        density.fit(x)
    density = TransformedDensity(
        FixedPower("box-cox", powers=1.0), make_pipeline(StandardScaler(), GaussianMixture())
    )
    with pytest.raises(ValueError, match="Pipeline has no sample: choose a density that has"):
        density.fit(x)
    assert not hasattr(density, "sample")
    assert not hasattr(density, "transformer_")  # refused, and left as it was


class Outside(Stubborn):
    inside = False


# Its place in scikit-learn.


def test_searching_scalers_is_meaningful():
    """Behind a scaler EM's scores are all the same; a power transformation is another density."""
    x = np.random.default_rng(0).lognormal(0, 1, (300, 2))
    scalers = [StandardScaler(), RobustScaler(), MinMaxScaler(), "passthrough", PowerTransformer()]
    density = TransformedDensity(StandardScaler(), EMGaussianMixture(random_state=0))
    grid = {"transformer": scalers, "estimator__reg_covar": [1e-6, 1e-5]}
    search = GridSearchCV(density, grid, cv=KFold(3)).fit(x)
    scores = search.cv_results_["mean_test_score"].reshape(2, 5)
    np.testing.assert_allclose(scores[:, :4], scores[:, :1] * np.ones(4), atol=1e-6)
    assert isinstance(search.best_params_["transformer"], PowerTransformer)
    assert (scores[:, 4] > scores[:, 0] + 0.5).all()
    np.testing.assert_allclose(
        search.score_samples(x), search.best_estimator_.score_samples(x), rtol=1e-12
    )


@pytest.mark.parametrize(
    "estimator",
    [
        EMGaussianMixture(2, random_state=0),
        VariationalEM(FactorModel(1, Gaussian("shared"), n_score_samples=32), random_state=0),
        VAEEstimator(hidden_layer_sizes=(4,), max_iter=2, n_score_samples=16, random_state=0),
        GaussianMixture(2, random_state=0),
        KernelDensity(),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_it_offers_what_the_density_offers(estimator, tmp_path):
    X = table()
    density = TransformedDensity(PowerTransformer(), estimator)
    for method in (
        *("predict", "predict_proba", "transform", "fit_transform", "elbo", "decompose_bound"),
        *("aic", "bic", "get_feature_names_out", "set_output", "sample"),
    ):
        offered = hasattr(estimator, "transform" if method == "set_output" else method)
        assert hasattr(density, method) == offered, method
        if offered and method not in ("set_output", "fit_transform"):
            with pytest.raises(NotFittedError):
                getattr(density, method)(
                    *([] if method in ("sample", "get_feature_names_out") else [X])
                )
    density.fit(X)
    before = pickle.dumps(density)
    scores = density.score_samples(X)
    assert scores.shape == (40,)
    if hasattr(density, "transform"):
        Z = density.transform(X)
        np.testing.assert_array_equal(density.fit_transform(X), Z)
        np.testing.assert_array_equal(
            Z, density.estimator_.transform(density.transformer_.transform(X))
        )
        frame = clone(density).set_output(transform="pandas").fit(X).transform(X)
        assert list(frame.columns) == list(density.get_feature_names_out())
    if isinstance(estimator, VariationalEM | VAEEstimator):
        value, std = density.score_samples(X, return_std=True)
        np.testing.assert_array_equal(value, scores)
        assert std.shape == (40,)
    if hasattr(density, "elbo"):
        few, Y = X[:3], density.transformer_.transform(X[:3])
        shift = scores[:3] - density.estimator_.score_samples(Y)
        inner, parts = density.estimator_.decompose_bound(Y), density.decompose_bound(few)
        np.testing.assert_allclose(parts.log_likelihood, inner.log_likelihood + shift)
        np.testing.assert_allclose(parts.elbo, inner.elbo + shift)
        np.testing.assert_array_equal(parts.kl_to_prior, inner.kl_to_prior)
    np.testing.assert_array_equal(pickle.loads(before).score_samples(X), scores)
    np.save(tmp_path / "X.npy", X)
    for rows in (np.load(tmp_path / "X.npy", mmap_mode="r"), np.asfortranarray(X)):
        np.testing.assert_allclose(density.score_samples(rows), scores, rtol=1e-9)
    np.testing.assert_allclose(density.score_samples(X[:7]), scores[:7], rtol=1e-9)
    if hasattr(density, "bic") and hasattr(density, "n_parameters_"):
        expected = -2 * scores.sum() + np.log(40) * density.n_parameters_
        np.testing.assert_allclose(density.bic(X), expected)
        assert density.n_parameters_ == density.estimator_.n_parameters_ + 4


def test_weights_are_repetitions():
    X, weight = table(), np.arange(40) % 3
    density = TransformedDensity(StandardScaler(), EMGaussianMixture(reg_covar=1e-3))
    weighted = clone(density).fit(X, sample_weight=weight)
    repeated = clone(density).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(weighted.score_samples(X), repeated.score_samples(X), rtol=1e-6)
    np.testing.assert_allclose(
        weighted.score(X, sample_weight=weight), repeated.score(np.repeat(X, weight, axis=0))
    )
    # MinMaxScaler takes none, but rows of weight 0 are left out.
    extreme = X.copy()
    extreme[0] = 1e6
    density = TransformedDensity(MinMaxScaler(), EMGaussianMixture(reg_covar=1e-3))
    scaler = density.fit(extreme, sample_weight=weight).transformer_
    np.testing.assert_allclose(scaler.data_max_, X[weight > 0].max(axis=0))
    with pytest.raises(ValueError, match=r"GaussianMixture.fit takes no sample_weight"):
        TransformedDensity(None, GaussianMixture()).fit(X, sample_weight=weight)


def test_mixed_columns():
    """Real columns are transformed, labels pass through to a likelihood of their own."""
    X = table()
    frame = pd.DataFrame(X, columns=list("abcd")).assign(label=["x", "y"] * 20)
    columns = ColumnTransformer(
        [("power", PowerTransformer(), ["b", "c"])], remainder="passthrough"
    )
    vae = VAEEstimator(
        hidden_layer_sizes=(4,),
        likelihood=[("gaussian", [0, 1, 2, 3]), ("categorical", [4])],
        max_iter=2,
        random_state=0,
    )
    density = TransformedDensity(columns, vae).fit(frame)
    assert np.isfinite(density.score(frame))
    samples, _ = density.sample(20, random_state=0)
    assert set(samples[:, 4]) <= {"x", "y"}
    assert np.isfinite(density.score_samples(pd.DataFrame(samples, columns=frame.columns))).all()
    with pytest.raises(ValueError, match="feature names"):
        density.score_samples(frame[["b", "a", "c", "d", "label"]])


@pytest.mark.parametrize("kind", [pd.DataFrame, "polars"])
def test_frames(kind):
    if kind == "polars":
        kind = pytest.importorskip("polars").DataFrame
    X = table()
    columns = ColumnTransformer([("a", PowerTransformer(), ["b"])], remainder="passthrough")
    frame = kind(dict(zip("abcd", X.T, strict=True)))
    density = TransformedDensity(columns, EMGaussianMixture()).fit(frame)
    by_position = ColumnTransformer([("a", PowerTransformer(), [1])], remainder="passthrough")
    expected = TransformedDensity(by_position, EMGaussianMixture()).fit(X).score_samples(X)
    np.testing.assert_allclose(density.score_samples(frame), expected)
    assert list(density.feature_names_in_) == list("abcd")


# Older scikit-learn searches for powers in float32.
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, object])
def test_types_of_input(dtype):
    X = np.round(100 * table() + 1).astype(dtype)
    for transformer in (StandardScaler(), PowerTransformer(), None, LOG):
        density = TransformedDensity(
            transformer, EMGaussianMixture(), log_abs_det=log_slope_of_log
        ).fit(X)
        scores = density.score_samples(X)
        assert scores.dtype == (np.float32 if dtype == np.float32 else np.float64)
        exact = clone(density).fit(X.astype(float)).score_samples(X.astype(float))
        np.testing.assert_allclose(scores, exact, atol=1e-2 if dtype == np.float32 else 1e-9)


def test_missing_and_infinite_values_are_named():
    X = table()
    for value, name in ((np.nan, "NaN"), (np.inf, "infinity")):
        bad = X.copy()
        bad[3, 1] = value
        for transformer in (None, PowerTransformer(), PowerTransformer("box-cox")):
            density = TransformedDensity(transformer, EMGaussianMixture())
            for rows in (bad, pd.DataFrame(bad)):
                with pytest.raises(ValueError, match=name):
                    density.fit(rows)
            fitted = clone(density).fit(pd.DataFrame(X))
            with pytest.raises(ValueError, match=name):
                fitted.score_samples(pd.DataFrame(bad))


REFUSED = [
    (OneHotEncoder(), EMGaussianMixture(), ValueError, "OneHotEncoder has no density"),
    (
        "pass",
        EMGaussianMixture(),
        ValueError,
        "transformer='pass' is not one of .*'arcsinh', 'log'",
    ),
    (3, EMGaussianMixture(), TypeError, "transformer=3 is no transformer"),
    (None, KMeans(2), TypeError, r"estimator=KMeans\(n_clusters=2\) has no score_samples"),
    (FunctionTransformer(np.cbrt), EMGaussianMixture(), ValueError, "give log_abs_det"),
    (PCA(2), EMGaussianMixture(), ValueError, "PCA with 2 of 4 components has no density"),
]


@pytest.mark.parametrize(("transformer", "estimator", "error", "message"), REFUSED, ids=str)
def test_bad_parameters_are_named(transformer, estimator, error, message):
    density = TransformedDensity(transformer, estimator)
    with pytest.raises(error, match=message):
        density.fit(table())
    assert not hasattr(density, "estimator_")


def test_rows_outside_of_the_domain_are_named():
    bad = np.r_[table(), -table()]
    message = r"Column 0 holds -.* in row 40, which is not in the domain of 'log': .* add a const"
    density = TransformedDensity("log", EMGaussianMixture())
    with pytest.raises(ValueError, match=message):
        density.fit(bad)
    with pytest.raises(ValueError, match=message):
        density.fit(table()).predict(bad)
    assert (density.score_samples(bad)[40:] == -np.inf).all()
    frame = pd.DataFrame(table(), columns=list("abcd"))
    frame.loc[7, "c"] = 0
    with pytest.raises(
        ValueError, match=r"Column c holds 0\.0 in row 7, which is not in the domain"
    ):
        TransformedDensity("log", EMGaussianMixture(), columns=["a", "c"]).fit(frame)
    assert np.isfinite(clone(density).set_params(columns=["a", "b"]).fit(frame).score(frame))
    density = TransformedDensity(make_pipeline(LOG, PCA()), EMGaussianMixture()).fit(table())
    with pytest.raises(ValueError, match="Row 40 of X is not in the domain of Pipeline"):
        density.predict(bad)


def test_maps_that_do_not_tell_rows_apart_are_refused():
    """Far from 0 a power transformation rounds all rows to a few values."""
    X = 1e5 + np.exp(0.3 * np.random.default_rng(0).standard_normal((200, 2)))
    searched = [PowerTransformer(method) for method in ("box-cox", "yeo-johnson")]
    for power in (FixedPower("box-cox", powers=-3.0), FixedPower(powers=-3.0), *searched):
        density = TransformedDensity(power, EMGaussianMixture())
        if RECENT or power not in searched:  # older ones find another power
            with pytest.raises(ValueError, match=r"Power.* is not one-to-one in float64"):
                density.fit(X)
        moved = clone(density).set_params(transformer=make_pipeline(MinMaxScaler((1, 2)), power))
        assert np.isfinite(moved.fit(X).score(X))
    square = FunctionTransformer(np.square, np.sqrt, check_inverse=False)
    density = TransformedDensity(
        square, EMGaussianMixture(), log_abs_det=lambda X: np.log(2 * np.abs(X)).sum(axis=1)
    )
    with pytest.raises(ValueError, match="20 of 40 rows are not recovered"):
        density.fit(table() * np.where(np.arange(40) < 20, -1, 1)[:, None])
    assert np.isfinite(density.fit(table()).score(table()))


def zeros(X):
    return np.zeros(len(X))


def own(func, log_abs_det=zeros, inverse=None):
    """A function with what a user says of its derivative."""
    function = FunctionTransformer(func, inverse, check_inverse=False)
    return TransformedDensity(function, EMGaussianMixture(), log_abs_det=log_abs_det)


def log_slope_of_tanh(X):
    return 2 * (np.log(2) - np.abs(X) - np.log1p(np.exp(-2 * np.abs(X)))).sum(axis=1)


ROWS = np.random.default_rng(0).normal(size=(300, 2))
CONSTANT, TURNS = "does not change in some direction", "determinant changes sign between row"
WRONG = r"log_abs_det of Function.*is not the logarithm.* at row \d+, .*, it is .* give -?\d"
NOT_ONE_TO_ONE = {
    "constant": (own(lambda X: 0 * X + 3), CONSTANT),
    "one constant": (own(lambda X: X * [1, 0]), CONSTANT),
    "sign": (own(np.sign), CONSTANT),
    "round": (own(np.round), CONSTANT),
    "steps": (own(lambda X: np.floor(2 * X)), CONSTANT),
    "clip": (own(lambda X: np.clip(X, -1, 1)), CONSTANT),
    "quantiles": (own(QuantileTransformer(n_quantiles=9).fit(ROWS[:20]).transform), CONSTANT),
    "sum twice": (own(lambda X: X @ [[1, 1], [1, 1]]), CONSTANT),
    "saturated": (
        own(lambda X: np.tanh(40 * X), lambda X: log_slope_of_tanh(40 * X) + 2 * np.log(40)),
        "values are rounded to the same number",
    ),
    "abs": (own(np.abs), TURNS),
    "abs, inverse": (own(np.abs, zeros, np.positive), TURNS),
    "square": (own(np.square, lambda X: np.log(2 * np.abs(X)).sum(axis=1)), TURNS),
    "cos": (own(np.cos, lambda X: np.log(np.abs(np.sin(X))).sum(axis=1)), TURNS),
    "wrong sign": (own(np.arctan, lambda X: np.log1p(X**2).sum(axis=1)), WRONG),
    "forgotten": (own(lambda X: 3 * X), WRONG),
    "of one column": (own(np.arctan, lambda X: -np.log1p(np.asarray(X)[:, 0] ** 2)), WRONG),
}


@pytest.mark.parametrize("name", NOT_ONE_TO_ONE)
def test_what_is_not_one_to_one_is_refused_with_an_example(name):
    density, message = NOT_ONE_TO_ONE[name]
    parts = make_pipeline(StandardScaler(), density.transformer)
    beside = ColumnTransformer([("own", parts, [2, 0])], remainder="passthrough")
    for transformer, X in [
        (density.transformer, ROWS),
        (density.transformer, pd.DataFrame(ROWS, columns=["a", "b"])),
        (beside, np.c_[ROWS, ROWS[::-1]]),
    ]:
        with np.errstate(all="ignore"), pytest.raises(ValueError, match=message) as refused:
            clone(density).set_params(transformer=transformer).fit(X)
        assert "FunctionTransformer(" in str(refused.value)
        assert re.search(r"row \d+", str(refused.value))


ONE_TO_ONE = {
    "cube": (lambda X: X**3, lambda X: np.log(3 * X**2).sum(axis=1)),
    "one over": (lambda X: 1 / X, lambda X: -2 * np.log(np.abs(X)).sum(axis=1)),
    "tanh": (np.tanh, log_slope_of_tanh),
    "far": (lambda X: X + 1e8, zeros),
    "float32": (lambda X: np.arctan(X).astype("f"), lambda X: -np.log1p(X**2).sum(axis=1)),
    "swap": (lambda X: X[:, ::-1], zeros),
    "shear": (lambda X: X @ [[1.0, 5.0], [0.0, 2.0]], lambda X: np.full(len(X), np.log(2))),
    "kink": (lambda X: np.where(X < 0, X, 2 * X), lambda X: np.log(2) * (X >= 0).sum(axis=1)),
}


@pytest.mark.parametrize("name", ONE_TO_ONE)
@given(seeds, st.sampled_from([1e-3, 1.0, 3.0]))
@costly(4)
def test_what_is_one_to_one_is_taken(name, seed, unit):
    X = unit * np.random.default_rng(seed).normal(size=(100, 2))
    density = own(*ONE_TO_ONE[name]).fit(X)
    assert np.isfinite(density.score_samples(X)).all()


def test_functions_that_change_the_number_of_columns_are_refused():
    first = FunctionTransformer(lambda X: X[:, :1])
    density = TransformedDensity(first, EMGaussianMixture(), log_abs_det=lambda X: np.zeros(len(X)))
    with pytest.raises(ValueError, match=r"turns rows of shape \(40, 4\) into \(40, 1\)"):
        density.fit(table())


@needs_callbacks
def test_callbacks_are_passed_on():
    recorder = Recorder(step=None)
    TransformedDensity(StandardScaler(), EMGaussianMixture()).set_callbacks(recorder).fit(table())
    assert recorder.begun == ["fit", "fit-transformer", "fit-density"]
