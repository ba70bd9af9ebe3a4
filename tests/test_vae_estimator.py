"""``VAEEstimator`` as its users meet it."""

import copy
import os
import pickle
import re
import signal
import threading

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_selector
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import DoubtfulFitWarning, VAEEstimator, VariationalEM
from skemvae.likelihoods import Gaussian, Poisson
from skemvae.models import FactorModel
from tests.recording import Recorder
from tests.versions import needs_callbacks

IRIS = load_iris().data
QUICK = {
    "hidden_layer_sizes": (8,),
    "max_iter": 4,
    "learning_rate": "cosine",  # runs its course: no warning
    "n_score_samples": 32,
    "random_state": 0,
}


def quick(**parameters):
    return VAEEstimator(**{**QUICK, **parameters})


def same(one, other):
    first, second = one.module_.state_dict(), other.module_.state_dict()
    return first.keys() == second.keys() and all(map(torch.equal, first.values(), second.values()))


# Fits.


def test_defaults_do_on_a_small_table():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 2)) @ rng.standard_normal((2, 10))
    X += 0.3 * rng.standard_normal(X.shape)
    vae = VAEEstimator(random_state=0).fit(X)
    assert vae.converged_
    assert vae.n_active_units_ == 2
    independent = VAEEstimator(max_iter=0, random_state=0).fit(X)
    assert vae.score(X) > independent.score(X) + 5


def test_anomalies_have_a_low_density():
    X, y = load_breast_cancer(return_X_y=True)
    benign = X[y == 1]
    vae = VAEEstimator(max_iter=30, learning_rate="cosine", random_state=0).fit(benign[::2])
    assert roc_auc_score(1 - y, -vae.score_samples(X)) > 0.9


def test_the_weights_of_the_best_epoch_are_kept():
    patient = {"n_iter_no_change": 30, "kl_warmup": 2, "tol": 0, "random_state": 0}
    with pytest.warns(ConvergenceWarning, match="max_iter=40 epochs were not enough"):
        vae = VAEEstimator(max_iter=40, **patient).fit(IRIS)
    assert len(vae.lower_bounds_) == len(vae.validation_lower_bounds_) == vae.n_iter_ + 1
    best = int(np.argmax(vae.validation_lower_bounds_))
    again = VAEEstimator(max_iter=best, **patient)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        again.fit(IRIS)
    assert same(vae, again)
    assert vae.lower_bound_ == again.lower_bound_


def test_the_bound_that_is_reported_is_that_of_the_rows():
    vae = quick(early_stopping=False, max_iter=30, n_importance_samples=50).fit(IRIS)
    assert vae.lower_bound_ == pytest.approx(vae.elbo(IRIS).mean(), abs=0.02)
    assert vae.lower_bounds_[-1] == pytest.approx(vae.lower_bound_, abs=0.3)
    assert vae.validation_lower_bounds_ is None


@pytest.mark.filterwarnings("ignore:Posterior collapse")
def test_a_warm_up_of_the_kl_term_keeps_z_alive():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 500)
    ring = np.c_[np.cos(angle), np.sin(angle)] + rng.normal(0, 0.1, (500, 2))
    vae = VAEEstimator(random_state=0).fit(ring)
    without = VAEEstimator(random_state=0, kl_warmup=0).fit(ring)
    assert vae.score(ring) > without.score(ring) + 0.5


def test_no_epoch_gives_the_independent_model_to_start_from():
    vae = quick(max_iter=0).fit(IRIS)
    assert (vae.n_iter_, vae.status_) == (0, "converged")
    assert vae.lower_bounds_.shape == (1,)


def test_what_is_learned_of_the_prior_counts_as_a_parameter():
    sizes = {
        prior: quick(prior=prior, n_prior_components=5).fit(IRIS).n_parameters_
        for prior in ("normal", "mixture", "vamp")
    }
    decoder = (2 * 8 + 8) + (8 * 4 + 4) + 2 * 4 + 4
    encoder = (4 * 8 + 8) + (8 * 4 + 4) + 4 * 2
    assert sizes["normal"] == decoder
    assert sizes["mixture"] == decoder + 5 * (1 + 2 + 2)
    assert sizes["vamp"] == decoder + 5 * (1 + 4) + encoder


