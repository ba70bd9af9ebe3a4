"""``VariationalEM`` as its users meet it: models, errors, state, progress, company."""

import doctest
import importlib
import inspect
import os
import pickle
import re
import signal
import threading

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM, VersionMismatchWarning
from skemvae.models import BayesianMixture, FactorModel
from tests.own_models import GaussianPair, LinearGaussian
from tests.recording import Recorder
from tests.versions import needs_callbacks

# Fits of a few iterations suffice here.
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
pytestmark = quiet

IRIS = load_iris().data[::3]
MODELS = [
    BayesianMixture(3),
    BayesianMixture(2, "diag", "dirichlet_distribution"),
    FactorModel(1),
    FactorModel(1, "student_t", n_score_samples=32),
    GaussianPair(2),
    LinearGaussian(1),
    LinearGaussian(2, "diagonal"),
]
SOME = [BayesianMixture(3), FactorModel(1), GaussianPair(2), LinearGaussian(1)]
all_models = pytest.mark.parametrize("model", MODELS, ids=str)
some_models = pytest.mark.parametrize("model", SOME, ids=str)


def quick(model=None, **parameters):
    return VariationalEM(model, **{"max_iter": 4, "random_state": 0, **parameters})


def steps_of(model):
    """The class whose ``step`` is one iteration of a model's fit, by its dotted name."""
    if isinstance(model, BayesianMixture):
        return "skemvae.models.bayesian_mixture.BayesianMixtureFit"
    if isinstance(model, FactorModel):
        return "skemvae.variational.factor_fit.FactorFit"
    return "skemvae.variational.own_fit.OwnFit"


# Which model.


def test_none_is_the_bayesian_mixture():
    by_none, by_name = quick().fit(IRIS), quick("bayesian_mixture").fit(IRIS)
    by_object = quick(BayesianMixture()).fit(IRIS)
    assert by_none.model is None
    assert type(by_none.model_) is BayesianMixture
    assert by_none.lower_bound_ == by_name.lower_bound_ == by_object.lower_bound_


def test_names_stand_for_models_with_default_parameters():
    em = quick("factor_model").fit(IRIS)
    assert em.model == "factor_model"
    assert em.model_.get_params() == FactorModel().get_params()


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("mixture", ValueError, r"model='mixture' is not one of \['bayesian_mixture', 'factor_m"),
        (3, TypeError, "model=3 must be None, one of"),
        (BayesianMixture, TypeError, "must be None, one of .* or an object of skemvae.models"),
        (EMGaussianMixture(), TypeError, r"model=EMGaussianMixture\(\) must be None"),
        ({"n_components": 2}, TypeError, "must be None"),
    ],
    ids=str,
)
def test_what_is_no_model_is_named(model, error, message):
    em = quick(model)
    with pytest.raises(error, match=message):
        em.fit(IRIS)
    assert not hasattr(em, "predict")
    repr(em)


@all_models
def test_a_fit_leaves_its_parameters_alone(model):
    em = quick(model)
    before, models_state = em.get_params(), dict(vars(model))
    em.fit(IRIS)
    assert em.model is model
    assert em.model_ is not model
    assert type(em.model_) is type(model)
    assert vars(model) == models_state
    assert em.get_params() == before
    assert em.model_.get_params() == model.get_params()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"tol": -1.0}, ValueError, "tol == -1.0"),
        ({"tol": np.nan}, ValueError, "tol=nan must be finite"),
        ({"tol": "small"}, TypeError, "tol must be an instance of"),
        ({"max_iter": -1}, ValueError, "max_iter == -1"),
        ({"max_iter": 1.5}, TypeError, "max_iter must be an instance of"),
        ({"n_init": 0}, ValueError, "n_init == 0"),
        ({"verbose": -1}, ValueError, "verbose == -1"),
        ({"verbose_interval": 0}, ValueError, "verbose_interval == 0"),
        ({"model": BayesianMixture(0)}, ValueError, "n_components == 0"),
        ({"model": BayesianMixture(True)}, TypeError, "n_components=True must be an int"),
        ({"model": BayesianMixture(2, "ful")}, ValueError, "covariance_type='ful' is not one of"),
        ({"model": FactorModel(0)}, ValueError, "n_factors == 0"),
        ({"model": FactorModel(1, "normal")}, ValueError, "likelihood='normal' is not one of"),
        ({"model": FactorModel(n_score_samples=0)}, ValueError, "n_score_samples == 0"),
    ],
    ids=str,
)
def test_bad_parameters_are_named(parameters, error, message):
    with pytest.raises(error, match=message):
        quick(**parameters).fit(IRIS)


