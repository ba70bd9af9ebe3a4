"""Factors of small matrices: by the kernel at every vector width, and by LAPACK."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skemvae.core.arrays import EPS
from skemvae.kernel import native
from skemvae.kernel.small_matrices import factorise, relate, restore, symmetric, unwhiten
from tests.strategies import seeds

levels = st.sampled_from([None, *native.LEVELS])
sizes = st.tuples(st.integers(1, 19), st.integers(1, 13))


@pytest.fixture(autouse=True)
def _restore_level():
    before = native.level
    yield
    native.level = before


def positive_definite(k, d, rng):
    """Matrices of condition up to 1e8, in units from 1e-60 to 1e60."""
    spread = rng.standard_normal((k, d, d + 1)) * 10 ** rng.uniform(-2, 2, (k, 1, d + 1))
    scale = 10 ** rng.uniform(-30, 30, (k, d))
    matrices = spread @ spread.transpose(0, 2, 1) + 1e-4 * np.eye(d)
    return scale[:, :, None] * matrices * scale[:, None, :]


@given(sizes, seeds, levels)
def test_factors_make_the_matrices_and_their_inverses(size, seed, level):
    matrices = positive_definite(*size, np.random.default_rng(seed))
    native.level = level
    lower, upper, unexplained = factorise(matrices)
    assert (np.triu(lower, 1) == 0).all()
    assert (np.tril(upper, -1) == 0).all()
    deviations = np.sqrt(np.einsum("kii->ki", matrices))
    errors = np.abs(lower @ lower.transpose(0, 2, 1) - matrices)
    assert (errors <= 50 * EPS * deviations[:, :, None] * deviations[:, None, :]).all()
    identity = upper.transpose(0, 2, 1) @ lower
    # The size of the terms that cancel.
    terms = np.abs(upper.transpose(0, 2, 1)) @ np.abs(lower)
    assert (np.abs(identity - np.eye(size[1])) <= 50 * EPS * terms).all()
    parts = np.einsum("kii->ki", lower) ** 2 / np.einsum("kii->ki", matrices)
    np.testing.assert_allclose(unexplained, parts.min(), rtol=1e-10)


@given(sizes, seeds, levels, st.data())
def test_a_matrix_that_is_not_positive_definite_leaves_nothing_unexplained(size, seed, level, data):
    rng = np.random.default_rng(seed)
    matrices = positive_definite(*size, rng)
    k = data.draw(st.integers(0, size[0] - 1))
    i = data.draw(st.integers(0, size[1] - 1))
    matrices[k, i, i] *= data.draw(st.sampled_from([0.0, -1.0, np.nan, np.inf, -np.inf]))
    native.level = level
    assert not factorise(matrices).unexplained > 0


@given(sizes, seeds, levels)
def test_moments_of_whitened_rows_become_those_of_the_rows(size, seed, level):
    k, d = size
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.standard_normal((k, d, d)))
    sums = rng.standard_normal((k, 1 + d + d * d))
    whitened = np.tril(sums[:, 1 + d :].reshape(k, d, d))
    sums[:, 1 + d :] = whitened.reshape(k, -1)
    native.level = level
    first, second = unwhiten(lower, sums)
    np.testing.assert_allclose(first, np.einsum("kij,kj->ki", lower, sums[:, 1 : 1 + d]))
    expected = np.einsum("kij,kjl,kml->kim", lower, symmetric(whitened), lower)
    np.testing.assert_allclose(second, expected, atol=1e-12)
    assert (second == second.transpose(0, 2, 1)).all() or level is None


@pytest.mark.parametrize("level", [None, *native.LEVELS])
def test_arrays_of_any_layout_are_read(level):
    native.level = level
    matrix = np.array([[2.0, 1.0], [1.0, 3.0]])
    for matrices in (
        np.broadcast_to(matrix, (3, 2, 2)),
        np.asfortranarray(np.tile(matrix, (3, 1, 1))),
        np.tile(matrix, (3, 1, 1)).astype(np.float32),
    ):
        expected = np.broadcast_to(np.linalg.cholesky(matrix), (3, 2, 2))
        np.testing.assert_allclose(factorise(matrices).lower, expected, rtol=1e-15)


@pytest.mark.parametrize("level", [None, *native.LEVELS])
@pytest.mark.parametrize("d", [63, 64, 65])
def test_many_rows(d, level):
    rng = np.random.default_rng(d)
    matrices = positive_definite(9, d, rng)
    native.level = None
    expected = factorise(matrices)
    native.level = level
    lower, upper, unexplained = factorise(matrices)
    np.testing.assert_allclose(lower, expected.lower, rtol=1e-9, atol=1e-9 * np.abs(lower).max())
    np.testing.assert_allclose(unexplained, expected.unexplained, rtol=1e-6)
    again = restore(lower, relate(upper, lower))
    scale = np.sqrt(np.einsum("kii->ki", matrices))
    assert (np.abs(again - matrices) <= 1e-9 * scale[:, :, None] * scale[:, None, :]).all()


@given(sizes, seeds, levels)
@example((19, 8), 1018, next(iter(native.LEVELS), None))
def test_coordinates_of_factors_and_the_way_back(size, seed, level):
    rng = np.random.default_rng(seed)
    k, d = size
    native.level = level
    origin = factorise(positive_definite(*size, rng))
    factors = np.tril(0.5 * rng.standard_normal((k, d, d)), -1)
    factors[:, np.arange(d), np.arange(d)] = np.exp(rng.standard_normal((k, d)))
    lower = origin.lower @ factors
    coordinates = relate(origin.upper, lower)
    diagonal = factors.diagonal(axis1=1, axis2=2)
    unit = (factors / diagonal[:, None, :])[:, *np.tril_indices(d, -1)]
    # The origin is as ill-conditioned as its matrices.
    np.testing.assert_allclose(coordinates[:, :d], np.log(diagonal), atol=1e-9)
    np.testing.assert_allclose(coordinates[:, d:], unit, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(relate(origin.upper, origin.lower), 0, atol=1e-9)
    expected = lower @ lower.transpose(0, 2, 1)
    scale = np.sqrt(np.einsum("kii->ki", expected))
    errors = np.abs(restore(origin.lower, coordinates) - expected)
    assert (errors <= 1e-6 * scale[:, :, None] * scale[:, None, :]).all()
    same = restore(origin.lower, np.zeros_like(coordinates))
    expected = origin.lower @ origin.lower.transpose(0, 2, 1)
    scale = np.sqrt(np.einsum("kii->ki", expected))
    # A covariance may be a small difference of large products.
    errors = np.abs(same - expected)
    assert (errors <= 1e-13 * scale[:, :, None] * scale[:, None, :]).all()
