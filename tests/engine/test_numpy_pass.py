"""The E step: chunk-invariant, additive, the same on any number of threads."""

from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.rows import Frame, Rows
from skemvae.engine.passes import numpy_pass as module
from skemvae.engine.passes.numpy_pass import moments_given
from skemvae.structures.registry import STRUCTURES
from tests.passes import expectation
from tests.pooling import assert_same_expectation, shared_covariances
from tests.strategies import ALL, matrices, mixtures, seeds
from tests.threads import limited


def rows_of(mixture, seed, n=200, weighted=True):
    rng = np.random.default_rng(seed)
    X, _ = mixture.sample(n, rng)
    weight = rng.gamma(2.0, size=n) if weighted else None
    return Rows(X, weight, Frame.identity(X.shape[1]))


def unit_mixture(structure, k=3, d=4):
    means = np.random.default_rng(0).standard_normal((k, d))
    unit = STRUCTURES[structure].identity(k, d)
    return GaussianMixture(np.full(k, 1 / k), means, unit, np.zeros(d))


@pytest.mark.parametrize("structure", ALL)
def test_a_component_without_weight_explains_nothing(structure):
    """BLAS multiplies what it pads a product with: no invalid operation must come of it."""
    for k in range(2, 9):
        mixture = unit_mixture(structure, k)
        mixture.weights[0] = 0.0
        for n in range(1, 12):
            log_joint = mixture.log_joint(np.ones((n, 4)))
            assert np.isneginf(log_joint[:, 0]).all()
            assert np.isfinite(log_joint[:, 1:]).all()


@given(mixtures(), seeds, st.booleans())
def test_moments_and_evidence_by_brute_force(mixture, seed, weighted):
    rows = rows_of(mixture, seed, n=50, weighted=weighted)
    X, w = rows.X, np.ones(50) if rows.weight is None else rows.weight
    log_joint = mixture.log_joint(X)
    evidence = logsumexp(log_joint, axis=1)
    r = np.exp(log_joint - evidence[:, None]) * w[:, None]
    result = expectation(mixture, rows)
    np.testing.assert_allclose(result.evidence, w @ evidence)
    np.testing.assert_allclose(result.total, w.sum())
    np.testing.assert_allclose(result.moments.count, r.sum(0))
    first = np.einsum("nk,nki->ki", r, X[:, None, :] - mixture.means)
    np.testing.assert_allclose(result.moments.about(mixture.means).first, first, atol=1e-9)
    differences = X[:, None, :] - result.moments.means
    scatter = np.einsum("nk,nki,nkj->kij", r, differences, differences) / r.sum(0)[:, None, None]
    if result.moments.second.ndim == 2:
        scatter = np.diagonal(scatter, axis1=1, axis2=2)
    if mixture.covariance.name == "factor_analytic":
        along = scatter @ result.moments.directions.transpose(0, 2, 1)
        variances = np.diagonal(scatter, axis1=1, axis2=2)
        expected = np.concatenate([along, variances[:, :, None]], axis=2)
    else:
        expected = mixture.covariance.pool(scatter, r.sum(0))
    actual = shared_covariances(mixture.covariance, result.moments)
    np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-8)


@given(mixtures(), seeds, st.integers(1, 199))
def test_parts_add_up_to_the_whole(mixture, seed, cut):
    rows = rows_of(mixture, seed)
    parts = [
        replace(rows, X=rows.X[s], weight=rows.weight[s]) for s in (slice(cut), slice(cut, None))
    ]
    whole = reduce(add, (expectation(mixture, part) for part in parts))
    assert_same_expectation(mixture, whole, expectation(mixture, rows), 1e-10)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_block_size_does_not_matter(size, monkeypatch):
    mixture = unit_mixture("full")
    rows = rows_of(mixture, 1)
    whole = expectation(mixture, rows)
    monkeypatch.setattr(module, "_FEWEST_ROWS", size)
    monkeypatch.setattr(module, "_MOST_ROWS", size)
    assert_same_expectation(mixture, expectation(mixture, rows), whole, 1e-10)


@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
def test_the_number_of_threads_does_not_change_a_bit(structure):
    mixture = unit_mixture(structure)
    rows = rows_of(mixture, 1, n=100_000)
    results = []
    for n_threads in (1, 2, 3):
        with limited(n_threads):
            results.append(expectation(mixture, rows))
    for other in results[1:]:
        assert other.evidence == results[0].evidence
        np.testing.assert_array_equal(other.moments.second, results[0].moments.second)


@given(mixtures(structure=matrices), seeds)
def test_given_responsibilities_make_the_moments_they_say(mixture, seed):
    rng = np.random.default_rng(seed)
    rows = rows_of(mixture, seed, n=40)
    r = rng.dirichlet(np.ones(len(mixture.weights)), 40)
    unit = type(mixture.covariance).identity(len(mixture.weights), rows.X.shape[1])
    moments = moments_given(r, unit, rows)
    np.testing.assert_allclose(moments.count, r.T @ rows.weight)
    expected = (r * rows.weight[:, None]).T @ rows.X / (r.T @ rows.weight)[:, None]
    np.testing.assert_allclose(moments.means, expected, rtol=1e-8, atol=1e-8)
    for k, covariance in enumerate(moments.covariances):
        scatter = np.atleast_2d(np.cov(rows.X.T, aweights=r[:, k] * rows.weight, ddof=0))
        scatter = scatter if moments.second.ndim == 3 else np.diag(scatter)
        np.testing.assert_allclose(covariance, scatter, rtol=1e-6, atol=1e-9)