@some_models
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"shape \(3,\), but X has 50 rows"),
        (np.ones((50, 2)), r"shape \(50, 2\), but X has 50 rows"),
        (np.zeros(50), "zero everywhere"),
        (np.full(50, np.nan), "sample_weight contains NaN"),
        (np.r_[-1.0, np.ones(49)], r"sample_weight\[0\]=-1.0 is negative"),
        (np.r_[1.0, np.zeros(49)], "1 row of positive weight"),
    ],
)
def test_bad_weights_are_named(model, weight, message):
    with pytest.raises(ValueError, match=message):
        quick(model).fit(IRIS, sample_weight=weight)


@some_models
def test_bad_tables_are_named(model):
    for value, message in ((np.nan, "NaN"), (np.inf, "infinity")):
        X = IRIS.copy()
        X[0, 0] = value
        with pytest.raises(ValueError, match=message):
            quick(model).fit(X)
    with pytest.raises(ValueError, match="minimum of 2"):
        quick(model).fit(IRIS[:1])
    with pytest.raises(ValueError, match="could not convert"):
        quick(model).fit(pd.DataFrame({"a": ["x", "y", "z"], "b": [1.0, 2, 3]}))


@some_models
def test_what_needs_a_fit_says_so(model):
    em = quick(model)
    for method in ("score_samples", "elbo", "transform", "inverse_transform", "score", "bic"):
        with pytest.raises(NotFittedError):
            getattr(em, method)(IRIS)
    with pytest.raises(NotFittedError):
        em.sample()


# Zero weights.


@all_models
def test_rows_of_no_weight_are_as_good_as_absent(model):
    weight = np.arange(len(IRIS)) % 3.0
    one = quick(model).fit(IRIS, sample_weight=weight)
    other = quick(model).fit(IRIS[weight > 0], sample_weight=weight[weight > 0])
    assert one.lower_bound_ == pytest.approx(other.lower_bound_, rel=1e-12)
    broken = IRIS.copy()
    broken[weight == 0] = 1e3
    with_outliers = quick(model).fit(broken, sample_weight=weight)
    assert with_outliers.lower_bound_ == pytest.approx(one.lower_bound_, rel=1e-9)


# History and convergence.


@some_models
def test_the_history_holds_the_bound_of_every_iteration(model):
    whole = quick(model, tol=0, max_iter=3).fit(IRIS)
    assert (whole.n_iter_, whole.status_, whole.converged_) == (3, "max_iter", False)
    assert whole.lower_bounds_.shape == (4,)
    assert np.diff(whole.lower_bounds_).min() >= 0
    assert whole.lower_bound_ == whole.lower_bounds_[-1]
    for i in range(4):
        part = quick(model, tol=0, max_iter=i).fit(IRIS)
        assert part.n_iter_ == i
        assert part.lower_bound_ == whole.lower_bounds_[i]


@some_models
@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_no_iteration_returns_the_start_in_silence(model):
    em = quick(model, max_iter=0).fit(IRIS)
    assert em.lower_bounds_.shape == (1,)
    assert (em.n_iter_, em.status_, em.converged_) == (0, "max_iter", False)
    assert np.isfinite(em.score(IRIS))


@some_models
def test_no_convergence_warns_at_the_users_line(model):
    with pytest.warns(ConvergenceWarning, match="did not converge. Increase max_iter") as record:
        quick(model, tol=0, max_iter=1).fit(IRIS)
    assert record[0].filename == __file__


@some_models
@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_convergence_is_told(model):
    em = quick(model, tol=0.1, max_iter=100).fit(IRIS)
    assert (em.status_, em.converged_) == ("converged", True)
    assert 0 < em.n_iter_ < 100


def test_a_smaller_tolerance_comes_no_less_far():
    bounds = [quick(tol=tol, max_iter=200).fit(IRIS).lower_bound_ for tol in (1, 1e-3, 1e-6)]
    assert np.diff(bounds).min() > -1e-5  # the two last ones may both have arrived


