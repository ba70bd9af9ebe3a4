"""scikit-learn's own checks, and those that its generator does not yield."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # else one check is skipped

import numpy as np
import pytest
import sklearn.utils.estimator_checks as checks
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from skemvae import EMGaussianMixture

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Some checks fit a frame and transform an array, or the reverse, on purpose.
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    pytest.mark.filterwarnings("ignore:X has feature names, but"),
]


def halves(X, n_components, random_state):
    """Initial responsibilities of a user's own."""
    return random_state.dirichlet(np.ones(n_components), len(X))


CONFIGURATIONS = [
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

NOT_YIELDED = [
    checks.check_set_output_transform,
    checks.check_set_output_transform_pandas,
    checks.check_set_output_transform_polars,
    checks.check_global_set_output_transform_polars,
    checks.check_global_output_transform_pandas,
    checks.check_dataframe_column_names_consistency,
    checks.check_transformer_get_feature_names_out,
    checks.check_transformer_get_feature_names_out_pandas,
    checks.check_get_feature_names_out_error,
    checks.check_inplace_ensure_writeable,
]


@parametrize_with_checks(CONFIGURATIONS)
def test_what_scikit_learn_checks(estimator, check):
    check(estimator)  # each raises AssertionError if it fails


@pytest.mark.parametrize(
    "estimator", [*CONFIGURATIONS, CALLABLE], ids=[*map(repr, CONFIGURATIONS), "callable"]
)
@pytest.mark.parametrize("check", NOT_YIELDED, ids=lambda check: check.__name__)
def test_what_its_generator_does_not_yield(estimator, check):
    check("EMGaussianMixture", clone(estimator))  # raises AssertionError if it fails


# ``score_samples`` and ``sample`` are hardly touched by the checks above.

METHODS = ["score_samples", "elbo", "predict", "predict_proba", "transform", "score", "bic", "icl"]


@pytest.fixture(params=CONFIGURATIONS, ids=repr)
def fitted(request, X):
    return clone(request.param).set_params(random_state=0).fit(X)


@pytest.fixture(name="X")
def table():
    return np.random.default_rng(0).standard_normal((60, 3)) + 3 * np.arange(60)[:, None] % 2


@pytest.mark.parametrize("method", METHODS)
class TestMethodsThatLookAtRows:
    def test_unfitted(self, method, X):
        with pytest.raises(NotFittedError):
            getattr(EMGaussianMixture(), method)(X)

    def test_nan_and_inf_are_named(self, method, X):
        fitted = EMGaussianMixture(2, random_state=0).fit(X)
        for value, name in ((np.nan, "NaN"), (np.inf, "infinity")):
            bad = X.copy()
            bad[3, 1] = value
            with pytest.raises(ValueError, match=name):
                getattr(fitted, method)(bad)

    def test_wrong_number_of_features(self, method, X, fitted):
        with pytest.raises(ValueError, match="3 features"):
            getattr(fitted, method)(X[:, :2])

    def test_same_answer_again_and_state_unchanged(self, method, X, fitted):
        before = {name: np.copy(value) for name, value in vars(fitted).items() if name[-1] == "_"}
        first, second = getattr(fitted, method)(X), getattr(fitted, method)(X)
        np.testing.assert_array_equal(first, second)
        for name, value in before.items():
            np.testing.assert_array_equal(getattr(fitted, name), value)

    def test_read_only_memmap_and_fortran_order(self, method, X, fitted, tmp_path):
        np.save(tmp_path / "X.npy", X)
        expected = getattr(fitted, method)(X)
        for table in (np.load(tmp_path / "X.npy", mmap_mode="r"), np.asfortranarray(X)):
            np.testing.assert_allclose(getattr(fitted, method)(table), expected, rtol=1e-12)

    def test_rows_do_not_see_each_other(self, method, X, fitted):
        if np.ndim(getattr(fitted, method)(X)) == 0:
            fitted_score = fitted.score_samples(X)
            np.testing.assert_allclose(fitted.score(X), fitted_score.mean())
            return
        whole = getattr(fitted, method)(X)
        for part in (slice(1), slice(7, 40), slice(None, None, -1)):
            np.testing.assert_allclose(getattr(fitted, method)(X[part]), whole[part], rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, object])
def test_types_of_input(dtype, X):
    X = np.round(10 * X).astype(dtype)
    fitted = EMGaussianMixture(2, random_state=0).fit(X)
    expected = np.float32 if dtype is np.float32 else np.float64
    assert fitted.score_samples(X).dtype == expected
    assert fitted.predict_proba(X).dtype == expected
    assert fitted.means_.dtype == np.float64


def test_weights_in_score(X, fitted):
    weight = np.arange(len(X)) % 3
    expected = np.repeat(fitted.score_samples(X), weight).mean()
    np.testing.assert_allclose(fitted.score(X, sample_weight=weight), expected)
    repeated = np.repeat(X, weight, axis=0)
    for criterion in ("aic", "bic", "icl"):
        value = getattr(fitted, criterion)(X, sample_weight=weight)
        np.testing.assert_allclose(value, getattr(fitted, criterion)(repeated), rtol=1e-9)
