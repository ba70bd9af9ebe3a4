"""``EMGaussianMixture`` as its users meet it: parameters, errors, starts, state, progress."""

import os
import pickle
import re
import signal
import threading
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import EMGaussianMixture, VersionMismatchWarning
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.rows import Frame, Rows
from skemvae.engine.samples.summary import Summary
from skemvae.engine.starts.initialisation import Initialiser
from skemvae.engine.starts.races import Judge
from skemvae.engine.starts.regularisation import Regularisation
from skemvae.structures.dense import Full
from skemvae.structures.registry import STRUCTURES
from tests.passes import em_on
from tests.recording import Recorder
from tests.strategies import MATRICES
from tests.versions import needs_callbacks

IRIS = load_iris().data


def fit(X=IRIS, *, sample_weight=None, **parameters):
    parameters = {"n_components": 3, "random_state": 0, **parameters}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return EMGaussianMixture(**parameters).fit(X, sample_weight=sample_weight)


# Bad input is named.


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components == 0"),
        ({"n_components": 1.5}, TypeError, "n_components must be an instance of int"),
        ({"covariance_type": "ful"}, ValueError, "covariance_type='ful' is not one of"),
        ({"init_params": "kmean"}, ValueError, "init_params='kmean' is not one of"),
        ({"tol": -1.0}, ValueError, "tol == -1.0"),
        ({"reg_covar": -1e-3}, ValueError, "reg_covar == -0.001"),
        ({"max_iter": -1}, ValueError, "max_iter == -1"),
        ({"n_init": 0}, ValueError, "n_init == 0"),
        (
            {"weights_init": [0.5, 0.5]},
            ValueError,
            r"weights_init has shape \(2,\), expected \(3,\)",
        ),
        ({"weights_init": [1.0, 1.0, 1.0]}, ValueError, "weights_init must be .* sum to 1"),
        ({"means_init": np.zeros((3, 2))}, ValueError, r"means_init has shape \(3, 2\)"),
        (
            {"precisions_init": np.zeros((3, 4, 4))},
            ValueError,
            "precisions_init .* positive definite",
        ),
        ({"precisions_init": np.arange(48.0).reshape(3, 4, 4)}, ValueError, "must be symmetric"),
        ({"init_params": np.ones((150, 2))}, ValueError, r"init_params has shape \(150, 2\)"),
        ({"init_params": np.ones((150, 3))}, ValueError, "rows sum to 1"),
        ({"tol": np.nan}, ValueError, "tol=nan must be finite"),
        ({"reg_covar": np.inf}, ValueError, "reg_covar=inf must be finite"),
        ({"init_params": None}, ValueError, "init_params=None is not one of"),
        ({"init_params": lambda X, k, rng: None}, ValueError, "init_params=None, expected an arr"),
        (
            {"means_init": np.full((3, 4), 1e305)},
            ValueError,
            r"means_init holds 1e\+305",
        ),
        ({"n_components": 151}, ValueError, "n_components = 151, n_samples = 150"),
    ],
)
def test_bad_parameters_are_named(parameters, error, message):
    with pytest.raises(error, match=message):
        fit(**parameters)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"shape \(3,\), but X has 150 rows"),
        (np.zeros(150), "zero everywhere"),
        (np.full(150, np.nan), "sample_weight contains NaN"),
        (np.r_[-1.0, np.ones(149)], r"sample_weight\[0\]=-1.0 is negative"),
        (np.r_[np.ones(2), np.zeros(148)], "n_samples = 2"),
    ],
)
def test_bad_weights_are_named(weight, message):
    with pytest.raises(ValueError, match=message):
        fit(sample_weight=weight)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_missing_and_infinite_values_are_refused_by_name(value, message):
    X = IRIS.copy()
    X[0, 0] = value
    with pytest.raises(ValueError, match=message):
        fit(X)


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_units_whose_squares_leave_float64_are_refused(unit):
    with pytest.raises(ValueError, match="change its unit"):
        fit(IRIS * [1, unit, 1, 1])


