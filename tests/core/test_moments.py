"""Moments are a commutative monoid, wherever their origins lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skemvae.core.moments import Moments
from tests.strategies import seeds

diagonals = st.booleans()


def moments_of(X, r, origin, diagonal):
    differences = X[:, None, :] - origin
    second = (
        np.einsum("nk,nki,nki->ki", r, differences, differences)
        if diagonal
        else np.einsum("nk,nki,nkj->kij", r, differences, differences)
    )
    return Moments(r.sum(0), origin, np.einsum("nk,nki->ki", r, differences), second)


def draw(seed, offset=0.0, n=30, d=3, k=2):
    rng = np.random.default_rng(seed)
    X = offset + rng.standard_normal((n, d))
    return X, rng.dirichlet(np.ones(k), n), offset + rng.standard_normal((3, k, d))


def assert_same(a, b, tolerance=1e-10):
    b = b.about(a.origin)
    for name in ("count", "first", "second"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance)


@given(seeds, diagonals)
def test_addition_is_associative_and_commutative_across_origins(seed, diagonal):
    X, r, origins = draw(seed)
    a, b, c = (moments_of(X[i::3], r[i::3], origins[i], diagonal) for i in range(3))
    assert_same((a + b) + c, a + (b + c))
    assert_same(a + b, b + a)
    assert_same(a + b + c, moments_of(X, r, origins[0], diagonal))


@given(seeds, diagonals, st.floats(0, 10))
def test_scaling_is_scaling_of_weights(seed, diagonal, factor):
    X, r, origins = draw(seed)
    scaled = factor * moments_of(X, r, origins[0], diagonal)
    assert_same(scaled, moments_of(X, factor * r, origins[0], diagonal))


@given(seeds, diagonals)
def test_means_and_covariances_are_those_of_the_rows(seed, diagonal):
    X, r, origins = draw(seed)
    moments = moments_of(X, r, origins[0], diagonal)
    for k in range(r.shape[1]):
        mean = np.average(X, axis=0, weights=r[:, k])
        covariance = np.cov(X.T, aweights=r[:, k], ddof=0)
        np.testing.assert_allclose(moments.means[k], mean)
        expected = np.diag(covariance) if diagonal else covariance
        np.testing.assert_allclose(moments.covariances[k], expected, atol=1e-12)


@pytest.mark.parametrize("diagonal", [False, True])
def test_an_offset_of_1e8_costs_no_digit(diagonal):
    X, r, origins = draw(0, offset=1e8)
    near, _, _ = draw(0)
    here = moments_of(X, r, origins[0], diagonal)
    there = moments_of(X - 1e8, r, origins[0] - 1e8, diagonal)
    np.testing.assert_allclose(here.covariances, there.covariances, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(X - 1e8, near, atol=1e-7)


@pytest.mark.parametrize("diagonal", [False, True])
def test_an_empty_component_keeps_its_origin(diagonal):
    X, r, origins = draw(0)
    r[:, 0], r[:, 1] = 0.0, 1.0
    moments = moments_of(X, r, origins[0], diagonal)
    assert moments.counted.tolist() == [False, True]
    np.testing.assert_array_equal(moments.means[0], origins[0][0])
    assert np.isfinite(moments.covariances).all()