@pytest.mark.parametrize("gradient", ["doubly_reparameterized", "score_function"])
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
@pytest.mark.parametrize("update", ["joint", "alternating"])
def test_every_way_to_climb_climbs(objective, gradient, update):
    vae = quick(
        objective=objective,
        gradient=gradient,
        update=update,
        n_importance_samples=8,
        max_iter=60,
        kl_warmup=3,
    ).fit(IRIS)
    assert vae.lower_bound_ > vae.lower_bounds_[0] + 0.25


def test_alternating_with_a_pseudo_input_prior_keeps_an_encoder_for_the_prior():
    vae = quick(prior="vamp", update="alternating").fit(IRIS)
    own, shared = vae.module_.prior.own_encoder, vae.module_.encoder
    assert not torch.equal(own.moments.weight, shared.moments.weight)
    assert quick(prior="vamp").fit(IRIS).module_.prior.own_encoder is None


# Seeds.


def test_the_same_seed_gives_the_same_result_to_the_last_bit():
    one, two = quick(prior="vamp").fit(IRIS), quick(prior="vamp").fit(IRIS)
    assert same(one, two)
    np.testing.assert_array_equal(one.lower_bounds_, two.lower_bounds_)
    np.testing.assert_array_equal(one.score_samples(IRIS), two.score_samples(IRIS))
    assert not same(one, quick(prior="vamp", random_state=1).fit(IRIS))


def test_the_number_of_threads_and_jobs_changes_nothing():
    before = torch.get_num_threads()
    results = []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            results.append(quick().fit(IRIS).score_samples(IRIS))
            assert torch.get_num_threads() == n_threads
            seen: list[int] = []
            report = seen.append
            other = threading.Thread(target=lambda report=report: report(torch.get_num_threads()))
            other.start()
            other.join()
            assert seen == [n_threads]  # and so in threads to come
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)
    with joblib.parallel_config("threading"):  # other processes: test_persistence.py
        one, two = (cross_val_score(quick(), IRIS, cv=2, n_jobs=n_jobs) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_global_random_states_are_left_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    vae = quick(prior="mixture", likelihood="student_t").fit(IRIS)
    vae.score_samples(IRIS)
    vae.sample(3)
    assert torch.equal(torch_state, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])


# Going on.


def test_a_warm_start_goes_on_from_the_last_weights():
    vae = quick(warm_start=True, max_iter=30).fit(IRIS)
    first, before = copy.deepcopy(vae.lower_bounds_), vae.score(IRIS)
    vae.fit(IRIS)
    assert vae.lower_bounds_.shape == (61,)
    np.testing.assert_array_equal(vae.lower_bounds_[:31], first)
    assert vae.score(IRIS) > before
    with pytest.raises(ValueError, match="warm_start=False"):
        vae.set_params(hidden_layer_sizes=(9,)).fit(IRIS)


def test_partial_fit_is_an_epoch():
    vae = VAEEstimator(hidden_layer_sizes=(8,), random_state=0)
    weights = []
    for i in range(30):
        assert vae.partial_fit(IRIS) is vae
        assert vae.n_iter_ == i + 1
        weights.append(vae.module_.encoder.moments.weight.detach().clone())
    assert not any(map(torch.equal, weights, weights[1:]))  # no epoch is thrown away
    assert vae.lower_bounds_.shape == (31,)
    assert vae.lower_bounds_[-1] > vae.lower_bounds_[0] + 0.5
    with pytest.raises(ValueError, match="4 features"):
        vae.partial_fit(IRIS[:, :2])


def test_epochs_one_by_one_do_as_well_as_epochs_in_a_row():
    """Not so if each call had the same noise."""
    X = StandardScaler().fit_transform(load_breast_cancer().data[::4])
    parameters = {"n_components": 4, "hidden_layer_sizes": (32,), "random_state": 0}
    one_by_one = VAEEstimator(**parameters)
    for _ in range(60):
        one_by_one.partial_fit(X)
    in_a_row = VAEEstimator(
        **parameters, max_iter=60, early_stopping=False, kl_warmup=0, n_iter_no_change=99
    )
    with pytest.warns(ConvergenceWarning):
        in_a_row.fit(X)
    assert one_by_one.score(X) > in_a_row.score(X) - 1