def test_the_ends_of_float64_are_refused_or_right():
    for largest in (1.79e308, 1e160):
        with pytest.raises(ValueError, match=r"Feature 0 .* change its unit"):
            fit([[largest, 1.0], [-largest, 2.0], [0.0, 3.0]], n_components=1)
    for tiny in (5e-324, 1e-310, 1e-140, 0.0):
        X = np.column_stack([IRIS, np.full(150, tiny)])
        assert np.isfinite(fit(X).score(X))
    assert np.isfinite(fit(sample_weight=np.full(150, 1.79e308)).lower_bound_)


def test_text_columns_are_refused():
    with pytest.raises(ValueError, match="could not convert"):
        fit(pd.DataFrame({"a": ["x", "y", "z"], "b": [1.0, 2, 3]}))


# Starts.


@pytest.mark.parametrize("method", ["auto", "kmeans", "k-means++", "random", "random_from_data"])
@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
def test_starts_are_proper_mixtures(method, structure):
    start = fit(init_params=method, covariance_type=structure, max_iter=0, n_components=5)
    assert start.n_iter_ == 0
    np.testing.assert_allclose(start.weights_.sum(), 1)
    eigenvalues = np.linalg.eigvalsh(start._mixture().covariance.dense())
    assert eigenvalues.min() > 1e-5  # the floor lies between 2e-7 and 3e-6
    weight = np.arange(150) % 3
    weighted = fit(init_params=method, covariance_type=structure, sample_weight=weight, max_iter=0)
    repeated = fit(
        np.repeat(IRIS, weight, axis=0), init_params=method, covariance_type=structure, max_iter=0
    )
    np.testing.assert_allclose(weighted.means_, repeated.means_, rtol=1e-8)


def test_responsibilities_as_a_start():
    responsibilities = np.eye(3)[load_iris().target]
    start = fit(init_params=responsibilities, max_iter=0, reg_covar=0)
    for k in range(3):
        rows = IRIS[50 * k : 50 * k + 50]
        np.testing.assert_allclose(start.means_[k], rows.mean(0))
        np.testing.assert_allclose(start.covariances_[k], np.cov(rows.T, ddof=0), rtol=1e-9)
    by_function = fit(init_params=lambda X, k, rng: responsibilities, max_iter=0, reg_covar=0)
    np.testing.assert_array_equal(start.means_, by_function.means_)
    np.testing.assert_array_equal(responsibilities, np.eye(3)[load_iris().target])


@pytest.mark.parametrize("kind", [np.asarray, list, pd.Series, lambda y: y.astype(np.uint8)])
def test_labels_as_a_start_are_hard_responsibilities(kind):
    y = load_iris().target
    by_labels, by_rows = fit(init_params=kind(y)), fit(init_params=np.eye(3)[y])
    np.testing.assert_array_equal(by_labels.means_, by_rows.means_)
    by_function = fit(init_params=lambda X, k, rng: kind(y), n_init=1)
    np.testing.assert_array_equal(by_function.means_, by_rows.means_)
    assert clone(by_labels).fit(IRIS).lower_bound_ == by_rows.lower_bound_


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(150) % 4, "init_params holds labels from 0 to 3: expected 0 to 2, one for each"),
        (np.arange(150) % 3 - 1, "init_params holds labels from -1 to 1: expected 0 to 2"),
        (np.arange(9) % 3, "init_params holds 9 labels, but X has 150 rows"),
        (np.arange(150) % 3 / 2, "init_params has one dimension, as labels do, but holds float64"),
        (["a", "b", "c"] * 50, "number the labels from 0 to 2"),
        (np.arange(150) % 2, "init_params gives component 2 no row"),
    ],
    ids=str,
)
def test_labels_that_are_no_components_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        fit(init_params=labels)


@pytest.mark.filterwarnings("ignore::skemvae.DoubtfulFitWarning")
@pytest.mark.parametrize("structure", MATRICES)
def test_without_regularisation_the_bound_is_the_score_but_for_constant_columns(structure):
    """Within a component, too: there the noise of rounding is all the variance that there is."""
    y = load_iris().target
    options = {"covariance_type": structure, "reg_covar": 0, "init_params": y}
    free = fit(**options)
    assert free.score(IRIS) == pytest.approx(free.lower_bound_, abs=1e-9)
    if structure in ("full", "diag"):
        year = np.c_[IRIS, 2019 + y, np.zeros(150)]
        constant = fit(year, **options)
        assert constant.score(year) - constant.lower_bound_ == pytest.approx(1.0, abs=1e-3)