@pytest.mark.parametrize("model", [BayesianMixture(4), GaussianPair(4), FactorModel(2)], ids=str)
def test_n_init_keeps_the_best(model):
    bounds = [quick(model, n_init=n).fit(IRIS).lower_bounds_ for n in (1, 3, 5)]
    assert bounds[0][-1] <= bounds[1][-1] <= bounds[2][-1]


def test_the_bound_of_a_bayesian_mixture_pays_for_its_parameters():
    em = quick(BayesianMixture(3), max_iter=50).fit(IRIS)
    assert em.lower_bound_ < em.elbo(IRIS).mean() < em.score(IRIS)


@pytest.mark.parametrize("model", MODELS[2:], ids=str)
def test_elsewhere_the_bound_is_the_mean_of_the_rows(model):
    em = quick(model, max_iter=20).fit(IRIS)
    elbo, error = em.elbo(IRIS, return_std=True)
    assert elbo.shape == error.shape == (50,)
    assert em.lower_bound_ == pytest.approx(elbo.mean(), abs=4 * error.max() + 1e-4)


# Going on.


@all_models
def test_a_warm_start_continues_the_history(model):
    em = quick(model, warm_start=True, tol=0, max_iter=2)
    first = em.fit(IRIS).lower_bounds_
    for i in range(1, 3):
        em.fit(IRIS)
        assert em.n_iter_ == 2
        assert em.lower_bounds_.shape == (2 * i + 3,)
    np.testing.assert_array_equal(em.lower_bounds_[:2], first[:2])
    assert np.diff(em.lower_bounds_).min() >= -1e-6
    assert em.lower_bounds_[-1] >= first[-1] - 1e-6


@some_models
def test_a_warm_start_on_other_rows_begins_a_new_history(model):
    em = quick(model, warm_start=True).fit(IRIS)
    em.fit(1.5 * IRIS + 0.5)
    assert len(em.lower_bounds_) == em.n_iter_ + 1


@some_models
def test_without_a_warm_start_a_fit_forgets(model):
    em = quick(model).fit(IRIS[:20])
    assert em.fit(IRIS).lower_bound_ == quick(model).fit(IRIS).lower_bound_


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (BayesianMixture(2), {"model__n_components": 3}),
        (BayesianMixture(2), {"model__covariance_type": "diag"}),
        (FactorModel(1), {"model__n_factors": 2}),
        (FactorModel(1), {"model__likelihood": "student_t"}),
        (BayesianMixture(2), {"model": FactorModel(2)}),
        (FactorModel(2), {"model": BayesianMixture(2)}),
        (FactorModel(2), {"model": None}),
    ],
    ids=str,
)
def test_another_design_cannot_go_on(model, change):
    em = quick(clone(model), warm_start=True).fit(IRIS)
    score = em.score(IRIS)
    with pytest.raises(ValueError, match="warm_start=False"):
        em.set_params(**change).fit(IRIS)
    assert em.score(IRIS) == score


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (BayesianMixture(2), {"model__mean_prior": [0, 0]}),
        (FactorModel(1), {"model__likelihood": [("gaussian", [0, 1])]}),
    ],
    ids=str,
)
def test_a_fit_that_refuses_leaves_the_estimator_as_it_was(model, change):
    em = quick(clone(model)).fit(IRIS)
    score = em.score(IRIS)
    with pytest.raises(ValueError, match=r"mean_prior|likelihood"):
        em.set_params(**change).fit(np.c_[IRIS, IRIS])
    assert em.score(IRIS) == score


# Seeds.


@all_models
def test_the_same_seed_gives_the_same_result_to_the_last_bit(model):
    one, two = quick(model).fit(IRIS), quick(model).fit(IRIS)
    np.testing.assert_array_equal(one.lower_bounds_, two.lower_bounds_)
    for method in ("score_samples", "elbo", "transform"):
        np.testing.assert_array_equal(getattr(one, method)(IRIS), getattr(two, method)(IRIS))
        np.testing.assert_array_equal(getattr(one, method)(IRIS), getattr(one, method)(IRIS))
    for first, second in zip(one.sample(9), two.sample(9), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(one.sample(9)[0], one.sample(9, random_state=1)[0])


@some_models
def test_global_random_states_are_left_alone(model):
    import torch

    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    em = quick(model, n_init=2).fit(IRIS)
    em.score_samples(IRIS)
    em.sample(3)
    assert torch.equal(torch_state, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])