def test_alternating_epochs_alternate_from_call_to_call():
    vae = quick(update="alternating")
    moved = []
    before = None
    for _ in range(4):
        now = vae.partial_fit(IRIS).module_.state_dict()
        if before:
            moved.append({k.partition(".")[0] for k in now if not torch.equal(now[k], before[k])})
        before = now
    assert moved == [{"decoder"}, {"encoder"}, {"decoder"}]


def test_what_ends_an_epoch_ends_the_callers_loop(monkeypatch):
    vae = quick().partial_fit(IRIS)
    before = copy.deepcopy(vae.module_.state_dict())

    def interrupted(self, progress):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("skemvae.networks.training.Trainer.step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            vae.partial_fit(IRIS)
    assert all(map(torch.equal, before.values(), vae.module_.state_dict().values()))
    vae.set_params(learning_rate_init=1e30)
    with pytest.warns(ConvergenceWarning), pytest.raises(FloatingPointError):
        vae.partial_fit(IRIS)
    assert np.isfinite(vae.score(IRIS))


def test_histories_of_calls_stay_side_by_side():
    vae = quick(warm_start=True).fit(IRIS).partial_fit(IRIS).fit(IRIS)
    assert vae.lower_bounds_.shape == vae.validation_lower_bounds_.shape == (1 + 4 + 1 + 4,)
    assert list(np.flatnonzero(np.isnan(vae.validation_lower_bounds_))) == [5]


@pytest.mark.parametrize(
    "change",
    [
        {"likelihood": "student_t"},
        {"likelihood": Gaussian("row")},
        {"likelihood": [("gaussian", [0, 1]), ("poisson", [2, 3])]},
        {"standardize": False},
        {"prior": "mixture"},
        {"n_components": 3},
        {"activation": "elu"},
    ],
    ids=str,
)
def test_another_design_cannot_go_on(change):
    vae = quick(warm_start=True).fit(IRIS)
    score = vae.score(IRIS)
    for going_on in (vae.fit, vae.partial_fit):
        with pytest.raises(ValueError, match="warm_start=False"):
            vae.set_params(**change) and going_on(IRIS)
    assert vae.score(IRIS) == score


def test_a_fit_that_refuses_leaves_the_estimator_as_it_was():
    vae = quick().fit(IRIS)
    score = vae.score(IRIS)
    with pytest.raises(ValueError, match="no likelihood"):
        vae.set_params(likelihood=[("gaussian", [0, 1])]).fit(np.c_[IRIS, IRIS])
    assert vae.score(IRIS) == score


@pytest.mark.filterwarnings("ignore:Posterior collapse")
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.r_[1, np.zeros(149)], "minimum of 2"),
        (np.r_[1e60, np.ones(149)], "too small for float32"),
    ],
)
def test_weights_that_leave_no_table_are_refused(weight, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(IRIS, sample_weight=weight)
    quick().fit(IRIS, sample_weight=np.full(150, 1e308))
    quick(validation_fraction=0.999).fit(IRIS)


def test_rows_of_no_weight_are_as_good_as_absent():
    weight = np.arange(len(IRIS)) % 3
    one = quick().fit(IRIS, sample_weight=weight)
    other = quick().fit(IRIS[weight > 0], sample_weight=7 * weight[weight > 0])
    np.testing.assert_allclose(one.score_samples(IRIS), other.score_samples(IRIS), rtol=1e-3)
    heavy = quick(max_iter=60).fit(IRIS, sample_weight=np.where(np.arange(150) < 50, 1.0, 1e-6))
    assert heavy.score(IRIS[:50]) > heavy.score(IRIS[50:]) + 5


# Progress, callbacks, Ctrl-C.


def test_verbose_tells_what_happens(capsys):
    quick(verbose=1, max_iter=25).fit(IRIS)
    assert re.findall(r"Epoch (\d+)", capsys.readouterr().out) == ["10", "20"]
    quick(verbose=2, max_iter=20).fit(IRIS)
    assert re.search(r"Epoch 20\s+bound -\d\.\d+\s+gain", capsys.readouterr().out)
    quick().fit(IRIS)
    assert capsys.readouterr().out == ""


@needs_callbacks
def test_callbacks_see_one_task_for_each_epoch_and_the_best_model_so_far():
    recorder = Recorder("epoch")
    vae = quick(max_iter=30).set_callbacks(recorder).fit(IRIS)
    assert recorder.ended == [*30 * ["epoch"], "fit"]
    assert recorder.scores[-1] == vae.score(IRIS)
    assert recorder.scores[0] < recorder.scores[-1]


@needs_callbacks
def test_a_callback_can_stop_a_fit():
    vae = quick(max_iter=9).set_callbacks(Recorder("epoch", stop_after=2)).fit(IRIS)
    assert (vae.status_, vae.n_iter_, vae.converged_) == ("stopped_by_callback", 2, False)


@needs_callbacks
def test_ctrl_c_keeps_the_best_weights():
    vae = quick(max_iter=9).set_callbacks(Recorder("epoch", interrupt_after=3))
    with pytest.warns(ConvergenceWarning, match="Interrupted after 3 epochs"):
        vae.fit(IRIS)
    assert (vae.status_, vae.n_iter_) == ("interrupted", 3)
    assert np.isfinite(vae.score(IRIS))


def test_a_signal_in_the_middle_of_a_long_fit_leaves_a_usable_estimator():
    X = np.random.default_rng(0).standard_normal((1000, 5))
    vae = VAEEstimator(max_iter=10**6, n_iter_no_change=10**6, random_state=0)
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.warns(ConvergenceWarning, match="Interrupted"):
        vae.fit(X)
    assert vae.status_ == "interrupted"
    assert np.isfinite(vae.score(X))


# What goes wrong.


def test_a_collapsed_posterior_is_named():
    with pytest.warns(ConvergenceWarning, match="Posterior collapse: n_active_units_=0"):
        vae = quick().fit(np.ones((100, 3)))
    assert vae.n_active_units_ == 0
    assert quick().fit(IRIS).n_active_units_ > 0


def test_a_bound_that_stays_non_finite_is_an_error_and_the_best_weights_are_kept():
    vae = quick(learning_rate_init=1e30, max_iter=3)
    with (
        pytest.warns(ConvergenceWarning, match="half the learning rate"),
        pytest.raises(FloatingPointError, match="Lower learning_rate_init"),
    ):
        vae.fit(IRIS)
    assert vae.status_ == "diverged"
    assert np.isfinite(vae.score(IRIS))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"hidden_layer_sizes": (8, 0)}, "hidden_layer_sizes"),
        ({"hidden_layer_sizes": (2.5,)}, "hidden_layer_sizes"),
        ({"activation": "swish"}, "activation='swish' is not one of"),
        ({"likelihood": "normal"}, "likelihood='normal' is not one of"),
        ({"likelihood": [("gaussian", [0, 1])]}, "no likelihood"),
        ({"likelihood": [("gaussian", [0, 1, 2, 3]), ("gaussian", [3])]}, "two likelihoods"),
        ({"likelihood": ["gaussian"]}, "pair"),
        ({"likelihood": 3}, "likelihood"),
        ({"prior": "flow"}, "prior='flow'"),
        ({"gradient": "score_function"}, "n_importance_samples=1 must be at least 2"),
        ({"batch_size": 0}, "batch_size"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"learning_rate_init": -1.0}, "learning_rate_init"),
        ({"learning_rate_init": np.nan}, "learning_rate_init"),
        ({"tol": np.nan}, "tol"),
        ({"device": "abacus"}, "device"),
    ],
    ids=str,
)
def test_a_parameter_out_of_range_is_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        quick(**parameters).fit(IRIS)


