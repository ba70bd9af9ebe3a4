"""Laws of ``save`` and ``load``: what comes back is what was, to the last bit."""

import datetime
import json
import os
import pickle
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import safetensors.numpy
import skops.io
import torch
from sklearn.base import clone
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skemvae
from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM, VersionMismatchWarning
from skemvae.likelihoods import Categorical, Gaussian, StudentT
from skemvae.models import BayesianMixture, FactorModel, LatentVariableModel
from skemvae.persistence import container
from tests.own_models import GaussianPair, LinearGaussian
from tests.strategies import ALL, CONJUGATE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.RandomState(0)
X = RNG.normal(size=(40, 3)) @ RNG.normal(size=(3, 3)) + 5
BITS = (X.mean(0) < X).astype(int)
COUNTS = RNG.poisson(3, (40, 3))
LABELS = RNG.choice(["a", "b", "c"], (40, 2)).astype(object)
ODD_LABELS = np.empty((40, 1), dtype=object)
ODD_LABELS[:, 0] = [
    *("a", 1, 2.5, True, b"x", np.int64(7), np.str_("b"), (1, "c")),
    *(datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 12), datetime.timedelta(1, 2, 3)),
    *("ü\ud800", -0.5, np.float32(0.1), np.bool_(False), 10**30, float("inf")),
    *["a"] * 23,
]
COLUMNS = {"height": X[:, 0], "n": COUNTS[:, 0], "kind": LABELS[:, 0], "yes": BITS[:, 0]}
MIXED = pd.DataFrame(COLUMNS)
BLOCKS = [
    ("gaussian", ["height"]),
    ("negative_binomial", slice("n", "n")),
    (Categorical(), [2]),
    ("bernoulli", np.array([False, False, False, True])),
]
TABLES = {
    "gaussian": X,
    "lognormal": np.exp(X),
    "student_t": X,
    "bernoulli": BITS,
    "poisson": COUNTS,
    "negative_binomial": COUNTS,
    "categorical": LABELS,
}


def vae(**parameters):
    small = {"hidden_layer_sizes": (4,), "max_iter": 2, "n_score_samples": 16, "random_state": 0}
    return VAEEstimator(**(small | parameters))


def em(model, **parameters):
    return VariationalEM(model, **({"max_iter": 3, "random_state": 0} | parameters))


DESIGNS = {
    **{f"em {c}": (EMGaussianMixture(2, covariance_type=c, random_state=0), X) for c in ALL},
    "em frame": (EMGaussianMixture().set_output(transform="pandas"), MIXED[["height", "n"]]),
    "em given": (
        EMGaussianMixture(2, init_params=np.eye(2)[np.arange(40) % 2], reg_covar=np.float32(1e-3)),
        X.astype(np.float32),
    ),
    **{
        f"bayes {c} {w[10:]}": (em(BayesianMixture(3, c, w)), X)
        for c in CONJUGATE
        for w in ("dirichlet_process", "dirichlet_distribution")
    },
    "bayes one": (em(BayesianMixture(1, mean_prior=np.zeros(3))), X),
    "bayes default": (em(None), X),
    **{f"factor {n}": (em(FactorModel(2, n, 16)), table) for n, table in TABLES.items()},
    "factor row": (em(FactorModel(1, Gaussian("row"), 16)), X),
    "factor mixed": (em(FactorModel(2, BLOCKS, 16)), MIXED),
    "own states": (em(GaussianPair(2)), X),
    "own points": (em(LinearGaussian(2)), X),
    **{f"vae {n}": (vae(likelihood=n), table) for n, table in TABLES.items()},
    **{
        f"vae {p} {u}": (vae(prior=p, update=u, n_prior_components=3), X)
        for p in ("normal", "mixture", "vamp")
        for u in ("joint", "alternating")
    },
    "vae row": (vae(likelihood=Gaussian("row", 1e-4), hidden_layer_sizes=()), X),
    "vae shared": (vae(likelihood=Gaussian("shared"), hidden_layer_sizes=[3, 5]), X),
    "vae mixed": (vae(likelihood=BLOCKS), MIXED),
    "vae polars": (vae(likelihood=BLOCKS), pl.DataFrame(COLUMNS)),
    "vae odd": (vae(likelihood=[("categorical", [0])]), ODD_LABELS),
    "vae raw": (vae(standardize=False, early_stopping=False), X),
}
OWN = [GaussianPair, LinearGaussian]


