"""scikit-learn's own checks, and those that its generator does not yield."""

import copy
import functools
import os
import pickle
import re

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # else one check is skipped

import numpy as np
import pytest
import sklearn.utils.estimator_checks as checks
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import estimator_checks_generator

from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM
from skemvae.likelihoods import Gaussian
from skemvae.models import BayesianMixture, FactorModel, LatentVariableModel
from tests.own_models import GaussianPair, LinearGaussian

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Some checks fit a frame and transform an array, or the reverse, on purpose.
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    pytest.mark.filterwarnings("ignore:X has feature names, but"),
    # Some of its tables are doubtful: rows that are repeated, for one.
    pytest.mark.filterwarnings("ignore::skemvae.doubts.DoubtfulFitWarning"),
]


def halves(X, n_components, random_state):
    """Initial responsibilities of a user's own."""
    return random_state.dirichlet(np.ones(n_components), len(X))


MIXTURES = [
    EMGaussianMixture(),
    EMGaussianMixture(2),
    EMGaussianMixture(2, covariance_type="tied"),
    EMGaussianMixture(3, covariance_type="diag", reg_covar=0),
    EMGaussianMixture(2, covariance_type="spherical", reg_covar=1e-2),
    EMGaussianMixture(2, init_params="kmeans", n_init=2),
    EMGaussianMixture(2, init_params="k-means++", tol=0, max_iter=3),
    EMGaussianMixture(2, init_params="random"),
    EMGaussianMixture(2, init_params="random_from_data", max_iter=1),
]
# The checks fit tables of every size, which an array cannot follow.
CALLABLE = EMGaussianMixture(2, init_params=halves)

QUICK = {"hidden_layer_sizes": (8,), "max_iter": 3, "n_score_samples": 16}
VAES = [
    VAEEstimator(max_iter=2),
    VAEEstimator(hidden_layer_sizes=(), max_iter=3, likelihood=Gaussian("shared")),
    VAEEstimator(**QUICK, likelihood="student_t", prior="mixture", learning_rate="cosine"),
    VAEEstimator(**QUICK, prior="vamp", update="alternating", activation="tanh"),
    VAEEstimator(**QUICK, objective="iwae", n_importance_samples=3, early_stopping=False),
    VAEEstimator(
        **QUICK,
        gradient="doubly_reparameterized",
        likelihood=[("gaussian", [0]), (Gaussian("row"), slice(1, None))],
    ),
    VAEEstimator(
        **QUICK, gradient="score_function", n_importance_samples=2, standardize=False, kl_warmup=2
    ),
]
VARIATIONAL = [
    VariationalEM(),
    VariationalEM(BayesianMixture(3), n_init=2),
    VariationalEM(BayesianMixture(2, "tied", "dirichlet_distribution"), tol=0, max_iter=3),
    VariationalEM(BayesianMixture(3, "diag", "dirichlet_distribution")),
    VariationalEM(BayesianMixture(3, "spherical", mean_precision_prior=0.1)),
    VariationalEM("factor_model", max_iter=3),
    VariationalEM(FactorModel(1, "student_t", n_score_samples=32), max_iter=2),
    VariationalEM(FactorModel(1, Gaussian("row"), n_score_samples=32), max_iter=1),
    VariationalEM(FactorModel(2, [("gaussian", [0]), (Gaussian("shared"), slice(1, None))])),
    VariationalEM(GaussianPair(2), max_iter=5),
    VariationalEM(LinearGaussian(1), max_iter=2),
    VariationalEM(LinearGaussian(2, "diagonal"), max_iter=1),
]
CONFIGURATIONS = MIXTURES + VAES + VARIATIONAL
# One for each way to make latent columns: their containers do not depend on other parameters.
OF_EACH_KIND = [
    MIXTURES[1],
    VAES[2],
    *(VariationalEM(model, max_iter=1) for model in (None, "factor_model", GaussianPair(2))),
    VariationalEM(LinearGaussian(1), max_iter=1),
]

NOT_YIELDED = [
    checks.check_set_output_transform,
    checks.check_dataframe_column_names_consistency,
    checks.check_transformer_get_feature_names_out,
    checks.check_transformer_get_feature_names_out_pandas,
    checks.check_get_feature_names_out_error,
    checks.check_inplace_ensure_writeable,
]
# Each fits some dozen times.
OF_CONTAINERS = [
    checks.check_set_output_transform_pandas,
    checks.check_set_output_transform_polars,
    checks.check_global_set_output_transform_polars,
    checks.check_global_output_transform_pandas,
]


@functools.cache
def label(case):
    """What a case is called in the name of its test."""
    if isinstance(case, functools.partial):
        keywords = ",".join(f"{name}={value}" for name, value in case.keywords.items())
        return f"{case.func.__name__}({keywords})".removesuffix("()")
    return getattr(case, "__name__", None) or re.sub(r" at 0x\w+|\s+", " ", str(case))


def expected_failures(estimator):
    """What cannot hold: batches are drawn from the rows, so repeating rows changes them."""
    reason = None
    if isinstance(estimator, VAEEstimator):
        reason = "batches are random"
    if isinstance(getattr(estimator, "model", None), LatentVariableModel):
        reason = "its own initial_parameters look at rows, not at their weights"
    return {"check_sample_weight_equivalence_on_dense_data": reason} if reason else {}


