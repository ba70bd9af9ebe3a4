"""ONNX models answer as the estimators do."""

import json
import logging

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from onnxscript import opset18
from scipy.special import gammaln
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM, to_onnx
from skemvae.core.rows import Frame
from skemvae.likelihoods import Gaussian
from skemvae.models import BayesianMixture, FactorModel
from skemvae.networks.layers import ACTIVATIONS
from skemvae.onnx import vae as vae_graph
from tests.strategies import ALL, CONJUGATE, estimator_of, mixtures, seeds

STANDARD_NORMAL = EMGaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
QUICK = {
    "hidden_layer_sizes": (8,),
    "max_iter": 4,
    "learning_rate": "cosine",  # runs its course: no warning
    "n_score_samples": 32,
    "random_state": 0,
}


def run(model, X):
    """What onnxruntime makes of the rows: log density and latent means."""
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(["log_density", "latent"], {"X": X})


def assert_answers_as(estimator, model, X, **tolerance):
    """All rows together, and the first alone."""
    for rows in (X, X[:1]):
        log_density, latent = run(model, rows)
        expected = estimator.score_samples(rows), estimator.transform(rows)
        for actual, wanted in zip((log_density, latent), expected, strict=True):
            assert actual.dtype == wanted.dtype == X.dtype
            np.testing.assert_allclose(actual, wanted, **tolerance)


# Mixtures.