@cache
def fit(name):
    """A fitted estimator."""
    estimator, rows = DESIGNS[name]
    return clone(estimator).fit(rows)


@cache
def answers_of(name):
    return answers(fit(name), DESIGNS[name][1][:5])


def round_trip(estimator, path):
    skemvae.save(estimator, path)
    return skemvae.load(path, models=OWN)


def assert_equal(one, other):
    """Equal, of the same type, to the last bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        assert_equal(list(one.values()), list(other.values()))
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, strict=True)
        if one.dtype == object:
            assert_equal(one.tolist(), other.tolist())
    elif isinstance(one, np.random.RandomState):
        assert_equal(one.get_state(), other.get_state())
    else:
        assert repr(one) == repr(other)


def state(estimator):
    """Everything in arrays and plain values."""
    state = estimator.__getstate__() | {"_skl_callbacks": None}
    if hasattr(estimator, "model_"):
        state |= {"model_": estimator.model_.__getstate__()}
    if state.get("model") is not None:
        state |= {"model": estimator.model.get_params()}
    return state


def answers(estimator, rows):
    found = [
        estimator.score_samples(rows),
        estimator.elbo(rows),
        np.asarray(estimator.transform(rows)),
        np.asarray(estimator.inverse_transform(np.asarray(estimator.transform(rows)))),
        *estimator.sample(5, random_state=1),
    ]
    if not isinstance(estimator, EMGaussianMixture):
        found += estimator.score_samples(rows, return_std=True)
    return found


# Round trips.


@pytest.mark.parametrize("name", DESIGNS)
def test_what_comes_back_is_what_was(name, tmp_path):
    same = round_trip(fit(name), tmp_path / "file")
    assert_equal(fit(name).get_params(deep=False).keys(), same.get_params(deep=False).keys())
    assert_equal(state(fit(name)), state(same))
    assert_equal(answers_of(name), answers(same, DESIGNS[name][1][:5]))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", DESIGNS)
def test_joblib_and_skops_bring_back_the_same(name, tmp_path):
    joblib.dump(fit(name), tmp_path / "joblib")
    same = joblib.load(tmp_path / "joblib")
    assert_equal(state(fit(name)), state(same))
    if name == "vae odd":
        return  # skops has its own opinion of labels such as bytes
    path = tmp_path / "skops"
    skops.io.dump(fit(name), path)
    same = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    rows = DESIGNS[name][1][:5]
    assert_equal(fit(name).score_samples(rows), same.score_samples(rows))


def test_skops_saves_pipelines_with_networks(tmp_path):
    pipeline = make_pipeline(StandardScaler(), vae(likelihood=Gaussian("row"))).fit(X)
    path = tmp_path / "file"
    skops.io.dump(pipeline, path)
    same = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    assert_equal(pipeline.score_samples(X), same.score_samples(X))


@pytest.mark.parametrize(
    "name", ["em tied", "bayes full process", "factor mixed", "own points", "vae vamp alternating"]
)
def test_a_fit_goes_on_as_if_nothing_had_happened(name, tmp_path):
    estimator = fit(name)
    rows = DESIGNS[name][1]
    same = round_trip(estimator, tmp_path / "file")
    goes_on = {"warm_start": True, "max_iter": 2}
    one, other = (pickle.loads(pickle.dumps(e)).set_params(**goes_on) for e in (estimator, same))
    assert_equal(state(one.fit(rows)), state(other.fit(rows)))


@pytest.mark.parametrize("update", ["joint", "alternating"])
def test_partial_fit_remembers_its_steps(update, tmp_path):
    one = vae(update=update, prior="mixture").partial_fit(X).partial_fit(X)
    other = round_trip(one, tmp_path / "file")
    fresh = round_trip(one, tmp_path / "file")
    fresh._optimiser = None
    for estimator in (one, other, fresh):
        estimator.partial_fit(X)
    assert_equal(state(one), state(other))
    assert (fresh.score_samples(X) != one.score_samples(X)).any()


def test_another_process_gives_the_same_answers(tmp_path):
    names = ["em full", "bayes tied process", "factor mixed", "own states", "vae mixed", "vae odd"]
    for name in names:
        skemvae.save(fit(name), tmp_path / name)
    code = f"""
