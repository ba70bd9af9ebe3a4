"""The E step on a device of torch: the numbers of NumPy's; and the parameter that asks for it."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from skemvae import DoubtfulFitWarning, EMGaussianMixture
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.rows import Frame, Rows
from skemvae.engine.passes import torch_pass as module
from skemvae.engine.passes.choice import fastest_pass, passes_on
from skemvae.engine.passes.torch_pass import TorchPasses
from skemvae.structures.registry import STRUCTURES
from tests.laws import costly
from tests.passes import em_on, expectation
from tests.pooling import assert_same_expectation
from tests.strategies import ALL, mixtures, seeds, tables

CPU = torch.device("cpu")


@pytest.mark.parametrize("structure", ALL)
@pytest.mark.parametrize("weighted", [False, True])
@costly(4)
@given(st.data(), seeds, st.sampled_from([0.0, 10.0, 1e4, 1e6]), st.booleans())
def test_the_numbers_are_those_of_numpy(structure, weighted, data, seed, distance, kept):
    """Near the origin and far from it, where each structure changes its arithmetic."""
    mixture = data.draw(mixtures(structure=st.just(structure)))
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 4, 80) + 0.0 if weighted else None
    X, _ = mixture.sample(80, rng)
    shift = distance * rng.standard_normal(X.shape[1])
    mixture = replace(mixture, means=mixture.means + shift)
    rows = Rows(X + shift, weight, Frame.identity(X.shape[1]))
    passes = TorchPasses(CPU)
    with pytest.MonkeyPatch.context() as patch:
        if kept:
            patch.setattr(module, "_free_bytes", lambda device: 2**30)
        patch.setattr(module, "_MOST_ROWS", 33)
        assert_same_expectation(
            mixture, expectation(mixture, rows, passes), expectation(mixture, rows), 1e-9
        )


@pytest.mark.parametrize("structure", ALL)
def test_a_mean_that_jumps_far_is_resolved(structure):
    """The second pass, about the new means."""
    X = 1e-4 * np.random.default_rng(0).standard_normal((200, 3)) + [1.0, 2.0, -1.0]
    unit = STRUCTURES[structure].identity(1, 3)
    mixture = GaussianMixture(np.ones(1), np.zeros((1, 3)), unit, np.zeros(3))
    rows = Rows(X, None, Frame.identity(3))
    result = expectation(mixture, rows, TorchPasses(CPU))
    np.testing.assert_allclose(result.moments.variances[0], X.var(0), rtol=1e-9)
    assert_same_expectation(mixture, result, expectation(mixture, rows), 1e-9)


@pytest.mark.parametrize("structure", ALL)
def test_rows_that_no_component_reaches_favour_none(structure):
    unit = STRUCTURES[structure].identity(2, 2)
    mixture = GaussianMixture(np.array([0.3, 0.7]), np.eye(2), unit, np.zeros(2))
    X = np.r_[np.random.default_rng(0).standard_normal((20, 2)), [[1e200, 0.0]]]
    rows = Rows(X, np.r_[np.ones(20), 0.0], Frame.identity(2))
    assert_same_expectation(
        mixture, expectation(mixture, rows, TorchPasses(CPU)), expectation(mixture, rows), 1e-9
    )
    unweighted = replace(rows, weight=None)
    with np.errstate(all="ignore"):  # the square of such a row is inf
        count = expectation(mixture, unweighted, TorchPasses(CPU)).moments.count
        np.testing.assert_allclose(count, expectation(mixture, unweighted).moments.count)


@costly(2)
@given(tables(), st.sampled_from(ALL), st.integers(1, 4), st.sampled_from([0.0, 1e-6]))
def test_no_iteration_lowers_the_objective(X, structure, k, reg_covar):
    on_torch = fit(X, k, structure, reg_covar, TorchPasses(CPU))
    scale = max(1.0, np.abs(on_torch.lower_bounds_).max())
    assert np.diff(on_torch.lower_bounds_).min(initial=0.0) >= -1e-9 * scale


@pytest.mark.parametrize("structure", ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fit_ends_at_the_same_parameters(structure, dtype):
    X = np.concatenate([np.random.default_rng(0).normal(m, 1, (200, 3)) for m in (-2, 0, 3)])
    X = (X + 1e3).astype(dtype)
    X.flags.writeable = False
    ours, on_torch = (fit(X, 3, structure, 1e-6, step) for step in (fastest_pass, TorchPasses(CPU)))
    np.testing.assert_allclose(on_torch.lower_bounds_, ours.lower_bounds_, rtol=1e-9)
    np.testing.assert_allclose(on_torch.means_, ours.means_, rtol=1e-9)
    np.testing.assert_allclose(on_torch.covariances_, ours.covariances_, rtol=1e-7, atol=1e-9)


def fit(X, k, structure, reg_covar, passes):
    mixture = EMGaussianMixture(
        k,
        covariance_type=structure,
        reg_covar=reg_covar,
        max_iter=15,
        tol=0,
        random_state=0,
        device="auto",
        acceleration=None,
    )
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", DoubtfulFitWarning)  # columns may determine each other
        patch.setattr("skemvae.em_fit.passes_on", lambda device, posterior: passes)
        return mixture.fit(X)


def test_rows_are_sent_once_while_they_fit(monkeypatch):
    sent = []
    monkeypatch.setattr(module, "_free_bytes", lambda device: 2 * 8 * 4 * 100)
    blocks = Rows.blocks
    monkeypatch.setattr(Rows, "blocks", lambda *args: sent.append(1) or blocks(*args))
    mixture = EMGaussianMixture.from_parameters([1.0], [np.zeros(3)], [np.eye(3)])._mixture()
    for n, n_reads in ((100, 1), (101, 3)):
        sent.clear()
        rows = Rows(np.random.default_rng(0).standard_normal((n, 3)), None, Frame.identity(3))
        em = em_on(rows, TorchPasses(CPU))
        state = em.start(mixture)
        em.step(em.step(state))
        assert len(sent) == n_reads


# The parameter.


def test_the_default_is_numpy():
    assert EMGaussianMixture().device == "cpu"
    assert passes_on("cpu") is fastest_pass


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        (0, TypeError, "device=0 must be a str"),
        (None, TypeError, "device=None must be a str"),
        ("abacus", ValueError, "device='abacus' is not a device: use 'cpu'"),
        ("cpu:0", ValueError, "device='cpu:0' is not one of"),
    ],
)
def test_what_is_no_device_is_named(device, error, message):
    with pytest.raises(error, match=message):
        EMGaussianMixture(device=device).fit(np.eye(3))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_cuda_is_refused_and_auto_is_numpy():
    with pytest.raises(ValueError, match="device='cuda', but torch finds no GPU"):
        EMGaussianMixture(device="cuda").fit(np.eye(3))
    assert passes_on("auto") is fastest_pass


def test_without_torch_auto_is_numpy(monkeypatch):
    monkeypatch.setattr("skemvae.engine.passes.choice.find_spec", lambda name: None)
    assert passes_on("auto") is fastest_pass


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("structure", ALL)
def test_a_gpu_fits_the_same(structure):
    X = np.random.default_rng(0).standard_normal((5000, 6)) @ np.diag([1, 2, 3, 4, 5, 6.0])
    X[::2] += 5
    parameters = {"covariance_type": structure, "random_state": 0, "tol": 1e-6, "max_iter": 200}
    ours = EMGaussianMixture(2, **parameters).fit(X)
    on_gpu = EMGaussianMixture(2, device="cuda", **parameters).fit(X)
    np.testing.assert_allclose(on_gpu.lower_bounds_, ours.lower_bounds_, rtol=1e-9)
    np.testing.assert_allclose(on_gpu.means_, ours.means_, rtol=1e-7, atol=1e-9)