CHECKS = [
    case
    for estimator in CONFIGURATIONS
    for case in estimator_checks_generator(
        estimator, expected_failed_checks=expected_failures(estimator), mark="xfail"
    )
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=label)
def test_what_scikit_learn_checks(estimator, check):
    check(estimator)  # each raises AssertionError if it fails


@pytest.mark.parametrize("estimator", [*CONFIGURATIONS, CALLABLE], ids=label)
@pytest.mark.parametrize("check", NOT_YIELDED, ids=label)
def test_what_its_generator_does_not_yield(estimator, check):
    check(type(estimator).__name__, clone(estimator))  # raises AssertionError if it fails


@pytest.mark.parametrize("estimator", [*OF_EACH_KIND, CALLABLE], ids=label)
@pytest.mark.parametrize("check", OF_CONTAINERS, ids=label)
def test_what_it_does_not_yield_of_containers(estimator, check):
    check(type(estimator).__name__, clone(estimator))  # raises AssertionError if it fails


# ``score_samples`` and ``sample`` are hardly touched by the checks above.

METHODS = {
    EMGaussianMixture: [
        *("score_samples", "elbo", "predict", "predict_proba", "transform", "score", "bic", "icl"),
    ],
    VAEEstimator: ["score_samples", "elbo", "transform", "score", "bic"],
    VariationalEM: ["score_samples", "elbo", "transform", "score", "bic"],
}
CASES = [(estimator, method) for estimator in CONFIGURATIONS for method in METHODS[type(estimator)]]


def table():
    return np.random.default_rng(0).standard_normal((60, 3)) + 3 * np.arange(60)[:, None] % 2


@functools.cache
def fitted_by(estimator):
    return clone(estimator).set_params(random_state=0).fit(table())


@pytest.fixture(name="X")
def fresh_table():
    return table()


@pytest.fixture
def fitted(estimator):
    return copy.deepcopy(fitted_by(estimator))


@pytest.mark.parametrize(("estimator", "method"), CASES, ids=label)
class TestMethodsThatLookAtRows:
    def test_unfitted(self, estimator, method, X):
        with pytest.raises(NotFittedError):
            getattr(clone(estimator), method)(X)

    def test_nan_and_inf_are_named(self, method, X, fitted):
        for value, name in ((np.nan, "NaN"), (np.inf, "infinity")):
            bad = X.copy()
            bad[3, 1] = value
            with pytest.raises(ValueError, match=name):
                getattr(fitted, method)(bad)

    def test_wrong_number_of_features(self, method, X, fitted):
        with pytest.raises(ValueError, match="3 features"):
            getattr(fitted, method)(X[:, :2])

    def test_same_answer_again_and_state_unchanged(self, method, X, fitted):
        before = pickle.dumps(fitted)
        first, second = getattr(fitted, method)(X), getattr(fitted, method)(X)
        np.testing.assert_array_equal(first, second)
        assert pickle.dumps(fitted) == before

    def test_the_same_answer_after_pickling(self, method, X, fitted):
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(getattr(again, method)(X), getattr(fitted, method)(X))

    def test_read_only_memmap_and_fortran_order(self, method, X, fitted, tmp_path):
        np.save(tmp_path / "X.npy", X)
        expected = getattr(fitted, method)(X)
        for rows in (np.load(tmp_path / "X.npy", mmap_mode="r"), np.asfortranarray(X)):
            np.testing.assert_allclose(getattr(fitted, method)(rows), expected, rtol=1e-12)

    def test_rows_do_not_see_each_other(self, method, X, fitted):
        if np.ndim(getattr(fitted, method)(X)) == 0:
            np.testing.assert_allclose(fitted.score(X), fitted.score_samples(X).mean())
            return
        whole = getattr(fitted, method)(X)
        for part in (slice(1), slice(7, 40), slice(None, None, -1)):
            np.testing.assert_allclose(getattr(fitted, method)(X[part]), whole[part], rtol=1e-9)


@pytest.mark.parametrize("estimator", [EMGaussianMixture(2), VAES[0]], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, object])
def test_types_of_input(dtype, estimator, X):
    X = np.round(10 * X).astype(dtype)
    fitted = clone(estimator).set_params(random_state=0).fit(X)
    expected = np.float32 if dtype is np.float32 else np.float64
    assert fitted.score_samples(X).dtype == expected
    assert fitted.transform(X).dtype == expected


@pytest.mark.parametrize("estimator", CONFIGURATIONS, ids=label)
def test_weights_in_score(estimator, X, fitted):
    weight = np.arange(len(X)) % 3
    expected = np.repeat(fitted.score_samples(X), weight).mean()
    np.testing.assert_allclose(fitted.score(X, sample_weight=weight), expected)
    repeated = np.repeat(X, weight, axis=0)
    for criterion in {"aic", "bic", "icl"} & set(dir(fitted)):
        value = getattr(fitted, criterion)(X, sample_weight=weight)
        np.testing.assert_allclose(value, getattr(fitted, criterion)(repeated), rtol=1e-9)


@pytest.mark.parametrize("estimator", CONFIGURATIONS, ids=label)
def test_samples(estimator, fitted):
    X, Z = fitted.sample(50, random_state=1)
    assert X.shape == (50, 3)
    assert len(Z) == 50
    assert np.isfinite(X).all()
    for again in fitted.sample(50, random_state=1), fitted.sample(50, np.random.RandomState(1)):
        np.testing.assert_array_equal(again[0], X)
    assert (fitted.sample(50, random_state=2)[0] != X).any()
    with pytest.raises(ValueError, match="n_samples"):
        fitted.sample(0)