import pickle, sys, skemvae
skemvae.load(sys.argv[1] + "/em full")
skemvae.load(sys.argv[1] + "/bayes tied process")
assert "torch" not in sys.modules
from tests.test_persistence import DESIGNS, OWN, answers, fit
found = {{}}
for name in {names}:
    rows = DESIGNS[name][1][:5]
    found[name] = answers(skemvae.load(sys.argv[1] + "/" + name, models=OWN), rows)
    found[name, "fitted anew"] = answers(fit(name), rows)
sys.stdout.buffer.write(pickle.dumps(found))
"""
    run = [sys.executable, "-c", code, str(tmp_path)]
    out = subprocess.run(run, capture_output=True, check=True, cwd=Path(__file__).parents[1])
    found = pickle.loads(out.stdout)
    for name in names:
        assert_equal(answers_of(name), found[name])
        assert_equal(answers_of(name), found[name, "fitted anew"])


@pytest.mark.parametrize(
    "estimator",
    [
        EMGaussianMixture(random_state=np.random.RandomState(3)),
        EMGaussianMixture(tol=float("inf"), reg_covar=-0.0, max_iter=np.int64(3)),
        EMGaussianMixture(means_init=np.asfortranarray(X)[::2, :2], weights_init=[1]),
        EMGaussianMixture(means_init=X.astype(">f4"), max_iter=2**80, n_init=True),
        EMGaussianMixture(init_params=np.array([(1, "a"), None, ("b",)], dtype=object)),
        VariationalEM("factor_model"),
        VariationalEM(FactorModel(likelihood=StudentT(0.5))),
        VAEEstimator(hidden_layer_sizes=np.array([3, 4]), prior=np.str_("normal")),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_parameters_come_back_before_a_fit(estimator, tmp_path):
    same = round_trip(estimator, tmp_path / "file")
    values = [e.get_params() for e in (estimator, same)]
    for parameters in values:
        if parameters.get("means_init") is not None:  # strides and byte order are not kept
            parameters["means_init"] = parameters["means_init"].tolist()
    assert_equal(*values)
    if isinstance(estimator.random_state, np.random.RandomState):
        assert estimator.random_state.rand() == same.random_state.rand()


def test_the_order_of_arrays_comes_back(tmp_path):
    """Sums are taken in its order, and so depends their last bit."""
    for array in (X, np.asfortranarray(X), X.T, X[:, ::2]):
        same = round_trip(EMGaussianMixture(means_init=array), tmp_path / "file").means_init
        assert same.flags.f_contiguous == array.flags.f_contiguous
        assert same.flags.writeable


def test_a_fitted_model_may_be_a_parameter(tmp_path):
    first = fit("bayes full process")
    second = VariationalEM(first.model_, max_iter=1, random_state=0).fit(X[:, :2])
    same = round_trip(second, tmp_path / "file")
    assert_equal(same.model.means_, first.model_.means_)
    assert_equal(same.model_.means_, second.model_.means_)


def test_smaller_mixtures_and_known_parameters(tmp_path):
    for mixture in (
        EMGaussianMixture.from_parameters([0.5, 0.5], [[0.0], [1e100]], [[[1e-300]], [[1e200]]]),
        fit("em frame").marginal(["n"]),
        fit("em full").condition([0], [5.0]),
    ):
        same = round_trip(mixture, tmp_path / "file")
        assert_equal(state(mixture), state(same))


def test_names_and_output_of_frames(tmp_path):
    same = round_trip(fit("em frame"), tmp_path / "file")
    frame = same.transform(MIXED[["height", "n"]])
    assert isinstance(frame, pd.DataFrame)
    assert list(same.feature_names_in_) == ["height", "n"]
    with pytest.raises(ValueError, match="feature names"):
        same.transform(MIXED[["n", "height"]])


def test_likelihoods_of_a_factor_model_are_those_of_its_parameters(tmp_path):
    model = round_trip(fit("factor student_t"), tmp_path / "file").model_
    assert model.likelihoods_[0] is model._factors.heads[0]
    assert not model._factors.intercept.requires_grad


def test_the_global_generators_are_left_alone(tmp_path):
    skemvae.save(fit("vae vamp joint"), tmp_path / "file")
    before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    skemvae.load(tmp_path / "file")
    assert before == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_numpy_and_safetensors_read_the_file(tmp_path):
    mixture = fit("em full")
    skemvae.save(mixture, tmp_path / "file")
    arrays = safetensors.numpy.load_file(tmp_path / "file")
    np.testing.assert_array_equal(arrays["means_"], mixture.means_)
    content = (tmp_path / "file").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["estimator"])["EMGaussianMixture"]["n_components"] == 2


# The state of networks.


@pytest.mark.parametrize("name", [name for name in DESIGNS if name.startswith("vae")])
def test_an_architecture_knows_how_many_numbers_it_holds(name):
    estimator = fit(name)
    module = estimator.module_
    own = {n: t for n, t in module.state_dict().items() if not n.startswith("decoder.heads")}
    architecture = estimator._design["architecture"]
    decoder = module.decoder
    n = architecture.n_numbers(len(module.low), decoder.outputs.out_features, decoder.real)
    assert n == sum(tensor.numel() for tensor in own.values())


# Files.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    skemvae.save(fit("em full"), path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda file: os.kill(os.getpid(), signal.SIGKILL))
    child = os.fork()
    if child == 0:
        try:
            skemvae.save(EMGaussianMixture(), path)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2  # what it wrote lies beside it


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_an_error_in_the_middle_leaves_the_old_file_and_no_other(fails, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(container.os, fails, fail)
    with pytest.raises(KeyboardInterrupt):
        skemvae.save(EMGaussianMixture(), path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    mixture = clone(fit("em full")).fit(X)
    mixture.means_[0, 0] = np.nan
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ValueError, match=r"EMGaussianMixture cannot be saved: means_ .* holds NaN"):
        skemvae.save(mixture, path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_link_stays_a_link_and_permissions_are_those_of_new_files(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    skemvae.save(EMGaussianMixture(), str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "new").touch()
    modes = [(tmp_path / name).stat().st_mode for name in ("new", "file")]
    assert modes[0] == modes[1]


def test_no_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no directory .*missing"):
        skemvae.save(EMGaussianMixture(), tmp_path / "missing" / "file")
    with pytest.raises(IsADirectoryError):
        skemvae.save(EMGaussianMixture(), tmp_path)
    assert not list(tmp_path.iterdir())


# What is refused.


class Child(EMGaussianMixture):
    pass


def with_attribute():
    mixture = EMGaussianMixture()
    mixture.note_ = "mine"
    return mixture


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (make_pipeline(StandardScaler(), EMGaussianMixture()), "Pipeline.*skops.io.dump"),
        (GridSearchCV(EMGaussianMixture(), {}), "GridSearchCV.*trusted"),
        (GaussianMixture(), "GaussianMixture.*skops"),
        (
            make_pipeline(FunctionTransformer(lambda X: X), EMGaussianMixture()),
            "Pipeline.*skops.* But functiontransformer__func is a lambda, which neither",
        ),
        (Child(), "cannot save Child"),
        (BayesianMixture(), "cannot save BayesianMixture"),
        (EMGaussianMixture, "cannot save"),
        (EMGaussianMixture(init_params=len), "init_params=.*is code"),
        (vae(likelihood=[("gaussian", lambda X: [0])]), r"likelihood\.0\.1=.*is code"),
        (VariationalEM(FactorModel(likelihood=StandardScaler())), r"model\.likelihood=.*Standard"),
        (EMGaussianMixture(means_init=pd.DataFrame(X)), "means_init=.*DataFrame"),
        (EMGaussianMixture(means_init=X.astype(complex)), "means_init .*complex128"),
        (EMGaussianMixture(random_state=np.random.default_rng(0)), "random_state=.*Generator"),
        (
            EMGaussianMixture(random_state=np.random.RandomState(np.random.PCG64(0))),
            "random_state is a RandomState of PCG64",
        ),
        (EMGaussianMixture(init_params={1: 2}), "init_params has the key 1"),
        (VariationalEM(LatentVariableModel), "is code"),
        (with_attribute(), "note_"),
    ],
)
def test_what_no_file_holds_is_refused_by_name(estimator, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        skemvae.save(estimator, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_labels_that_no_file_holds_are_refused_by_name(tmp_path):
    zone = datetime.UTC
    for label in (datetime.datetime(2020, 1, 1, tzinfo=zone), pd.Timestamp("2020"), object()):
        labels = ODD_LABELS.copy()
        labels[0, 0] = label
        estimator = vae(likelihood="categorical", max_iter=0).fit(labels)
        with pytest.raises(TypeError, match=r"_table.blocks.0.labels.0.0"):
            skemvae.save(estimator, tmp_path / "file")


def test_models_of_ones_own_are_named_by_the_caller(tmp_path):
    path = tmp_path / "file"
    skemvae.save(fit("own states"), path)
    with pytest.raises(ValueError, match=r"'GaussianPair'.*models=\["):
        skemvae.load(path)
    with pytest.raises(TypeError, match="subclasses of LatentVariableModel"):
        skemvae.load(path, models=[EMGaussianMixture])
    with pytest.raises(ValueError, match="Two models are called GaussianPair"):
        skemvae.load(path, models=[GaussianPair, type("GaussianPair", (GaussianPair,), {})])
    taken = type("FactorModel", (GaussianPair,), {})
    with pytest.raises(ValueError, match="FactorModel"):
        skemvae.save(VariationalEM(taken()), path)


# Versions.


def test_another_version_is_named(tmp_path, monkeypatch):
    path = tmp_path / "file"
    with monkeypatch.context() as patch:
        patch.setattr("skemvae.persistence.files.__version__", "0.0.1")
        skemvae.save(fit("em full"), path)
    with pytest.warns(VersionMismatchWarning, match=r"EMGaussianMixture.*0\.0\.1") as caught:
        skemvae.load(path)
    assert caught[0].filename == __file__


def test_a_newer_format_asks_for_an_upgrade(tmp_path, monkeypatch):
    path = tmp_path / "file"
    text = {"format_version": "2", "skemvae_version": "9.8.7", "estimator": "?"}
    container.write(path, text, {})
    with pytest.raises(ValueError, match=rf"version '9\.8\.7' of.*{skemvae.__version__}.*upgrade"):
        skemvae.load(path)


def test_a_pickle_from_before_the_move_says_so():
    with pytest.raises(ImportError, match="earlier skemvae"):
        pickle.loads(b"cskemvae.core.structures\nFull\n.")
