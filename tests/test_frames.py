"""What ``set_output`` asks for: frames of ``transform``, ``sample`` and ``feature_scores``."""

import sys
from datetime import date

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler

from skemvae import (
    DensityOutlierDetector,
    EMGaussianMixture,
    TransformedDensity,
    VAEEstimator,
    VariationalEM,
)
from skemvae.displays import FeatureScoreDisplay
from skemvae.models import FactorModel
from skemvae.transformed.truncation import draw

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Posterior collapse"),
]

IRIS = load_iris().data[::10]
NAMES = ["a", "b", "c", "d"]
INDEX = [f"flower {i}" for i in range(len(IRIS))]
LIKELIHOOD = [("lognormal", ["amount"]), ("poisson", ["n"]), ("categorical", ["plan"])]
MIXED = pd.DataFrame(
    {"plan": ["basic", "plus", "pro"] * 10, "amount": np.arange(1.0, 31.0), "n": [0, 1, 5] * 10}
)
VAE = VAEEstimator(hidden_layer_sizes=(4,), max_iter=2, n_score_samples=16, random_state=0)
KINDS = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
ESTIMATORS = {
    "em": EMGaussianMixture(2, random_state=0),
    "bayes": VariationalEM(max_iter=3, random_state=0),
    "factor": VariationalEM(FactorModel(1, n_score_samples=16), max_iter=3, random_state=0),
    "vae": VAE,
    "power": TransformedDensity(PowerTransformer(), EMGaussianMixture(2, random_state=0)),
    "log": TransformedDensity("log", VAE),
}
all_kinds = pytest.mark.parametrize("kind", KINDS)
all_estimators = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)


def check_frame(frame, kind, array, columns):
    assert isinstance(frame, KINDS[kind])
    assert list(frame.columns) == list(columns)
    np.testing.assert_array_equal(np.asarray(frame), array)


@all_estimators
@all_kinds
def test_frames_hold_what_arrays_hold(estimator, kind):
    X = pd.DataFrame(IRIS, columns=NAMES, index=INDEX)
    density = clone(estimator).fit(X)
    scores, Z = density.feature_scores(X), density.transform(X)
    drawn, latent = density.sample(7, random_state=1)
    assert type(scores) is type(Z) is type(drawn) is type(latent) is np.ndarray
    density.set_output(transform=kind)
    frame, same = density.sample(7, random_state=1)
    check_frame(frame, kind, drawn, NAMES)
    np.testing.assert_array_equal(same, latent)
    assert type(same) is np.ndarray
    check_frame(density.feature_scores(X), kind, scores, NAMES)
    check_frame(density.transform(X), kind, Z, density.get_feature_names_out())
    if kind == "pandas":
        assert list(density.feature_scores(X).index) == INDEX
        assert list(density.sample(7)[0].index) == list(range(7))
    density.set_output(transform="default")
    assert type(density.sample()[0]) is np.ndarray


@all_estimators
@all_kinds
def test_columns_without_names_are_counted_and_the_global_setting_is_heard(estimator, kind):
    names = ["x0", "x1", "x2", "x3"]
    with config_context(transform_output=kind):
        density = clone(estimator).fit(IRIS)
        frame = density.sample(3, random_state=1)[0]
        assert list(density.feature_scores(IRIS).columns) == names
    drawn = density.sample(3, random_state=1)[0]
    assert type(drawn) is np.ndarray
    check_frame(frame, kind, drawn, names)


@all_kinds
@pytest.mark.parametrize(
    "estimator",
    [
        VAEEstimator(likelihood=LIKELIHOOD, hidden_layer_sizes=(4,), max_iter=2, random_state=0),
        VariationalEM(FactorModel(1, [*LIKELIHOOD[1:], ("gaussian", ["amount"])], 16), max_iter=2),
    ],
    ids=["vae", "factor"],
)
def test_each_column_of_a_mixed_table_has_a_type_of_its_own(estimator, kind):
    density = clone(estimator).fit(MIXED)
    drawn = density.sample(20, random_state=0)[0]
    assert drawn.dtype == object
    frame = density.set_output(transform=kind).sample(20, random_state=0)[0]
    assert list(frame.columns) == list(MIXED.columns)
    for j, name in enumerate(MIXED.columns):
        column = np.asarray(frame[name])
        np.testing.assert_array_equal(column, drawn[:, j])
        assert (column.dtype == np.float64) == (name != "plan")
    assert np.isfinite(density.score_samples(frame)).all()  # and the fit takes them back


@all_kinds
def test_smaller_mixtures_keep_the_setting_of_whole_ones(kind):
    mixture = EMGaussianMixture().fit(pd.DataFrame(IRIS, columns=NAMES))
    mixture.set_output(transform=kind)
    for smaller in (mixture.marginal(["d", "b"]), mixture.condition(["a", "c"], IRIS[0, [0, 2]])):
        assert isinstance(smaller.sample(2)[0], KINDS[kind])
        assert list(smaller.sample(2)[0].columns) == list(smaller.feature_names_in_)
        assert smaller.feature_scores(smaller.sample(2)[0]).shape == (2, 2)