# Progress, callbacks, Ctrl-C.


@some_models
def test_verbose_tells_what_happens(model, capsys):
    quick(model, verbose=1, verbose_interval=2, max_iter=5, tol=0, n_init=2).fit(IRIS)
    out = capsys.readouterr().out
    assert re.findall(r"Initialization (\d)", out) == ["0", "1"]
    assert re.findall(r"Iteration (\d)", out) == ["2", "4", "2", "4"]
    quick(model, verbose=2, verbose_interval=1, tol=0).fit(IRIS)
    assert re.search(r"bound -\d+\.\d+\s+gain", capsys.readouterr().out)
    quick(model).fit(IRIS)
    assert capsys.readouterr().out == ""


@needs_callbacks
@some_models
def test_callbacks_see_one_task_for_each_iteration(model):
    recorder = Recorder("iteration")
    em = quick(model, tol=0, max_iter=2, n_init=2).set_callbacks(recorder).fit(IRIS)
    assert recorder.begun == ["fit", *2 * ["initialization", "iteration", "iteration"]]
    assert recorder.ended == [*2 * ["iteration", "iteration", "initialization"], "fit"]
    assert em.score(IRIS) in (recorder.scores[1], recorder.scores[3])


@needs_callbacks
@some_models
@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_a_callback_can_stop_a_fit(model):
    em = quick(model, tol=0, max_iter=9).set_callbacks(Recorder("iteration", stop_after=2))
    em.fit(IRIS)
    assert (em.status_, em.n_iter_, em.converged_) == ("stopped_by_callback", 2, False)
    assert len(em.lower_bounds_) == 3


@needs_callbacks
@some_models
def test_ctrl_c_in_a_callback_keeps_the_best_parameters(model):
    em = quick(model, tol=0, max_iter=9, n_init=3)
    with pytest.warns(ConvergenceWarning, match="Interrupted after 3 iterations"):
        em.set_callbacks(Recorder("iteration", interrupt_after=3)).fit(IRIS)
    assert (em.status_, em.n_iter_, em.converged_) == ("interrupted", 3, False)
    assert em.lower_bound_ == quick(model, tol=0, max_iter=3).fit(IRIS).lower_bound_
    assert np.isfinite(em.score(IRIS))


def interrupt(monkeypatch, name, call):
    """Raise KeyboardInterrupt at some call of a method."""

    def ctrl_c():
        raise KeyboardInterrupt

    at_call(monkeypatch, name, call, ctrl_c)


def at_call(monkeypatch, name, call, act):
    """Do something before some call of a method."""
    module, cls, method = name.rsplit(".", 2)
    owner = getattr(importlib.import_module(module), cls)
    original, calls = getattr(owner, method), []

    def watched(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == call:
            act()
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, method, watched)


@some_models
def test_ctrl_c_in_an_iteration_keeps_the_last_one(model, monkeypatch):
    plain = {"tol": 0, "acceleration": None}
    expected = quick(model, max_iter=2, **plain).fit(IRIS)
    interrupt(monkeypatch, f"{steps_of(model)}.step", 3)
    with pytest.warns(ConvergenceWarning, match="Interrupted after 2 iterations"):
        em = quick(model, **plain).fit(IRIS)
    assert (em.status_, em.n_iter_) == ("interrupted", 2)
    np.testing.assert_array_equal(em.lower_bounds_, expected.lower_bounds_)
    np.testing.assert_array_equal(em.score_samples(IRIS), expected.score_samples(IRIS))


@some_models
def test_ctrl_c_in_a_later_start_keeps_the_finished_one(model, monkeypatch):
    interrupt(monkeypatch, f"{steps_of(model)}.start", 2)
    with pytest.warns(ConvergenceWarning, match="Interrupted after 4 iterations"):
        em = quick(model, tol=0, n_init=3).fit(IRIS)
    assert (em.status_, em.n_iter_) == ("interrupted", 4)


@some_models
def test_ctrl_c_before_there_is_anything_is_raised(model, monkeypatch):
    interrupt(monkeypatch, f"{steps_of(model)}.start", 1)
    em = quick(model)
    with pytest.raises(KeyboardInterrupt):
        em.fit(IRIS)
    assert not hasattr(em, "model_")