@given(mixtures(), seeds, st.sampled_from([0.0, 1e3, 1e8]), st.sampled_from([1e-100, 1.0, 1e100]))
def test_of_any_mixture_at_any_offset_and_in_any_unit(mixture, seed, offset, unit):
    # Rounding of far squares decides between components whose means are nearly equal.
    a, b = np.triu_indices(len(mixture.means), 1)
    assume((np.abs(mixture.means[a] - mixture.means[b]).max(1) > 1e-3).all())
    d = mixture.means.shape[1]
    estimator = estimator_of(mixture.out_of(Frame(np.full(d, offset * unit), np.full(d, unit))))
    X = (mixture.sample(20, np.random.RandomState(seed))[0] + offset) * unit
    X = np.concatenate([X, mixture.means * unit, -100 * X, np.full((1, X.shape[1]), 1e300)])
    assert_answers_as(estimator, to_onnx(estimator), X, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::skemvae.DoubtfulFitWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("structure", ALL)
def test_of_fitted_mixtures(structure, dtype):
    X = load_wine().data
    em = EMGaussianMixture(3, covariance_type=structure, random_state=0)
    bayes = VariationalEM(BayesianMixture(5, covariance_type=structure), max_iter=400)
    for estimator in (em, *([bayes] if structure in CONJUGATE else [])):
        estimator.fit(X)
        model = to_onnx(estimator, dtype=dtype)
        rows = X.astype(dtype)
        rows[1] *= 30
        rows[2, 0] = np.finfo(dtype).max
        digits = 1e-12 if dtype == np.float64 else 1e-6
        if structure == "factor_analytic":  # the graph has the matrices written out
            digits = max(digits, 1e-9)
        assert_answers_as(estimator, model, rows, rtol=digits, atol=digits)


def test_a_component_without_weight_is_never_chosen():
    covariances = np.array([[[1.0]], [[1.0]]])
    estimator = EMGaussianMixture.from_parameters([1.0, 0.0], [[0.0], [5.0]], covariances)
    assert_answers_as(estimator, to_onnx(estimator), np.array([[5.0], [-2.0]]), atol=1e-12)


def test_where_nothing_reaches_a_row_its_log_density_is_minus_infinity():
    covariances = np.array([[[1.0]], [[2.0]]])
    estimator = EMGaussianMixture.from_parameters([0.5, 0.5], [[0.0], [5.0]], covariances)
    log_density, latent = run(to_onnx(estimator), np.array([[1e200], [0.0]]))
    assert log_density[0] == -np.inf
    assert np.isfinite(log_density[1])
    np.testing.assert_array_equal(latent[0], [0.5, 0.5])


def test_rows_that_a_mixture_refuses_are_nan_and_the_others_are_not():
    X = load_wine().data[:, :3]
    estimators = EMGaussianMixture(2, random_state=0), VariationalEM(random_state=0)
    for estimator in estimators:
        estimator.fit(X)
        rows = X[:4].copy()
        rows[1, 0], rows[2, 1], rows[3, 2] = np.nan, np.inf, -np.inf
        log_density, latent = run(to_onnx(estimator), rows)
        np.testing.assert_array_equal(np.isnan(log_density), [False, True, True, True])
        np.testing.assert_array_equal(np.isnan(latent).all(1), [False, True, True, True])
        np.testing.assert_allclose(log_density[:1], estimator.score_samples(rows[:1]))


# VAEs.


@pytest.fixture(scope="module")
def mixed():
    """A VAE of columns of all kinds, in no order, its model, and rows that it has not seen.

    In float32, and at so few points that all of them are those of q.
    """
    rng = np.random.RandomState(0)
    real = load_breast_cancer().data
    n = len(real)
    X = np.column_stack(
        [
            rng.choice([1.5, -2.0, 7.0], n),  # labels
            real[:, 0],
            real[:, 1] > real[:, 1].mean(),
            rng.poisson(real[:, 0]),
            real[:, 3],
            rng.negative_binomial(2, 0.1, n),
            real[:, 4] * 1e-3 + 1e5,
        ]
    )
    likelihood = [
        (Gaussian(variance="row"), [6, 4]),
        ("lognormal", [1]),
        ("negative_binomial", [5]),
        ("bernoulli", [2]),
        ("categorical", [0]),
        ("poisson", [3]),
    ]
    few = {**QUICK, "n_score_samples": 4}
    vae = VAEEstimator(2, likelihood=likelihood, activation="gelu", **few).fit(X[:400])
    return vae, to_onnx(vae, dtype=np.float32), X[400:].astype(np.float32)


def test_of_a_vae_of_mixed_columns(mixed):
    vae, model, X = mixed
    X = X.copy()
    X[1, 0] = 99.0  # an unseen label
    X[2, 3] = 2**24
    X[3, 5] = 0
    X[4, 1] = 1e6
    assert_answers_as(vae, model, X, rtol=3e-6, atol=1e-5)


def test_rows_that_a_vae_refuses_are_nan_and_the_others_are_not(mixed):
    vae, model, X = mixed
    scored, encoded = {}, {}
    wrong = {0: [np.nan], 1: [np.nan, np.inf, 0.0, -1.0], 2: [0.5, 2.0], 5: [0.5]}
    wrong[3] = [-1.0, 0.5, 2.0**25]
    for column, values in wrong.items():
        for value in values:
            row = X[:1].copy()
            row[0, column] = value
            log_density, latent = run(model, np.concatenate([row, X[:1]]))
            scored[column, value], encoded[column, value] = log_density[0], latent[0]
            np.testing.assert_allclose(log_density[1:], vae.score_samples(X[:1]), rtol=1e-6)
            with pytest.raises(ValueError, match=r"holds|contains|NaN"):
                vae.score_samples(row)
    assert np.isnan(list(scored.values())).all()
    # A grey value has a code, but no density.
    np.testing.assert_array_equal(
        [key for key, z in encoded.items() if not np.isnan(z).any()], [(2, 0.5)]
    )


def test_of_importance_sampling():
    """Where the densities of z are far below the smallest number, with points of a mixture."""
    X = load_breast_cancer().data[:, :6]
    X[:, 1] += 1e8
    likelihood = [("gaussian", [1, 2, 4]), ("student_t", [0, 3, 5])]
    vae = VAEEstimator(600, prior="vamp", likelihood=likelihood, activation="softplus", **QUICK)
    vae.fit(X)
    state, level = torch.random.get_rng_state(), logging.getLogger("torch.onnx").level
    model = to_onnx(vae)
    assert torch.equal(state, torch.random.get_rng_state())
    assert level == logging.getLogger("torch.onnx").level
    X[1] = 1e200
    assert_answers_as(vae, model, X[:40], rtol=1e-12, atol=1e-9)


def test_gelu_is_refused_in_float64(mixed):
    with pytest.raises(ValueError, match=r"activation='gelu'.* dtype=numpy\.float32"):
        to_onnx(mixed[0])


def test_every_activation_but_gelu_has_its_digits_in_float64():
    functions = [function for name, function in ACTIVATIONS.items() if name != "gelu"]

    class All(torch.nn.Module):
        def forward(self, x):
            return torch.stack([function(x) for function in functions])

    x = torch.linspace(-800, 800, 1601, dtype=torch.float64)
    table = vae_graph._TRANSLATIONS
    with vae_graph._quiet():
        program = torch.onnx.export(
            All().eval(), (x,), dynamo=True, opset_version=18, custom_translation_table=table
        )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (actual,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(actual, All()(x).numpy(), rtol=1e-8, atol=1e-12)


def test_log_gamma_and_log_sum_have_their_digits():
    x = np.concatenate([np.logspace(-8, 7.5, 200), np.arange(1.0, 50)])
    np.testing.assert_allclose(vae_graph._lgamma(x).value, gammaln(x), rtol=1e-13, atol=1e-13)
    a, b = np.array([-2000.0, 2000.0, 0.0, -3.0]), np.array([-2001.0, 1990.0, 0.0, -np.inf])
    actual = vae_graph._logaddexp(opset18.Identity(a), opset18.Identity(b)).value
    np.testing.assert_allclose(actual, np.logaddexp(a, b), rtol=1e-14)


# What is written beside it.


def test_the_file_says_what_it_is(tmp_path):
    X = pd.DataFrame(load_wine().data[:, :2], columns=["alcohol", "malic acid"])
    returned = to_onnx(EMGaussianMixture(random_state=0).fit(X), tmp_path / "wine.onnx")
    model = onnx.load(tmp_path / "wine.onnx")
    assert model == returned
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["feature_names"]) == ["alcohol", "malic acid"]
    assert metadata["units"] == "nats"
    assert metadata["skemvae_version"] == model.producer_version
    assert "feature_names" not in {p.key for p in to_onnx(STANDARD_NORMAL).metadata_props}


def test_models_are_the_same_each_time_and_tell_nothing_of_their_making(mixed):
    _, model, _ = mixed
    text = str(model)
    assert "site-packages" not in text
    assert "stack_trace" not in text
    assert {entry.domain for entry in model.opset_import} == {""}
    assert to_onnx(STANDARD_NORMAL) == to_onnx(STANDARD_NORMAL)


# Refusals.


def test_what_has_no_model_is_refused_by_name(tmp_path):
    X = load_wine().data[:, :2]
    path = tmp_path / "none.onnx"
    pipeline = make_pipeline(StandardScaler(), EMGaussianMixture(random_state=0)).fit(X)
    with pytest.raises(TypeError, match=r"not Pipeline.*skl2onnx"):
        to_onnx(pipeline, path)
    factors = VariationalEM(FactorModel(n_factors=1), random_state=0).fit(X)
    with pytest.raises(TypeError, match=r"FactorModel\(n_factors=1\)(.|\n)*iterations"):
        to_onnx(factors, path)
    for unfitted in (EMGaussianMixture(), VariationalEM(), VAEEstimator()):
        with pytest.raises(NotFittedError):
            to_onnx(unfitted, path)
    with pytest.raises(ValueError, match=r"dtype=.*float16.* must be numpy.float64"):
        to_onnx(STANDARD_NORMAL, path, dtype=np.float16)
    assert not path.exists()


def test_labels_that_are_not_numbers_are_refused_by_name():
    X = pd.DataFrame({"colour": ["red", "green"] * 20})
    vae = VAEEstimator(1, likelihood="categorical", **QUICK).fit(X)
    with pytest.raises(ValueError, match=r"'colour'.* labels that are not numbers"):
        to_onnx(vae)
