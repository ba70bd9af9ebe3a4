"""Laws of ``BoundMonitor``: it sees what the fit sees, wherever the fit is, and can end it."""

import pickle
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import (
    BoundMonitor,
    EMGaussianMixture,
    TransformedDensity,
    VAEEstimator,
    VariationalEM,
)
from skemvae.bound_monitor import _Journal
from skemvae.callbacks import ended_step
from skemvae.models import FactorModel
from tests.recording import Recorder
from tests.versions import needs_callbacks

pytestmark = [
    needs_callbacks,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

X = load_iris().data[::2]
X_VAL = load_iris().data[1::2]

QUICK_VAE = {"hidden_layer_sizes": (4,), "n_score_samples": 16, "random_state": 0}
ESTIMATORS = {
    "EM": lambda **p: EMGaussianMixture(3, **{"tol": 0, "max_iter": 4, "random_state": 0, **p}),
    "Bayesian mixture": lambda **p: VariationalEM(
        **{"tol": 0, "max_iter": 4, "random_state": 0, **p}
    ),
    "factor model": lambda **p: VariationalEM(
        FactorModel(), **{"tol": 0, "max_iter": 4, "random_state": 0, **p}
    ),
    "VAE": lambda **p: VAEEstimator(**QUICK_VAE, **{"max_iter": 4, **p}),
    "VAE without validation": lambda **p: VAEEstimator(
        **QUICK_VAE, early_stopping=False, **{"max_iter": 4, **p}
    ),
}
each_estimator = pytest.mark.parametrize("make", ESTIMATORS.values(), ids=list(ESTIMATORS))


def assert_bounds_are_those_of(fitted, bounds):
    if getattr(fitted, "early_stopping", None) is False:  # a VAE that watches its training rows
        assert max(bounds) == pytest.approx(fitted.lower_bound_, rel=1e-6)
        return
    history = getattr(fitted, "validation_lower_bounds_", fitted.lower_bounds_)
    np.testing.assert_allclose(bounds, history[1:], rtol=1e-12)


# What is logged.


@each_estimator
def test_the_bound_of_each_step_is_that_of_the_history(make):
    monitor = BoundMonitor()
    fitted = make().set_callbacks(monitor).fit(X)
    log = monitor.get_logs()
    frame = log.to_frame()
    assert_bounds_are_those_of(fitted, frame["bound"])
    assert log.estimator_name == type(fitted).__name__
    assert frame["task_id"].tolist() == list(range(fitted.n_iter_))
    assert frame["score"].isna().all()
    assert frame["seconds"].is_monotonic_increasing
    assert frame["parent_task_id_path"].nunique() == 1


@each_estimator
def test_the_score_is_that_of_a_fit_that_ends_there(make):
    monitor = BoundMonitor(X_VAL, every=2)
    make().set_callbacks(monitor).fit(X)
    scores = [step["score"] for step in monitor.get_logs().data]
    assert [score is None for score in scores] == [True, False, True, False]
    for n_iter in (2, 4):
        if "VAE" in str(type(make())):  # its schedule knows max_iter
            stop = BoundMonitor(stop=lambda steps, n=n_iter: len(steps) == n)
            fitted = make().set_callbacks(stop).fit(X)
        else:
            fitted = make(max_iter=n_iter).fit(X)
        assert scores[n_iter - 1] == pytest.approx(fitted.score(X_VAL), rel=1e-9)


@each_estimator
def test_watching_changes_nothing(make):
    alone, watched = make().fit(X), make().set_callbacks(BoundMonitor(X_VAL)).fit(X)
    np.testing.assert_array_equal(alone.lower_bounds_, watched.lower_bounds_)
    np.testing.assert_array_equal(alone.score_samples(X_VAL), watched.score_samples(X_VAL))


def test_what_a_step_came_to_does_not_outlive_it():
    class Keeper(Recorder):
        def on_fit_task_end(self, estimator, context):
            self.contexts = [*getattr(self, "contexts", []), context]
            step = ended_step(context)
            self.begun.append(step is not None)
            if step is not None:
                assert step.fitted().lower_bound_ == step.bound
                assert not hasattr(estimator, "lower_bound_")  # another one was made

    keeper = Keeper("iteration")
    ESTIMATORS["EM"]().set_callbacks(keeper).fit(X)
    assert keeper.begun.count(True) == 4  # asked in time
    assert not any(ended_step(context) for context in keeper.contexts)


def test_networks_are_copied_only_for_scores(monkeypatch):
    from skemvae.networks.fit import VAEFit

    made, attributes = [], VAEFit.attributes
    monkeypatch.setattr(VAEFit, "attributes", lambda *a: (made.append(1), attributes(*a))[1])
    ESTIMATORS["VAE"](max_iter=7).set_callbacks(BoundMonitor(X_VAL, every=3)).fit(X)
    assert len(made) == 2 + 1  # epochs 3 and 6, and the result


# Where.


def search_by(families, **parameters):
    pipeline = Pipeline([("scale", StandardScaler()), ("density", families[0])])
    return GridSearchCV(pipeline, {"density": families}, cv=2, **parameters).fit(X)


def test_one_monitor_watches_three_families_in_one_search():
    monitor = BoundMonitor()
    families = [
        ESTIMATORS[name]().set_callbacks(monitor) for name in ("EM", "Bayesian mixture", "VAE")
    ]
    refitted = search_by(families).best_estimator_["density"]
    log = monitor.get_logs()
    frame = log.to_frame()
    assert log.estimator_name == "GridSearchCV"
    assert frame["task_id_path"].is_unique
    fits = frame.groupby("parent_task_id_path")["estimator_name"].agg(["first", "count"])
    assert (fits["count"] == 4).all()
    expected = [type(family).__name__ for family in families for _ in range(2)]
    assert sorted(fits["first"]) == sorted([*expected, type(refitted).__name__])
    refit = frame[[path[1] == 1 for path in frame["task_id_path"]]]  # after the search itself
    assert_bounds_are_those_of(refitted, refit["bound"])


def test_processes_log_to_one_monitor():
    frames = []
    for n_jobs in (1, 2):
        monitor = BoundMonitor()
        families = [ESTIMATORS[name]() for name in ("EM", "Bayesian mixture")]
        search_by([family.set_callbacks(monitor) for family in families], n_jobs=n_jobs)
        frames.append(monitor.get_logs().to_frame().drop(columns="seconds"))
    assert len(frames[0]) == 4 * (2 * 2 + 1)
    assert frames[0].equals(frames[1])


def test_it_watches_within_a_transformed_density():
    monitor = BoundMonitor()
    mixture = ESTIMATORS["EM"]().set_callbacks(monitor)
    density = TransformedDensity(StandardScaler(), mixture).fit(X)
    log = monitor.get_logs()
    assert log.estimator_name == "TransformedDensity"
    assert_bounds_are_those_of(density.estimator_, log.to_frame()["bound"])


def test_calls_of_fit_are_told_apart():
    monitor = BoundMonitor()
    for k in (1, 2, 3):
        EMGaussianMixture(k, max_iter=k, tol=0, random_state=0).set_callbacks(monitor).fit(X)
    logs = monitor.get_logs("all")
    assert [len(log.data) for log in logs] == [1, 2, 3]
    assert len({log.run_id for log in logs}) == 3
    assert monitor.get_logs().run_id == logs[-1].run_id


def test_nothing_logged_is_an_error():
    monitor = BoundMonitor()
    with pytest.raises(ValueError, match="set_callbacks"):
        monitor.get_logs()
    LogisticRegression().set_callbacks(monitor).fit(*load_iris(return_X_y=True))
    with pytest.raises(ValueError, match="No bounds were logged"):
        monitor.get_logs()
    with pytest.raises(ValueError, match="select='first'"):
        monitor.get_logs("first")


def test_files_go_with_the_journal_and_copies_go_on():
    journal = _Journal()
    directory = journal._directory
    journal.write([1])
    copied = pickle.loads(pickle.dumps(journal))
    assert copied.read() == [[1]]
    copied.write([2])
    assert journal.read() == [[1], [2]]
    del journal
    assert not directory.exists()
    assert copied.read() == []
    copied.write([3])
    assert copied.read() == [[3]]


def test_loops_are_forgotten_after_the_fit():
    monitor = BoundMonitor()
    ESTIMATORS["EM"]().set_callbacks(monitor).fit(X)
    assert not monitor._loops


# When to stop.


@each_estimator
def test_stop_ends_the_fit(make):
    seen = []

    def stop(steps):
        seen.append([step["bound"] for step in steps])
        return len(steps) == 2

    fitted = make().set_callbacks(BoundMonitor(stop=stop)).fit(X)
    assert (fitted.status_, fitted.n_iter_) == ("stopped_by_callback", 2)
    assert_bounds_are_those_of(fitted, seen[-1])


def test_each_start_is_stopped_for_itself():
    monitor = BoundMonitor(stop=lambda steps: len(steps) == 2)
    mixture = ESTIMATORS["Bayesian mixture"](n_init=3).set_callbacks(monitor).fit(X)
    frame = monitor.get_logs().to_frame()
    assert frame["task_id"].tolist() == [0, 1] * 3
    assert mixture.lower_bound_ == pytest.approx(frame["bound"][frame["task_id"] == 1].max())


class Scripted(EMGaussianMixture):
    """Its held-out scores are what the test says they are."""

    scores: ClassVar[list] = []

    def score(self, X, y=None, sample_weight=None):
        return self.scores[len(self.lower_bounds_) - 2]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(1, 4))
