"""Limited-memory BFGS, by the kernel at every vector width and by NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skemvae.engine.climbs.quasi_newton import Memory
from skemvae.kernel import native
from tests.strategies import seeds

levels = st.sampled_from([None, *native.LEVELS])


@pytest.fixture(autouse=True)
def _restore_level():
    before = native.level
    yield
    native.level = before


def quadratic(p, rng):
    """The Hessian of a bowl, with eigenvalues between 0.01 and 1."""
    axes, _ = np.linalg.qr(rng.standard_normal((p, p)))
    return (axes * 10 ** rng.uniform(-2, 0, p)) @ axes.T


def remember(memory, hessian, moves):
    for move in moves:
        bend = hessian @ move
        memory.add(move, bend, move @ bend, (move @ bend) / (move @ move))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 25), seeds, levels)
def test_a_step_is_that_of_the_updates_written_out(p, capacity, n_moves, seed, level):
    rng = np.random.default_rng(seed)
    hessian, moves = quadratic(p, rng), rng.standard_normal((n_moves, p))
    memory, gradient = Memory(capacity, p), rng.standard_normal(p)
    remember(memory, hessian, moves)
    inverse = np.eye(p)
    for move in moves[-capacity:]:  # BFGS on matrices; what is older is forgotten
        bend = hessian @ move
        keep = np.eye(p) - np.outer(bend, move) / (move @ bend)
        inverse = keep.T @ inverse @ keep + np.outer(move, move) / (move @ bend)
    native.level = level
    before = gradient.copy()
    step = memory.newton_step(gradient)
    scale = np.abs(inverse).max() * np.abs(gradient).max()
    np.testing.assert_allclose(step, inverse @ gradient, rtol=1e-8, atol=1e-8 * scale)
    np.testing.assert_array_equal(gradient, before)
    assert len(memory) == min(capacity, n_moves)
    if n_moves:
        rates = [(m @ hessian @ m) / (m @ m) for m in moves[-capacity:]]
        assert memory.slowest_rate == pytest.approx(min(rates))
        # The last pair is explained exactly.
        explained = memory.newton_step(hessian @ moves[-1])
        np.testing.assert_allclose(explained, moves[-1], rtol=1e-6, atol=1e-6 * scale)