@pytest.mark.parametrize(
    ("likelihood", "value", "message"),
    [
        ("bernoulli", 1.5, r"Column \d holds .*1\.5.* in row 3: .*\[0, 1\]"),
        ("bernoulli", -0.1, "Bernoulli"),
        ("poisson", -1.0, "counts are integers"),
        ("negative_binomial", 0.5, "counts are integers"),
        ("gaussian", np.nan, "NaN"),
        ("categorical", np.nan, "missing values"),
    ],
)
def test_a_value_outside_the_support_is_named(likelihood, value, message):
    X = np.random.default_rng(0).integers(0, 2, (50, 3)).astype(float)
    fitted = quick(likelihood=likelihood).fit(X)
    X[3, 1] = value
    for method in (quick(likelihood=likelihood).fit, fitted.score_samples, fitted.transform):
        with pytest.raises(ValueError, match=message):
            method(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("seen", "given", "message"),
    [
        (
            [8001, 8002, 8003],
            ["8001", "08002", "8003"],
            r"zip .* of type str, such as '8001', where",
        ),
        (["8001", "8002", "8003"], [8001, 8002, 8003], "fit has seen str, such as '8001'"),
        (["8001.0", "8002.0", "x"], [8001, 8002, 8002], "Convert the column to the type"),
        ([True, False, True], ["True", "False", "False"], "where fit has seen bool, such as True"),
        ([b"a", b"b", b"c"], ["a", "b", "c"], "where fit has seen bytes"),
    ],
    ids=str,
)
def test_labels_of_another_type_than_in_fit_are_named(seen, given, message):
    """They would all score as unseen, and nobody would know."""
    vae = quick(likelihood="categorical").fit(pd.DataFrame({"zip": seen * 20}))
    with pytest.warns(UserWarning, match=message):
        vae.score_samples(pd.DataFrame({"zip": given}))
    em = VariationalEM(FactorModel(1, "categorical"), max_iter=2)
    em.fit(pd.DataFrame({"zip": seen * 20}))
    with pytest.warns(UserWarning, match=message):
        em.score_samples(pd.DataFrame({"zip": given}))
    # What is really unseen, or rare, says nothing.
    vae.score_samples(pd.DataFrame({"zip": [*seen, *given[:1]]}))
    vae.score_samples(pd.DataFrame({"zip": ["other", "labels"]}))