def test_patience_ends_when_that_many_scores_do_not_exceed_the_best(scores, patience):
    Scripted.scores = scores
    monitor = BoundMonitor(X_VAL[:9], patience=patience)
    mixture = Scripted(tol=0, max_iter=len(scores), random_state=0).set_callbacks(monitor)
    mixture.fit(X[:9])
    n_iter, best, since = 0, -1, 0
    for score in scores:
        n_iter += 1
        best, since = (score, 0) if score > best else (best, since + 1)
        if since == patience:
            break
    assert mixture.n_iter_ == n_iter
    assert (mixture.status_ == "stopped_by_callback") == (since == patience)


def test_patience_ends_a_fit_that_does_worse_on_other_rows():
    table = load_breast_cancer().data[:, :6]
    monitor = BoundMonitor(table[::2], patience=3)
    mixture = EMGaussianMixture(8, tol=0, random_state=0).set_callbacks(monitor).fit(table[1::2])
    steps = monitor.get_logs().data
    assert mixture.status_ == "stopped_by_callback"
    assert steps[-1]["bound"] > steps[0]["bound"]
    assert steps[-1]["score"] < max(step["score"] for step in steps)
    assert steps[-1]["score"] == pytest.approx(mixture.score(table[::2]))


# What is refused.


@pytest.mark.parametrize(
    ("parameters", "error", "match"),
    [
        ({"every": 0}, ValueError, "every"),
        ({"X_val": X_VAL, "patience": 0}, ValueError, "patience"),
        ({"patience": 3}, ValueError, "patience=3 needs a held-out score: pass X_val"),
        ({"stop": 3}, TypeError, "stop=3 must be callable"),
    ],
)
def test_wrong_parameters_are_named(parameters, error, match):
    with pytest.raises(error, match=match):
        BoundMonitor(**parameters)


