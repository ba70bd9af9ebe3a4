"""The factor model that networks contain."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis

from skemvae.likelihoods import Gaussian, StudentT
from skemvae.likelihoods.columns import Table, assign_columns
from skemvae.networks.architecture import Architecture
from skemvae.networks.codes import Codes
from skemvae.networks.factors import Factors, factor_model
from skemvae.networks.gradients import ESTIMATORS
from tests.strategies import seeds


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(seed, n=300, d=6, k=2, noise=0.3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, k)) @ rng.standard_normal((k, d))
    return X + noise * rng.uniform(0.5, 2, d) * rng.standard_normal((n, d)) + 7


def factors_of(X, k, weight=None):
    weight = np.ones(len(X)) if weight is None else weight
    return Factors.of(torch.from_numpy(X), torch.from_numpy(weight), k, generator())


def log_density(factors, X):
    spread = factors.noise.numpy() * np.var(X, axis=0)
    loadings = factors.loadings.numpy()
    return multivariate_normal(factors.mean, loadings @ loadings.T + np.diag(spread)).logpdf(X)


@settings(max_examples=5)
@given(seeds, st.sampled_from([0.01, 0.3, 1.0]))
def test_they_have_nearly_the_maximum_of_the_likelihood(seed, noise):
    X = rows(seed, noise=noise)
    found = log_density(factors_of(X, 2), X).mean()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skemvae.networks.factors._STEPS", 2000)
        best = log_density(factors_of(X, 2), X).mean()
    assert best - 0.02 < found <= best


def test_the_peer_agrees():
    X = rows(0)
    peer = FactorAnalysis(2, tol=1e-3, svd_method="lapack").fit(X)
    assert log_density(factors_of(X, 2), X).mean() == pytest.approx(peer.score(X), abs=0.02)


@given(seeds, st.lists(st.sampled_from([2.0**-40, -0.25, 1.0, 2.0**30]), min_size=6, max_size=6))
def test_they_do_not_depend_on_units(seed, scale):
    X = rows(seed) - 7
    here, there = factors_of(X, 2), factors_of(X * scale, 2)
    torch.testing.assert_close(there.noise, here.noise)
    signs = torch.sign(
        (here.weights @ torch.from_numpy(X[0])) * (there.weights @ torch.from_numpy(X[0] * scale))
    )
    expected = here.loadings * torch.tensor(scale)[:, None] * signs
    torch.testing.assert_close(there.loadings, expected, rtol=1e-4, atol=0)


@given(seeds, st.integers(1, 8))
def test_factors_are_independent_given_a_row(seed, k):
    X = rows(seed)
    factors = factors_of(X, k)
    precise = factors.loadings / (factors.noise * torch.from_numpy(X.var(0)))[:, None]
    precision = torch.eye(k, dtype=torch.float64) + factors.loadings.mT @ precise
    torch.testing.assert_close(torch.diag(factors.scale**-2), precision, rtol=1e-6, atol=1e-6)
    mean = torch.linalg.solve(precision, precise.mT)
    torch.testing.assert_close(factors.weights, mean, rtol=1e-4, atol=1e-8)


def test_weights_are_repetitions():
    X = rows(0)
    times = np.arange(len(X)) % 3
    here, there = factors_of(X, 2, 1.0 * times), factors_of(X.repeat(times, 0), 2)
    torch.testing.assert_close(here.mean, there.mean)
    torch.testing.assert_close(here.noise, there.noise)


@pytest.mark.parametrize(
    "X",
    [np.ones((20, 3)), rows(0, n=2), rows(0, d=1), np.c_[rows(0), np.ones(300)], rows(0, 5, 40)],
    ids=["constant", "two rows", "one column", "a constant column", "wide"],
)
def test_extreme_tables_have_factors(X):
    factors = factors_of(X, 3)
    for part in (factors.mean, factors.loadings, factors.noise, factors.weights, factors.scale):
        assert part.isfinite().all()
    assert (factors.noise > 0).all()
    assert (factors.scale > 0).all()


@pytest.mark.parametrize("hidden", [(), (5,), (7, 3)], ids=str)
@pytest.mark.parametrize("variance", ["feature", "row"])
def test_networks_become_the_factor_model(hidden, variance):
    """The path estimator has no noise where q is the posterior: each draw is log p(x)."""
    X = rows(0)
    table = Table.of([(Gaussian(variance), np.arange(6))], X, range(6), None, True)
    codes = Codes.of(table.encode(X, np.float32, exact=False), np.ones(len(X)))
    architecture = Architecture(2, hidden, "tanh", "normal", 1, True)
    vae = architecture.build([Gaussian(variance)], table, codes, generator())
    model = factor_model(vae, table, codes, generator()).double()
    if variance == "row" and not hidden:  # outputs that are not means keep their weights
        model.decoder.outputs.weight.data[6:] = 0
    u = codes.u.double()
    _, bound = ESTIMATORS["elbo", "doubly_reparameterized"](
        model, u, torch.randn(len(u), 3, 2, generator=generator(), dtype=u.dtype), 1.0
    )
    factors = factors_of(u.numpy(), 2)
    expected = log_density(factors, u.numpy())
    np.testing.assert_allclose(bound, expected, atol=2e-3)
    assert vae.decoder.outputs.weight.abs().sum() > 0  # left as it was


def test_columns_that_are_no_real_numbers_do_not_depend_on_the_factors():
    X = np.c_[rows(0), np.arange(300) % 3]
    heads = [(StudentT(), np.arange(6)), ("poisson", [6])]
    blocks = assign_columns(heads, X, range(7))
    table = Table.of(blocks, X, range(7), None, True)
    codes = Codes.of(table.encode(X, np.float32, exact=False), np.ones(300))
    architecture = Architecture(2, (5,), "tanh", "normal", 1, True)
    vae = architecture.build([head for head, _ in blocks], table, codes, generator())
    decoder = factor_model(vae, table, codes, generator()).decoder
    z = torch.randn(9, 2, generator=generator())
    rate = decoder(z)[:, 6]
    torch.testing.assert_close(
        rate.exp(), torch.full((9,), X[:, 6].mean()).float(), rtol=0.01, atol=0
    )
    assert decoder(z)[:, :6].std(0).min() > 0.1
