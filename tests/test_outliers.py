"""``DensityOutlierDetector``: thresholds, and what scikit-learn asks of outlier detectors."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # else one check is skipped

import inspect
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator, clone, is_outlier_detector
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skemvae import (
    DensityOutlierDetector,
    EMGaussianMixture,
    TransformedDensity,
    VAEEstimator,
    VariationalEM,
)
from skemvae.models import BayesianMixture, FactorModel
from tests.versions import RECENT

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Some checks fit a frame and ask with an array, or the reverse, on purpose.
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    pytest.mark.filterwarnings("ignore:X has feature names, but"),
    # KernelDensity takes the logarithm of weights of 0.
    pytest.mark.filterwarnings("ignore:divide by zero"),
]

IRIS = load_iris().data
CONFIGURATIONS = [
    DensityOutlierDetector(),
    DensityOutlierDetector(EMGaussianMixture(2, random_state=0), contamination=0.1),
    DensityOutlierDetector(KernelDensity(), cv=3, false_alarm_rate=0.01),
    DensityOutlierDetector(make_pipeline(StandardScaler(), EMGaussianMixture()), contamination=0.5),
]


def expected_failures(estimator):
    """Older versions take it that a pipeline refuses sparse tables as its last step would."""
    if RECENT or not isinstance(estimator.estimator, Pipeline):
        return {}
    sparse = "check_sample_weight_equivalence_on_sparse_data"
    return {sparse: "the scaler is first to refuse a sparse table"}


@parametrize_with_checks(CONFIGURATIONS, expected_failed_checks=expected_failures)
def test_what_scikit_learn_checks(estimator, check):
    check(estimator)  # each raises AssertionError if it fails


def test_it_is_an_outlier_detector():
    assert is_outlier_detector(DensityOutlierDetector())


# Thresholds.


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("estimator", [EMGaussianMixture(), KernelDensity(bandwidth=0.2)], ids=str)
def test_new_rows_raise_false_alarms_at_the_rate_that_was_asked_for(estimator, rate):
    """Where rows score much higher on their own fit, too, as with a narrow kernel."""
    rng = np.random.RandomState(0)
    train, new = rng.normal(size=(1000, 5)), rng.normal(size=(4000, 5))
    if isinstance(estimator, KernelDensity):
        train, new = train[:, :2], new[:, :2]
    detector = DensityOutlierDetector(estimator, false_alarm_rate=rate).fit(train)
    alarms = (detector.predict(new) == -1).mean()
    # A quantile of 1000 rows, and a mean of 4000.
    assert alarms == pytest.approx(rate, abs=3.5 * np.sqrt(rate * (1 - rate) * (1e-3 + 2.5e-4)))


def test_scores_of_rows_on_their_own_fit_would_raise_far_more():
    rng = np.random.RandomState(0)
    train, new = rng.normal(size=(300, 2)), rng.normal(size=(4000, 2))
    kernel = KernelDensity(bandwidth=0.05)
    auto = DensityOutlierDetector(kernel).fit(train)
    naive = DensityOutlierDetector(kernel, contamination=0.05).fit(train)
    assert (auto.predict(new) == -1).mean() < 0.1
    assert (naive.predict(new) == -1).mean() > 0.2


@pytest.mark.parametrize("contamination", [0.02, 0.1, 0.29, 0.5])
def test_contamination_is_the_share_of_training_rows_that_is_flagged(contamination):
    X = np.random.RandomState(0).normal(size=(200, 3))
    detector = DensityOutlierDetector(contamination=contamination)
    assert (detector.fit_predict(X) == -1).sum() == round(200 * contamination)


def test_densities_of_zero_are_flagged_unless_most_rows_have_them():
    class Steps(BaseEstimator):
        def fit(self, X, y=None):
            self.n_features_in_ = X.shape[1]
            return self

        def score_samples(self, X):
            return np.where(X[:, 0] < 0.3, -np.inf, 0.0)

    few, many = np.linspace(0.29, 1, 100)[:, None], np.linspace(-1, 1, 100)[:, None]
    detector = DensityOutlierDetector(Steps(), cv=2).fit(few)
    np.testing.assert_array_equal(detector.predict(np.array([[0.1], [0.5]])), [-1, 1])
    assert detector.decision_function(np.array([[0.1]])) == -np.inf
    detector.fit(many)
    np.testing.assert_array_equal(detector.predict(np.array([[0.1], [0.5]])), [1, 1])
    assert not np.isnan(detector.decision_function(many)).any()


def test_the_decision_is_the_score_above_the_offset():
    detector = DensityOutlierDetector().fit(IRIS)
    scores = detector.estimator_.score_samples(IRIS)
    np.testing.assert_array_equal(detector.score_samples(IRIS), scores)
    np.testing.assert_array_equal(detector.decision_function(IRIS), scores - detector.offset_)


# Rows, their order, their weights.


@pytest.mark.parametrize("contamination", ["auto", 0.1])
def test_weights_are_repetitions_and_the_order_of_rows_does_not_matter(contamination):
    weight = np.random.RandomState(0).randint(0, 4, len(IRIS))
    detector = DensityOutlierDetector(contamination=contamination)
    weighted = detector.fit(IRIS, sample_weight=weight).offset_
    repeated = np.random.RandomState(1).permutation(IRIS.repeat(weight, axis=0))
    assert detector.fit(repeated).offset_ == pytest.approx(weighted, abs=1e-9)
    assert detector.fit(IRIS, sample_weight=1e3 * weight).offset_ == pytest.approx(weighted)


def test_copies_of_a_row_are_never_on_both_sides():
    """A narrow kernel on copies: each row would find itself."""
    X = np.random.RandomState(0).normal(size=(100, 2))
    kernel = KernelDensity(bandwidth=0.1)
    once = DensityOutlierDetector(kernel).fit(X).offset_
    tenfold = DensityOutlierDetector(kernel).fit(np.tile(X, (10, 1))).offset_
    assert tenfold == pytest.approx(once)


def test_weights_reach_the_last_step_of_a_pipeline():
    weight = np.arange(len(IRIS)) % 2 * 1.0
    pipeline = make_pipeline(StandardScaler(), EMGaussianMixture())
    detector = DensityOutlierDetector(pipeline).fit(IRIS, sample_weight=weight)
    scaled = StandardScaler().fit_transform(IRIS)
    alone = EMGaussianMixture().fit(scaled, sample_weight=weight)
    np.testing.assert_allclose(detector.score_samples(IRIS), alone.score_samples(scaled), atol=1e-9)


def test_a_splitter_says_which_rows_are_held_out():
    detector = DensityOutlierDetector(cv=TimeSeriesSplit(3), false_alarm_rate=0.1).fit(IRIS)
    held_out = np.concatenate(
        [
            EMGaussianMixture().fit(IRIS[a]).score_samples(IRIS[b])
            for a, b in TimeSeriesSplit(3).split(IRIS)
        ]
    )
    # A row like these would be one more of them, below with a chance of at most 0.1.
    n_below = (held_out < detector.offset_).sum()
    assert (n_below + 1) / (len(held_out) + 1) <= 0.1 < (n_below + 2) / (len(held_out) + 1)


def test_the_same_rows_give_the_same_threshold_and_no_random_state_is_touched():
    before = np.random.get_state()[1].copy()
    first = DensityOutlierDetector(EMGaussianMixture(2, random_state=0)).fit(IRIS)
    again = clone(first).fit(IRIS)
    assert first.offset_ == again.offset_
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("read", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_frames_keep_their_names(read):
    names = ["a", "b", "c", "d"]
    frame = read({name: IRIS[:, j] for j, name in enumerate(names)})
    detector = DensityOutlierDetector(EMGaussianMixture()).fit(frame)
    assert list(detector.feature_names_in_) == names
    assert detector.n_features_in_ == 4
    assert detector.offset_ == pytest.approx(DensityOutlierDetector().fit(IRIS).offset_)
    detector.predict(frame)
    detector.fit(IRIS)
    assert not hasattr(detector, "feature_names_in_")


def test_tables_with_labels_are_judged_as_they_are():
    rng = np.random.RandomState(0)
    colour = rng.choice(["red", "green"], 120)
    frame = pd.DataFrame({"colour": colour, "size": rng.normal(size=120) + 3 * (colour == "red")})
    kinds = [("categorical", ["colour"]), ("gaussian", ["size"])]
    vae = VAEEstimator(likelihood=kinds, hidden_layer_sizes=(4,), max_iter=5, random_state=0)
    detector = DensityOutlierDetector(vae, cv=2).fit(frame)
    odd = pd.DataFrame({"colour": ["purple", "red"], "size": [0.0, 3.0]})
    np.testing.assert_array_equal(detector.predict(odd), [-1, 1])
    assert detector.feature_scores(odd).argmax(1)[0] == 0


def test_a_read_only_memmap_is_taken(tmp_path):
    np.save(tmp_path / "X.npy", IRIS)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    offset = DensityOutlierDetector().fit(IRIS).offset_
    assert DensityOutlierDetector().fit(X).offset_ == pytest.approx(offset)


# Why.


@pytest.mark.parametrize(
    "scalers",
    [
        (),
        (StandardScaler(),),
        ("passthrough", RobustScaler()),
        (MinMaxScaler(), StandardScaler(with_mean=False)),
    ],
    ids=str,
)
def test_feature_scores_are_those_of_the_density_whatever_scalers_stand_before_it(scalers):
    density = EMGaussianMixture(2, random_state=0)
    detector = DensityOutlierDetector(make_pipeline(*scalers, density)).fit(IRIS)
    alone = clone(density).fit(IRIS)
    np.testing.assert_allclose(detector.feature_scores(IRIS), alone.feature_scores(IRIS), atol=1e-4)


@pytest.mark.parametrize(
    ("density", "message"),
    [
        (KernelDensity(), r"KernelDensity\(\) has no feature_scores: choose an estimator of skemv"),
        (GaussianMixture(), r"GaussianMixture\(\) has no feature_scores"),
        (make_pipeline(PCA(2), EMGaussianMixture()), r"cannot look through step 'pca', PCA"),
        (make_pipeline(MinMaxScaler(clip=True), EMGaussianMixture()), "step 'minmaxscaler'"),
        (make_pipeline(StandardScaler(), KernelDensity()), "has no feature_scores"),
    ],
    ids=str,
)
def test_what_cannot_be_explained_is_named(density, message):
    detector = DensityOutlierDetector(density)
    for detector in (DensityOutlierDetector(density), DensityOutlierDetector(density).fit(IRIS)):
        assert not hasattr(detector, "feature_scores")
        with pytest.raises(AttributeError) as raised:
            detector.feature_scores(IRIS)
        assert raised.match("has no attribute")
        with pytest.raises(AttributeError, match=message):
            raise raised.value.__cause__


# Errors.


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"contamination": 0.0}, ValueError, "contamination == 0.0"),
        ({"contamination": 0.6}, ValueError, "contamination == 0.6"),
        ({"contamination": "some"}, ValueError, "contamination='some' must be 'auto' or a number"),
        ({"contamination": np.nan}, ValueError, "contamination=nan must be finite"),
        ({"contamination": [0.1]}, TypeError, "contamination must be an instance of"),
        ({"false_alarm_rate": 0.0}, ValueError, "false_alarm_rate == 0.0"),
        ({"false_alarm_rate": 1.0}, ValueError, "false_alarm_rate == 1.0"),
        ({"cv": 1}, ValueError, "cv == 1"),
        ({"cv": "five"}, ValueError, "Expected .?cv.? as an integer"),
        ({"estimator": StandardScaler()}, TypeError, r"estimator=StandardScaler\(\) has no score_"),
    ],
    ids=str,
)
def test_bad_parameters_are_named(parameters, error, message):
    with pytest.raises(error, match=message):
        DensityOutlierDetector(**parameters).fit(IRIS)


@pytest.mark.parametrize(
    "density",
    [GaussianMixture(), make_pipeline(StandardScaler(), GaussianMixture())],
    ids=["alone", "in a pipeline"],
)
def test_a_density_that_takes_no_weights_is_named(density):
    with pytest.raises(ValueError, match=r"GaussianMixture\(\) takes none: leave it out"):
        DensityOutlierDetector(density).fit(IRIS, sample_weight=np.ones(len(IRIS)))


@pytest.mark.parametrize("X", [np.ones((2, 2)), [[1, 2], [3, 4]]], ids=["equal", "distinct"])
def test_two_rows_have_no_threshold(X):
    with pytest.raises(ValueError, match=r"n_samples=2 rows, of which . are distinct: too few"):
        DensityOutlierDetector().fit(X)


def test_a_fit_that_fails_leaves_the_detector_as_it_was():
    detector = DensityOutlierDetector().fit(IRIS)
    before = detector.offset_, detector.estimator_
    with pytest.raises(ValueError, match="NaN"):
        detector.fit(np.full((10, 2), np.nan))
    assert (detector.offset_, detector.estimator_) == before
    assert detector.n_features_in_ == 4


def test_a_detector_without_a_fit_says_so():
    for method in ("predict", "decision_function", "score_samples", "feature_scores"):
        with pytest.raises(NotFittedError):
            getattr(DensityOutlierDetector(), method)(IRIS)


def test_a_pickle_decides_as_before():
    detector = DensityOutlierDetector(EMGaussianMixture(2)).fit(IRIS)
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.decision_function(IRIS), detector.decision_function(IRIS))


VAE = VAEEstimator(hidden_layer_sizes=(4,), max_iter=2, n_score_samples=64, random_state=0)
EXACT = [
    EMGaussianMixture(2, random_state=0),
    VariationalEM(BayesianMixture(2), max_iter=3, random_state=0),
    VariationalEM(FactorModel(1), max_iter=3, random_state=0),
    GaussianMixture(2, random_state=0),
    KernelDensity(),
]
SAMPLED = [VAE, VariationalEM(FactorModel(1, "student_t", 64), max_iter=3, random_state=0)]


@pytest.mark.parametrize("density", [*EXACT, *SAMPLED], ids=str)
def test_every_density_tells_its_error_and_what_is_around_it_passes_it_on(density):
    X = load_iris().data
    around = [
        TransformedDensity("log", density),
        make_pipeline(StandardScaler(), density),
        make_pipeline(density),
        GridSearchCV(make_pipeline(StandardScaler(), density), {}, cv=2),
    ]
    if "return_std" in inspect.signature(density.score_samples).parameters:
        around.append(density)
    for estimator in around:
        detector = DensityOutlierDetector(estimator, contamination=0.1).fit(X)
        log_density, error = detector.score_samples(X[:20], return_std=True)
        np.testing.assert_array_equal(log_density, detector.score_samples(X[:20]))
        assert log_density.shape == error.shape == (20,)
        assert (error == 0).all() == (density in EXACT)
        if not isinstance(estimator, GridSearchCV) and not hasattr(estimator, "steps"):
            again = detector.estimator_.score_samples(X[:20], return_std=True)
            np.testing.assert_array_equal(again, [log_density, error])


def test_smaller_mixtures_are_exact():
    mixture = EMGaussianMixture(2, random_state=0).fit(load_iris().data)
    for smaller in (mixture.marginal([0, 1]), mixture.condition([0, 1], [5.0, 3.0])):
        log_density, error = smaller.score_samples([[5.0, 3.0], [1.0, 1e30]], return_std=True)
        np.testing.assert_array_equal(error, 0)
        assert log_density.dtype == error.dtype