def test_responsibilities_of_few_rows_start_from_no_singular_covariance():
    responsibilities = np.zeros((150, 3))
    responsibilities[0, 0] = responsibilities[1:75, 1] = responsibilities[75:, 2] = 1
    start = fit(init_params=responsibilities, max_iter=0)
    assert np.linalg.eigvalsh(start.covariances_).min() > 1e-3
    with pytest.raises(ValueError, match="gives component 2 no row"):
        fit(init_params=np.repeat([[0.5, 0.5, 0.0]], 150, axis=0))


def test_a_small_cluster_in_a_long_table_is_sound():
    """Few of its rows are in the sketch, but each of them stands for many."""
    X = np.random.default_rng(0).standard_normal((60_000, 8))
    X[:120] += 30
    summary = Summary.of(Rows.of(X))
    rows = Rows(X, None, Frame(np.zeros(8), np.ones(8)))
    initialiser = Initialiser.of(Full, 2, rows, summary, Regularisation(1e-6, Full, 2))
    states = []
    for mean in (30.0, 0.1):
        mixture = GaussianMixture(
            np.array([0.998, 0.002]),
            np.array([np.zeros(8), np.full(8, mean)]),
            STRUCTURES["full"].identity(2, 8),
            np.full(8, 1e-6),
        )
        states.append(em_on(rows).start(mixture))
    assert initialiser.sketch.n_rows < 5000
    assert initialiser.judge.prefers(*states)


def test_means_as_a_start_bring_weights_and_covariances_with_them():
    means = np.array([IRIS[:50].mean(0), IRIS[50:100].mean(0), IRIS[100:].mean(0)])
    start = fit(means_init=means, max_iter=0)
    np.testing.assert_allclose(start.means_, means)
    assert abs(start.weights_[0] - 1 / 3) < 0.01
    assert start.covariances_[0, 2, 2] < 0.1  # setosa's petals, not those of all rows


def test_equal_means_as_a_start_leave_no_component_dead():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 2)) + 6 * (np.arange(300) % 3)[:, None]
    mixture = fit(X, means_init=[[0, 0], [0, 0], [6, 6]], tol=1e-6, max_iter=1000)
    assert mixture.weights_.min() > 0.05


@pytest.mark.filterwarnings("ignore::skemvae.DoubtfulFitWarning")
def test_more_components_than_distinct_rows():
    X = np.repeat([[0.0, 1.0], [5.0, 2.0]], 10, axis=0)
    mixture = fit(X, n_components=4)
    np.testing.assert_allclose(mixture.weights_.sum(), 1)
    assert np.isfinite(mixture.score_samples(X)).all()


def test_n_init_keeps_the_best_sound_fit():
    single = [fit(init_params="random_from_data", random_state=s).lower_bound_ for s in range(4)]
    best = fit(init_params="random_from_data", n_init=8)
    assert best.lower_bound_ >= np.median(single)
    np.testing.assert_allclose(best.lower_bound_, best.lower_bounds_[-1])


def test_spikes_on_few_rows_lose_to_sound_fits():
    """Iris has a likelihood spike on two equal rows, at -172.5 in total."""
    best = fit(n_init=10, tol=1e-6, max_iter=1000)
    np.testing.assert_allclose(best.score(IRIS) * 150, -180.185, atol=0.5)


# History, convergence, warm starts.


def test_no_convergence_warns_in_scikit_learns_words():
    with pytest.warns(ConvergenceWarning, match="Best performing initialization did not converge"):
        mixture = EMGaussianMixture(3, tol=0, max_iter=2, random_state=0).fit(IRIS)
    assert not mixture.converged_
    assert mixture.status_ == "max_iter"


def test_convergence_is_told():
    mixture = fit(tol=1e-6, max_iter=1000)
    assert mixture.converged_
    assert mixture.status_ == "converged"


