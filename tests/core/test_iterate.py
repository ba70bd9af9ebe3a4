"""The loop: its history, its ends, and the stopping rule of EM."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skemvae.core.iterate import Aitken, Status, iterate, remaining_gain


@dataclass(frozen=True)
class Climb:
    """A bound that converges linearly to 0."""

    bound: float = -1.0
    ratio: float = 0.5

    def step(self):
        return Climb(self.bound * self.ratio, self.ratio)


def never(bounds):
    return False


@given(st.integers(0, 20))
def test_the_history_has_the_start_and_every_iteration(max_iter):
    result = iterate(Climb.step, Climb(), stop=never, max_iter=max_iter)
    assert result.bounds == tuple(-(0.5**i) for i in range(max_iter + 1))
    assert result.state.bound == result.bounds[-1]
    assert (result.status, result.n_iter) == (Status.MAX_ITER, max_iter)


@given(st.floats(0.1, 0.999), st.floats(-9, -2))
def test_aitken_stops_when_what_remains_is_below_the_tolerance(ratio, log_tolerance):
    """On a linearly converging bound the estimate is exact."""
    tolerance = 10**log_tolerance
    result = iterate(Climb.step, Climb(ratio=ratio), stop=Aitken(tolerance), max_iter=10**5)
    assert result.status is Status.CONVERGED
    assert -result.state.bound < tolerance * (1 + 1e-5)
    if result.n_iter > 2:
        assert -result.bounds[-2] > tolerance * (1 - 1e-5)


@given(st.floats(0.01, 0.9), st.floats(1e-3, 0.5))
def test_what_may_be_slower_than_it_seems_is_waited_for(ratio, slowest_rate):
    bounds = [-1.0, -ratio, -(ratio**2)]
    remaining = remaining_gain(bounds, slowest_rate)
    last_gain = ratio - ratio**2
    expected = max(ratio**2, last_gain * (1 - slowest_rate) / slowest_rate)
    np.testing.assert_allclose(remaining, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("bounds", "stops"),
    [
        ([0.0], False),
        ([0.0, 0.0], False),
        ([-1.0, 0.0, 0.0], True),  # nothing gained
        ([0.0, 1e-9, 2e-9], False),  # as fast as before: far from any limit
        ([0.0, 1e-9, 3e-9], False),  # a plateau that is being left
        ([0.0, 1e-3, 1e-3 - 1e-9], False),  # a fall is no convergence
    ],
)
def test_aitken_does_not_mistake_other_things_for_convergence(bounds, stops):
    assert Aitken(1e-3)(bounds) is stops
    assert Aitken(0.0)(bounds) is False


def test_a_callback_stops_the_loop():
    result = iterate(
        Climb.step, Climb(), stop=never, max_iter=9, on_step=lambda result: result.n_iter == 3
    )
    assert (result.status, result.n_iter) == (Status.STOPPED, 3)


def test_an_interrupt_keeps_the_last_complete_state():
    def step(state):
        if state.bound > -0.2:
            raise KeyboardInterrupt
        return state.step()

    result = iterate(step, Climb(), stop=never, max_iter=9)
    assert (result.status, result.n_iter) == (Status.INTERRUPTED, 3)
    assert result.state.bound == result.bounds[-1] == -0.125


def test_a_loop_continues_an_earlier_history():
    first = iterate(Climb.step, Climb(), stop=never, max_iter=4)
    second = iterate(Climb.step, first.state, stop=never, max_iter=3, history=first.bounds[:-1])
    whole = iterate(Climb.step, Climb(), stop=never, max_iter=7)
    np.testing.assert_array_equal(second.bounds, whole.bounds)