@all_kinds
def test_what_is_behind_a_transformer_is_set_by_itself(kind):
    for density in (EMGaussianMixture(random_state=0), ESTIMATORS["power"]):
        plain = TransformedDensity("sqrt", clone(density)).fit(IRIS)  # half of space: rejects
        inner = clone(density).set_output(transform=kind)
        framed = TransformedDensity("sqrt", inner).fit(IRIS)
        assert framed.log_mass_ == plain.log_mass_
        for method in ("transform", "feature_scores"):
            answer = getattr(framed, method)(IRIS)
            assert type(answer) is np.ndarray
            np.testing.assert_array_equal(answer, getattr(plain, method)(IRIS))
        np.testing.assert_array_equal(
            framed.sample(5, random_state=0)[0], plain.sample(5, random_state=0)[0]
        )


@all_kinds
def test_a_density_that_does_not_transform_hears_the_global_setting_alone(kind):
    density = TransformedDensity("log", KernelDensity()).fit(IRIS)
    assert not hasattr(density, "set_output")
    assert type(density.sample()[0]) is np.ndarray
    with config_context(transform_output=kind):
        assert isinstance(density.sample()[0], KINDS[kind])


@all_kinds
def test_a_detector_returns_what_its_density_is_set_to(kind):
    X = pd.DataFrame(IRIS, columns=NAMES, index=INDEX)
    density = EMGaussianMixture().set_output(transform=kind)
    for estimator in (density, make_pipeline(StandardScaler(), density)):
        framed = DensityOutlierDetector(clone(estimator), contamination=0.1).fit(X)
        assert not hasattr(framed, "set_output")
        with config_context(transform_output="default"):
            scores = framed.feature_scores(X)
        check_frame(scores, kind, np.asarray(scores), NAMES)
        if kind == "pandas":
            assert list(scores.index) == INDEX
    plain = DensityOutlierDetector(EMGaussianMixture(), contamination=0.1).fit(X)
    assert type(plain.feature_scores(X)) is np.ndarray
    with config_context(transform_output=kind):
        assert isinstance(plain.feature_scores(X), KINDS[kind])


@all_kinds
def test_a_display_draws_the_scores_of_frames(kind):
    pytest.importorskip("matplotlib")
    density = EMGaussianMixture().set_output(transform=kind)
    detector = DensityOutlierDetector(density, contamination=0.1).fit(IRIS)
    display = FeatureScoreDisplay.from_estimator(detector, IRIS, rows=[3, 4])
    np.testing.assert_array_equal(display.scores, np.asarray(detector.feature_scores(IRIS))[3:5])


@all_kinds
def test_scores_measured_by_draws_are_the_same_in_frames(kind):
    mixture = EMGaussianMixture.from_parameters([1.0], [[0.0, 5.0]], [np.eye(2)])
    scores = mixture.feature_scores(IRIS[:, :2])
    frame = mixture.set_output(transform=kind).feature_scores(IRIS[:, :2])
    check_frame(frame, kind, scores, ["x0", "x1"])


@all_kinds
@pytest.mark.parametrize(
    ("labels", "in_polars"),
    [
        (["a", 1, 2.5], pl.Object),
        ([True, 2], pl.Object),
        ([date(2020, 1, 1), "z"], pl.Object),
        ([(1, 2), "z"], pl.Object),
        ([1, 2.5], pl.Float64),
        ([2.5, 1], pl.Float64),
        ([1, 2], pl.Int64),
        ([True, False], pl.Boolean),
    ],
    ids=str,
)
def test_labels_of_several_types_share_a_column(labels, in_polars, kind):
    X = pd.DataFrame({"label": pd.Series(labels * 10, dtype=object), "text": "a"})
    density = clone(VAE).set_params(likelihood="categorical").fit(X)
    drawn, _ = density.sample(50, random_state=0)
    frame, _ = density.set_output(transform=kind).sample(50, random_state=0)
    column = frame["label"].to_list()
    assert column == drawn[:, 0].tolist()
    assert set(column) == set(labels)
    assert kind == "pandas" or frame["label"].dtype == in_polars
    np.testing.assert_array_equal(
        density.score_samples(frame),
        density.score_samples(pd.DataFrame(drawn, columns=["label", "text"])),
    )


def test_what_asks_for_frames_is_named_where_there_are_none(monkeypatch):
    density = EMGaussianMixture().fit(IRIS).set_output(transform="polars")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r'set_output\(transform="polars"\) needs polars: pip'):
        density.sample()
    density.set_output(transform="pandas")._sklearn_output_config["transform"] = "arrow"
    with pytest.raises(ValueError, match=r"'arrow' is not one of \['pandas', 'polars'\]"):
        density.sample()


def test_draws_behind_a_transformer_do_not_pass_through_frames():
    labels = np.array([["a"], [1], [2.5]] * 10, dtype=object)  # no column of polars
    density = clone(VAE).set_params(likelihood="categorical").set_output(transform="polars")
    drawn, _ = draw(density.fit(labels), 50, np.random.RandomState(0))
    assert set(drawn[:, 0]) == {"a", 1, 2.5}