def test_a_warm_start_continues_the_history():
    whole = fit(tol=0, max_iter=9, init_params="kmeans", acceleration=None)
    parts = EMGaussianMixture(
        3,
        tol=0,
        max_iter=3,
        init_params="kmeans",
        acceleration=None,
        warm_start=True,
        random_state=0,
    )
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            parts.fit(IRIS)
        assert parts.n_iter_ == 3
    np.testing.assert_allclose(parts.lower_bounds_, whole.lower_bounds_, rtol=1e-9)
    np.testing.assert_allclose(parts.means_, whole.means_, rtol=1e-6)


def test_a_warm_start_on_other_data_begins_a_new_history():
    mixture = fit(warm_start=True, tol=1e-6, max_iter=1000)
    mixture.fit(IRIS + 0.5)
    assert len(mixture.lower_bounds_) == mixture.n_iter_ + 1
    with pytest.raises(ValueError, match="does not go with covariances_ of shape"):
        clone(mixture).fit(IRIS).set_params(covariance_type="diag").fit(IRIS)
    with pytest.raises(ValueError, match=r"warm_start=True goes on from means_ of shape \(3, 4\)"):
        mixture.set_params(n_components=2).fit(IRIS)


@pytest.mark.parametrize(("before", "after"), [("tied", "diag"), ("diag", "tied")])
def test_a_square_of_numbers_is_read_as_what_it_was_fitted_as(before, after):
    mixture = fit(n_components=4, covariance_type=before)  # as many components as features
    assert mixture.covariances_.shape == (4, 4)
    mixture.set_params(covariance_type=after)
    for method in (mixture.score, mixture.partial_fit):
        with pytest.raises(ValueError, match=f"covariance_type='{after}' does not go with"):
            method(IRIS)
    mixture.set_params(covariance_type=before).score(IRIS)


def test_same_seed_same_result():
    np.testing.assert_array_equal(fit().means_, fit().means_)
    state = np.random.get_state()[1].copy()
    fit()
    np.testing.assert_array_equal(state, np.random.get_state()[1])


# Other estimators from this one.