@pytest.mark.parametrize(
    ("model", "steps"),
    [
        (FactorModel(2, "student_t"), "skemvae.variational.factor_ascent.FactorAscent"),
        (LinearGaussian(2), steps_of(LinearGaussian())),
    ],
    ids=str,
)
def test_a_signal_in_the_middle_of_a_long_fit_leaves_a_usable_estimator(model, steps, monkeypatch):
    X = np.random.default_rng(0).standard_normal((2000, 5))
    em = VariationalEM(model, tol=0, max_iter=10**6, random_state=0)
    em.set_params(warm_start=True, max_iter=0).fit(X).set_params(max_iter=10**6)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    at_call(monkeypatch, f"{steps}.step", 1, timer.start)
    with pytest.warns(ConvergenceWarning, match="Interrupted"):
        em.fit(X)
    assert em.status_ == "interrupted"
    assert np.diff(em.lower_bounds_).min(initial=0) >= -1e-6
    assert np.isfinite(em.score_samples(X[:20])).all()


# What a fitted estimator answers.


@all_models
def test_shapes_and_criteria(model):
    em = quick(model).fit(IRIS)
    Z = em.transform(IRIS)
    names = em.get_feature_names_out()
    assert Z.shape == (50, len(names))
    assert list(names) == [f"variationalem{i}" for i in range(Z.shape[1])]
    assert em.inverse_transform(Z).shape == IRIS.shape
    log_density, error = em.score_samples(IRIS, return_std=True)
    assert log_density.shape == error.shape == (50,)
    assert em.score(IRIS) == pytest.approx(log_density.mean())
    total = log_density.sum()
    assert em.aic(IRIS) == pytest.approx(-2 * total + 2 * em.n_parameters_)
    assert em.bic(IRIS) == pytest.approx(-2 * total + np.log(50) * em.n_parameters_)
    weight = np.arange(50) % 3
    assert em.bic(IRIS, weight) == pytest.approx(em.bic(np.repeat(IRIS, weight, axis=0)))
    X, Z = em.sample(7)
    assert X.shape == (7, 4)
    assert len(Z) == 7
    for n in (0, 1.5):
        with pytest.raises((ValueError, TypeError), match="n_samples"):
            em.sample(n)
    assert hasattr(em, "predict") == hasattr(em, "predict_proba") == model.has_discrete_latent


@some_models
def test_latent_points_of_the_wrong_width_are_refused(model):
    em = quick(model).fit(IRIS)
    width = em.transform(IRIS).shape[1]
    with pytest.raises(ValueError, match=f"Z has {width + 1} columns, but transform returns"):
        em.inverse_transform(np.zeros((3, width + 1)))
    with pytest.raises(ValueError, match="Z contains NaN"):
        em.inverse_transform(np.full((3, width), np.nan))
    with pytest.raises(ValueError, match="2 features, but VariationalEM is expecting 4"):
        em.score_samples(IRIS[:, :2])