def test_grey_values_train_and_encode_but_have_no_probability():
    grey = np.random.default_rng(0).uniform(size=(60, 5))
    with pytest.warns(DoubtfulFitWarning, match=r"5 columns, such as 0, .* scores 0 and 1 only"):
        vae = quick(likelihood="bernoulli").fit(grey)
    quick(likelihood="bernoulli").fit(grey.round())  # says nothing
    assert vae.transform(grey).shape == (60, 2)
    assert ((vae.inverse_transform([[0.0, 0.0]]) > 0) & (vae.inverse_transform([[0, 0]]) < 1)).all()
    with pytest.raises(ValueError, match="Threshold or draw"):
        vae.score_samples(grey)
    with pytest.raises(ValueError, match="n_score_samples == 0"):
        copy.deepcopy(vae).set_params(n_score_samples=0).score(np.round(grey))
    assert np.isfinite(vae.score(np.round(grey)))
    assert set(np.unique(vae.sample(50)[0])) == {0.0, 1.0}


@pytest.mark.filterwarnings("ignore:Posterior collapse")
def test_extreme_tables_have_an_answer_or_an_error():
    X = np.random.default_rng(0).standard_normal((200, 3))
    outlier = X.copy()
    outlier[7, 1] = 1e6
    tables = {
        "constant": np.c_[X, np.full(200, 3.0)],
        "all constant": np.zeros((200, 2)),
        "outlier": outlier,
        "twenty rows": X[:20],
        "two rows": X[:2],
        "one column": X[:, :1],
        "duplicate": np.c_[X, X],
        "offset": X + 1e8,
        "tiny": X * 1e-100,
        "huge": X * 1e100,
        "float32": X.astype(np.float32),
        "integers": np.round(X).astype(np.int16),
        "wide": X[:20].repeat(20, axis=1),
    }
    for name, table in tables.items():
        for likelihood in ("gaussian", "student_t"):
            vae = quick(likelihood=likelihood).fit(table)
            assert np.isfinite(vae.score_samples(table)).all(), (name, likelihood)
            assert np.isfinite(vae.elbo(table)).all(), (name, likelihood)
            assert np.isfinite(vae.sample(20)[0]).all(), (name, likelihood)
    with pytest.raises(ValueError, match="minimum of 2"):
        quick().fit(X[:1])
    with pytest.raises(ValueError, match="standardize=True"):
        quick(standardize=False).fit(X * 1e100)