def test_from_parameters_scores_samples_and_refuses_nonsense():
    mixture = fit()
    same = EMGaussianMixture.from_parameters(mixture.weights_, mixture.means_, mixture.covariances_)
    np.testing.assert_allclose(same.score_samples(IRIS), mixture.score_samples(IRIS))
    assert same.n_parameters_ == mixture.n_parameters_ == 2 + 12 + 30
    for weights, means, covariances, message in [
        ([0.5], [[0.0]], [[[1.0]]], "sum to 1"),
        ([1.0], [0.0], [[[1.0]]], "means has shape"),
        ([1.0], [[0.0]], [[1.0]], r"covariances has shape \(1, 1\), expected \(1, 1, 1\)"),
        ([1.0], [[0.0]], [[[-1.0]]], "positive definite"),
        ([1.0], [[np.nan]], [[[1.0]]], "means contains NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            EMGaussianMixture.from_parameters(weights, means, covariances)


def test_marginals_and_conditionals_take_names_positions_masks_and_slices():
    frame = pd.DataFrame(IRIS, columns=["a", "b", "c", "d"])
    mixture = fit(frame)
    expected = mixture.marginal([1, 3])
    np.testing.assert_array_equal(expected.feature_names_in_, ["b", "d"])
    for columns in (["b", "d"], [1, -1], [False, True, False, True], slice(1, None, 2)):
        np.testing.assert_array_equal(mixture.marginal(columns).means_, expected.means_)
    np.testing.assert_allclose(
        mixture.condition("b", 3.0).means_, mixture.condition([1], [3.0]).means_
    )
    assert list(mixture.condition("b", 3.0).feature_names_in_) == ["a", "c", "d"]
    for columns, message in [
        (["z"], "not among the feature names"),
        ([4], "not positions of 4 features"),
        ([0.5], "not positions of 4 features"),
        ([0, 0], "names a feature twice"),
        ([], "selects no feature"),
        ([[0, 1]], r"columns has shape \(1, 2\)"),
        ([1e20], "not positions of 4 features"),
        ([np.nan], "not positions of 4 features"),
        ([1j], "not positions of 4 features"),
        ([True], "mask of shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            mixture.marginal(columns)
    with pytest.raises(ValueError, match="leave at least one free"):
        mixture.condition([0, 1, 2, 3], IRIS[0])
    with pytest.raises(ValueError, match=r"values has shape \(1,\)"):
        mixture.condition([0, 1], [3.0])


def test_conditioning_on_the_impossible_is_still_a_mixture():
    conditional = fit().condition([0], [1e150])
    np.testing.assert_allclose(conditional.weights_.sum(), 1)


def test_smaller_mixtures_can_be_fitted_again():
    mixture = fit(means_init=IRIS[[0, 60, 120]], init_params=np.full((150, 3), 1 / 3))
    smaller = mixture.marginal([0, 2])
    assert np.isfinite(smaller.fit(IRIS[:, [0, 2]]).lower_bound_)


def test_inverse_transform_is_the_expected_row():
    mixture = fit()
    np.testing.assert_allclose(mixture.inverse_transform(np.eye(3)), mixture.means_)
    with pytest.raises(ValueError, match="NaN"):
        mixture.inverse_transform([[np.nan, 0.5, 0.5]])
    with pytest.raises(ValueError, match=r"shape \(n_samples, 3\)"):
        mixture.inverse_transform(IRIS)


def test_samples_differ_by_seed_and_come_in_random_order():
    mixture = fit()
    first, labels = mixture.sample(200)
    np.testing.assert_array_equal(first, mixture.sample(200)[0])  # the estimator's own seed
    assert not np.array_equal(first, mixture.sample(200, random_state=1)[0])
    assert (np.diff(labels) < 0).any()
    with pytest.raises(ValueError, match="n_samples == 0"):
        mixture.sample(0)


# In scikit-learn.


def test_in_a_pipeline_a_search_and_cross_validation():
    pipeline = make_pipeline(StandardScaler(), EMGaussianMixture(random_state=0, reg_covar=1e-3))
    search = GridSearchCV(
        pipeline, {"emgaussianmixture__n_components": [1, 2, 3]}, error_score="raise"
    )
    search.fit(IRIS)
    assert search.best_params_["emgaussianmixture__n_components"] > 1
    assert search.score_samples(IRIS).shape == (150,)
    assert np.isfinite(cross_val_score(pipeline, IRIS)).all()
    names = pipeline.fit(IRIS).get_feature_names_out()
    assert list(names) == ["emgaussianmixture0"]


@pytest.mark.parametrize("dump", ["pickle", "joblib"])
def test_pickles_round_trip_exactly(dump, tmp_path):
    mixture = fit()
    if dump == "pickle":
        same = pickle.loads(pickle.dumps(mixture))
    else:
        joblib.dump(mixture, tmp_path / "mixture")
        same = joblib.load(tmp_path / "mixture")
    np.testing.assert_array_equal(same.score_samples(IRIS), mixture.score_samples(IRIS))
    assert vars(same).keys() == vars(mixture).keys()


def test_pickles_of_another_version_warn():
    state = fit().__getstate__() | {"_skemvae_version": "0.0.1"}
    with pytest.warns(VersionMismatchWarning, match=r"written by version '0\.0\.1"):
        EMGaussianMixture().__setstate__(state)


def test_fits_in_threads_and_processes_agree():
    def work(seed):
        return fit(random_state=seed).lower_bound_

    expected = [work(seed) for seed in range(4)]
    for backend in ("threading", "loky"):
        assert joblib.Parallel(2, backend=backend)(map(joblib.delayed(work), range(4))) == expected


# Progress, callbacks, Ctrl-C.


def test_verbose_tells_what_happens(capsys):
    fit(verbose=1, verbose_interval=2, max_iter=5, tol=0)
    out = capsys.readouterr().out
    assert "Initialization 0" in out
    assert re.findall(r"Iteration (\d)", out) == ["2", "4"]
    fit(verbose=2, verbose_interval=1, max_iter=5, tol=0)
    assert re.search(r"bound -1\.\d+\s+gain", capsys.readouterr().out)
    fit()
    assert capsys.readouterr().out == ""


@needs_callbacks
def test_callbacks_see_one_task_for_each_iteration():
    recorder = Recorder("iteration")
    mixture = EMGaussianMixture(
        3, tol=0, max_iter=4, reg_covar=0, init_params="kmeans", random_state=0
    )
    with pytest.warns(ConvergenceWarning):
        mixture.set_callbacks(recorder).fit(IRIS)
    assert recorder.begun == ["fit", "initialization", *4 * ["iteration"]]
    assert recorder.ended == [*4 * ["iteration"], "initialization", "fit"]
    np.testing.assert_allclose(recorder.scores, mixture.lower_bounds_[1:], rtol=1e-9)


@needs_callbacks
def test_a_callback_can_stop_a_fit():
    mixture = EMGaussianMixture(3, tol=0, max_iter=9, random_state=0)
    mixture.set_callbacks(Recorder("iteration", stop_after=2)).fit(IRIS)
    assert (mixture.status_, mixture.n_iter_) == ("stopped_by_callback", 2)
    assert not mixture.converged_


@needs_callbacks
def test_ctrl_c_keeps_the_best_parameters_so_far():
    mixture = EMGaussianMixture(3, tol=0, max_iter=9, n_init=3, random_state=0)
    with pytest.warns(ConvergenceWarning, match="Interrupted after 3 iterations"):
        mixture.set_callbacks(Recorder("iteration", interrupt_after=3)).fit(IRIS)
    assert (mixture.status_, mixture.n_iter_) == ("interrupted", 3)
    assert mixture.score(IRIS) > -1.3


@needs_callbacks
def test_scikit_learns_progress_bar_and_search(capsys):
    from sklearn.callback import ProgressBar

    search = GridSearchCV(EMGaussianMixture(random_state=0), {"n_components": [1, 2]}, cv=2)
    search.set_callbacks(ProgressBar()).fit(IRIS)
    assert "EMGaussianMixture" in capsys.readouterr().out


def test_a_signal_in_the_middle_of_a_long_fit_leaves_a_usable_estimator():
    X = np.random.default_rng(0).standard_normal((30_000, 5))
    mixture = EMGaussianMixture(8, tol=0, max_iter=10**6, random_state=0, init_params="kmeans")
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.warns(ConvergenceWarning, match="Interrupted"):
        mixture.fit(X)
    assert mixture.status_ == "interrupted"
    assert np.diff(mixture.lower_bounds_).min(initial=0) >= -1e-12
    np.testing.assert_allclose(mixture.lower_bound_, mixture.score(X), atol=1e-4)


def test_a_signal_during_the_search_for_a_start(monkeypatch):
    races = []
    race = Judge.race

    def interrupted_race(self, *arguments):
        races.append(arguments)
        if len(races) == 2:
            raise KeyboardInterrupt
        return race(self, *arguments)

    monkeypatch.setattr(Judge, "race", interrupted_race)
    with pytest.warns(ConvergenceWarning, match="Interrupted after 0 iterations"):
        mixture = EMGaussianMixture(3, random_state=0).fit(IRIS)
    assert mixture.score(IRIS) > -2


def test_ctrl_c_between_starts_keeps_the_finished_ones():
    calls = []

    def start(X, n_components, random_state):
        calls.append(len(X))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return random_state.dirichlet(np.ones(n_components), len(X))

    mixture = EMGaussianMixture(3, n_init=5, init_params=start, random_state=0, max_iter=500)
    with pytest.warns(ConvergenceWarning, match="Interrupted"):
        mixture.fit(IRIS)
    assert mixture.status_ == "interrupted"
    assert mixture.score(IRIS) > -3


def test_warnings_point_at_the_users_line():
    with pytest.warns(ConvergenceWarning) as record:
        EMGaussianMixture(3, tol=0, max_iter=1).fit(IRIS)
    assert record[0].filename == __file__


def test_clone_keeps_arrays_and_callables():
    def start(X, n_components, random_state):
        return np.full((len(X), n_components), 1 / n_components)

    assert clone(EMGaussianMixture(init_params=start)).init_params is start
    array = np.eye(3)[load_iris().target]
    np.testing.assert_array_equal(clone(EMGaussianMixture(init_params=array)).init_params, array)
