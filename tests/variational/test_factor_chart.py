"""Coordinates of factor models: there and back, and M steps that are gradients of the bound."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skemvae.posteriors.gaussians import FullGaussian
from skemvae.variational.factor_ascent import FactorAscent
from skemvae.variational.factor_bound import LogJoint
from tests.laws import costly
from tests.posteriors.test_expectations import BLOCKS, factors_of
from tests.posteriors.test_full_gaussian import drawn as drawn_q
from tests.strategies import seeds

few = costly(25)
every_block = pytest.mark.parametrize("kinds", BLOCKS.values(), ids=BLOCKS)


def somewhere(kinds, seed):
    """A state with q anywhere, its chart, and the bound in nats per row at that q."""
    factors, u, weight, points = factors_of(kinds, seed, n=20)
    q = drawn_q(seed, len(u), 2)
    q = FullGaussian(0.2 * q.mean, 4 * q.precision_cholesky)
    state = FactorAscent(u, weight, points, 0.0)._climb(factors, q, n_steps=0)

    def bound(place):
        value = LogJoint(place.factors, u, points)(place.q).value + place.q.entropy
        return float(weight @ value / weight.sum())

    return state, state.chart(), bound


@every_block
@given(seed=seeds, length=st.floats(0, 3))
@few
def test_there_and_back(kinds, seed, length):
    state, chart, bound = somewhere(kinds, seed)
    origin = chart.coordinates(state.model)
    np.testing.assert_array_equal(origin, 0)
    coordinates = length * np.random.default_rng(seed).standard_normal(origin.shape)
    place = chart.model(coordinates, state.model)
    np.testing.assert_allclose(chart.coordinates(place), coordinates, rtol=1e-5, atol=1e-7)
    assert place.q is state.q
    assert bound(chart.model(origin, state.model)) == pytest.approx(state.bound, rel=1e-9, abs=1e-9)


@every_block
@given(seed=seeds)
@few
def test_the_m_step_is_the_gradient_of_the_bound(kinds, seed):
    """Where no step of a likelihood's own parameter is too long."""
    state, chart, bound = somewhere(kinds, seed)
    gradient = chart.coordinates(state.maximised)
    directions = np.random.default_rng(seed).standard_normal((5, gradient.size))
    if any(float(sums.step.abs().max()) >= 1 for sums in state._of_heads):
        return
    h = 1e-5
    for direction in directions:
        there, back = (chart.model(sign * h * direction, state.model) for sign in (1, -1))
        slope = (bound(there) - bound(back)) / (2 * h)
        size = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert slope == pytest.approx(gradient @ direction, rel=1e-3, abs=1e-4 * (1e-3 + size))


@every_block
@given(seed=seeds)
@few
def test_another_scale_of_z_is_a_better_place_with_sums_of_its_own(kinds, seed):
    """The state that a change of scale makes of another one is that which a look at it finds."""
    state, _, bound = somewhere(kinds, seed)
    ascent = state.ascent
    expected = LogJoint(state.factors, ascent._u, ascent._points)
    sums = expected.newton_sums(state.q, expected(state.q), ascent._weight)
    assert bound(state) == pytest.approx(state.bound, rel=1e-9, abs=1e-9)
    for found, computed in zip(state.sums, sums, strict=True):
        for each, other in zip(found, computed, strict=True):
            torch.testing.assert_close(each, other, rtol=1e-6, atol=1e-8 * float(other.abs().max()))
    share = ascent._weight / ascent.total
    torch.testing.assert_close(share @ state.q.mean, torch.zeros(2).double(), rtol=0, atol=1e-9)
    second = state.q.covariance + state.q.mean[:, :, None] * state.q.mean[:, None, :]
    second = (share[:, None, None] * second).sum(0)
    torch.testing.assert_close(second, torch.eye(2).double(), rtol=0, atol=1e-9)
    assert ascent._rescaled(state).bound == pytest.approx(state.bound, rel=1e-9, abs=1e-9)


@given(seeds)
@few
def test_no_way_lowers_the_bound(seed):
    state, _, _ = somewhere(BLOCKS["others"], seed)
    assert state.ascent.start(state.model).bound >= state.bound - 1e-9
    assert state.ascent.step(state).bound >= state.bound


def test_beyond_floating_point_there_is_nothing():
    state, chart, _ = somewhere(BLOCKS["separable"], 0)
    far = np.full_like(chart.coordinates(state.model), np.inf)
    assert chart.model(far, state.model) is None