def test_an_older_scikit_learn_is_told_of_verbose(monkeypatch):
    monkeypatch.setattr("skemvae.bound_monitor.CALLBACKS_EXIST", False)
    with pytest.raises(ImportError, match="verbose=2"):
        BoundMonitor()


def test_held_out_rows_of_another_table_are_refused():
    with pytest.raises(ValueError, match="2 features"):
        ESTIMATORS["EM"]().set_callbacks(BoundMonitor(X_VAL[:, :2])).fit(X)


# Progress bars.


@each_estimator
def test_progress_bars_nest_in_searches_and_pipelines(make, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    class Nested(Recorder):
        max_propagation_depth = None

    recorder = Nested("step")
    pipeline = Pipeline([("scale", StandardScaler()), ("density", make(max_iter=2))])
    search = GridSearchCV(pipeline, {"density__max_iter": [1, 2]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None), recorder).fit(X)
    fitted = search.best_estimator_["density"]
    step = "epoch" if isinstance(fitted, VAEEstimator) else "iteration"
    assert recorder.ended.count(step) == 2 * (1 + 2) + fitted.n_iter_
    assert sorted(recorder.begun) == sorted(recorder.ended)
    shown = capsys.readouterr().out
    assert f"Pipeline - fit-final-estimator | {type(fitted).__name__} - fit" in shown
    assert "100%" in shown