@some_models
def test_columns_have_names(model):
    frame = pd.DataFrame(IRIS, columns=list("abcd"))
    em = quick(model).fit(frame)
    assert list(em.feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(
        em.score_samples(frame), quick(model).fit(IRIS).score_samples(IRIS)
    )
    with pytest.raises(ValueError, match="feature names should match"):
        em.score_samples(frame.rename(columns={"a": "z"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        em.score_samples(IRIS)


@all_models
def test_set_output_leaves_densities_and_components_as_arrays(model):
    em = quick(model).set_output(transform="pandas").fit(IRIS)
    frame = em.transform(IRIS)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == list(em.get_feature_names_out())
    assert isinstance(em.score_samples(IRIS), np.ndarray)
    if model.has_discrete_latent:
        assert isinstance(em.predict_proba(IRIS), np.ndarray)
        assert isinstance(em.predict(IRIS), np.ndarray)


@some_models
def test_read_only_tables_on_disk_are_enough(model, tmp_path):
    joblib.dump(IRIS, tmp_path / "iris")
    X = joblib.load(tmp_path / "iris", mmap_mode="r")
    em = quick(model).fit(X, sample_weight=np.ones(50))
    expected = quick(model).fit(IRIS, sample_weight=np.ones(50))
    np.testing.assert_array_equal(em.score_samples(X), expected.score_samples(IRIS))
    np.testing.assert_array_equal(em.transform(X), expected.transform(IRIS))
    Z = expected.transform(IRIS)
    Z.flags.writeable = False
    em.inverse_transform(Z)


@some_models
def test_the_layout_of_a_table_does_not_matter(model):
    expected = quick(model).fit(IRIS)
    for X in (np.asfortranarray(IRIS), IRIS.tolist(), np.repeat(IRIS, 2, axis=1)[:, ::2]):
        np.testing.assert_allclose(
            quick(model).fit(X).score_samples(X), expected.score_samples(IRIS), rtol=1e-9
        )


@all_models
def test_pickles_round_trip_exactly(model, tmp_path):
    em = quick(model).fit(IRIS)
    joblib.dump(em, tmp_path / "em")
    for again in (pickle.loads(pickle.dumps(em)), joblib.load(tmp_path / "em")):
        assert vars(again).keys() == vars(em).keys()
        np.testing.assert_array_equal(again.score_samples(IRIS), em.score_samples(IRIS))
        assert again.set_params(warm_start=True).fit(IRIS).lower_bound_ >= em.lower_bound_ - 1e-9


def test_pickles_of_another_version_warn():
    state = quick().fit(IRIS).__getstate__() | {"_skemvae_version": "0.0.1"}
    with pytest.warns(VersionMismatchWarning, match=r"written by version '0\.0\.1"):
        VariationalEM().__setstate__(state)


@some_models
def test_clones_and_pictures(model):
    em = quick(model).fit(IRIS)
    copy = clone(em)
    assert not hasattr(copy, "model_")
    assert copy.model is not em.model
    assert copy.fit(IRIS).lower_bound_ == em.lower_bound_
    assert type(model).__name__ in repr(em)
    assert type(model).__name__ in em._repr_html_()


# In company.


@some_models
def test_in_a_pipeline(model):
    pipeline = make_pipeline(StandardScaler(), quick(model)).fit(IRIS)
    assert pipeline.score_samples(IRIS).shape == (50,)
    assert pipeline.transform(IRIS).shape == (50, len(pipeline.get_feature_names_out()))
    assert np.isfinite(cross_val_score(pipeline, IRIS, cv=2)).all()


def test_a_search_over_the_parameters_of_a_model():
    model = BayesianMixture(1)
    pipeline = make_pipeline(StandardScaler(), quick(model))
    grid = {
        "variationalem__model__n_components": [1, 3],
        "variationalem__model__covariance_type": ["full", "diag"],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(
        np.random.RandomState(0).permutation(IRIS)
    )
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert model.n_components == 1
    with pytest.raises(ValueError, match="Invalid parameter 'n_component' for estimator Bayes"):
        quick(model).set_params(model__n_component=3)


def test_a_search_over_models():
    models = [None, "factor_model", BayesianMixture(2), GaussianPair(2), LinearGaussian(1)]
    X = np.random.RandomState(0).permutation(IRIS)
    search = GridSearchCV(quick(), {"model": models}, cv=2, error_score="raise").fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert np.ptp(scores) < 5  # all of them estimate log p(x)
    assert search.best_params_["model"] in models


@pytest.mark.parametrize("model", [BayesianMixture(2), GaussianPair(2)], ids=str)
def test_fits_in_processes_and_threads_agree(model):
    one = cross_val_score(quick(model), IRIS, cv=2)
    with joblib.parallel_backend("threading"):
        np.testing.assert_array_equal(cross_val_score(quick(model), IRIS, cv=2, n_jobs=2), one)
    if isinstance(model, BayesianMixture):  # a process that imports torch takes a while
        np.testing.assert_array_equal(cross_val_score(quick(model), IRIS, cv=2, n_jobs=2), one)


@pytest.mark.parametrize(
    "name", ["bayesian_mixture", "factor_model", "latent_variable_model", "variational_em"]
)
def test_examples_in_docstrings_are_right(name):
    package = "skemvae" if name == "variational_em" else "skemvae.models"
    results = doctest.testmod(importlib.import_module(f"{package}.{name}"))
    assert results.attempted > 0
    assert results.failed == 0


def test_estimators_share_their_vocabulary():
    own = set(inspect.signature(VariationalEM).parameters)
    mixture = set(inspect.signature(EMGaussianMixture).parameters)
    assert own - {"model"} <= mixture
    for method in ("score_samples", "elbo", "transform", "inverse_transform", "sample"):
        assert hasattr(VAEEstimator, method)
        assert hasattr(VariationalEM, method)