def test_rows_far_from_all_training_rows_have_a_tiny_density_not_nan():
    vae = quick(max_iter=30).fit(IRIS)
    near = vae.score_samples(IRIS).min()
    for size in (1e3, 1e6, 1e30, 1e150):
        far = vae.score_samples(np.full((1, 4), size))
        assert not np.isnan(far).any()
        assert (far < near).all()
        assert np.isfinite(vae.transform(np.full((1, 4), size))).all()
    assert not np.isnan(vae.score_samples(np.full((1, 4), 1e30, dtype=np.float32))).any()


# In company.


def test_a_search_over_sizes_and_priors_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), quick(max_iter=20))
    grid = {"vaeestimator__n_components": [1, 2], "vaeestimator__prior": ["normal", "mixture"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(IRIS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.score_samples(IRIS).shape == (150,)
    names = search.best_estimator_[:-1].get_feature_names_out()
    assert len(names) == 4


def test_latent_columns_have_names():
    vae = quick().set_output(transform="pandas").fit(pd.DataFrame(IRIS, columns=list("abcd")))
    frame = vae.transform(pd.DataFrame(IRIS, columns=list("abcd")))
    assert list(frame.columns) == ["vaeestimator0", "vaeestimator1"]


@pytest.mark.filterwarnings("ignore:Posterior collapse")
def test_labels_keep_their_types_and_columns_their_names_in_errors():
    rows = [[1, "a"], [2, "b"], [1.0, "b"]] * 10
    vae = quick(likelihood="categorical").fit(rows)
    for same_rows in (np.array(rows, dtype=object), pd.DataFrame(rows)):
        np.testing.assert_array_equal(vae.score_samples(same_rows), vae.score_samples(rows))
    ids = pd.DataFrame({"id": [2**53, 2**53 + 1] * 20, "x": [0.5, 1.5] * 20})
    assert quick(likelihood="categorical").fit(ids)._table.blocks[0].labels[0] == (2**53, 2**53 + 1)
    days = pd.DataFrame({"day": pd.to_datetime(["2020-01-01", "2020-01-02"] * 20)})
    assert set(quick(likelihood="categorical").fit(days).sample(20)[0].ravel()) == set(days["day"])

    mixed = pd.DataFrame({"age": [1.0, 2.0] * 20, "job": ["x", "y"] * 20})
    likelihood = [("gaussian", ["age"]), ("categorical", ["job"])]
    fitted = quick(likelihood=likelihood).fit(mixed)
    for value, message in (
        (np.nan, "NaN, first in row 3, column 'age'"),
        ("old", "no numbers in column 'age'"),
    ):
        bad = mixed.astype(object)
        bad.loc[3, "age"] = value
        with pytest.raises(ValueError, match=message):
            fitted.score(bad)


def test_columns_are_given_as_in_a_column_transformer():
    frame = pd.DataFrame(IRIS, columns=list("abcd")).assign(
        kind=np.repeat(["x", "y", "z"], 50), n=np.arange(150) % 7
    )
    ways = [
        [("gaussian", slice("a", "d")), ("categorical", ["kind"]), ("poisson", "n")],
        [
            (Gaussian("feature"), make_column_selector(dtype_include=float)),
            ("categorical", [4]),
            (Poisson(), -1),
        ],
        [("gaussian", [0, 1, 2, 3]), ("categorical", [False] * 4 + [True, False]), ("poisson", 5)],
    ]
    scores = [quick(likelihood=way).fit(frame).score(frame) for way in ways]
    assert scores[0] == scores[1] == scores[2]
    as_array = frame.to_numpy(dtype=object)
    assert quick(likelihood=ways[2]).fit(as_array).score(as_array) == scores[0]


def test_a_pickle_scores_alike_and_speaks_of_its_version():
    vae = quick(prior="vamp", likelihood="student_t").fit(IRIS)
    again = pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(vae.score_samples(IRIS), again.score_samples(IRIS))
    np.testing.assert_array_equal(vae.sample(5, 0)[0], again.sample(5, 0)[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_fitted_on_a_gpu_scores_on_the_cpu():
    vae = quick(device="cuda", max_iter=20).fit(IRIS)
    on_gpu = vae.score_samples(IRIS)
    again = pickle.loads(pickle.dumps(vae)).set_params(device="cpu")
    np.testing.assert_allclose(again.score_samples(IRIS), on_gpu, rtol=1e-6)
