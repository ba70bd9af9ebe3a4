"""Acceleration of EM: extrapolated steps that save passes, while the bound never falls."""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from skemvae.core.arrays import TINY, Array
from skemvae.core.chart import Movable
from skemvae.core.iterate import SLOWEST_RATE, Status, iterate, remaining_gain
from skemvae.engine.climbs.quasi_newton import Memory

# The number of pairs of steps to remember.
_MEMORY = 10
# A pair shows a curvature if its cosine exceeds rounding. Where the bound curves upwards, assume
# _UPWARD_RATE, so that an extrapolation equals a few EM steps.
_LEAST_COSINE, _UPWARD_RATE = 1e-8, 0.3
# The initial, largest and smallest trust radius. Half the square of a length is about a divergence
# between mixtures, in nats per row.
_RADIUS, _LARGEST_RADIUS, _SMALLEST_RADIUS = 0.5, 2.0, 1e-3
# The sample for a long fit has at least this many rows, and this many per free parameter; it may
# take up to _SAMPLE_ITERATIONS iterations.
_SAMPLE_ROWS, _SAMPLE_ROWS_PER_PARAMETER, _SAMPLE_ITERATIONS = 8192, 16, 50


class PointState(Protocol):
    """A state whose M step costs no pass over the data."""

    @property
    def model(self) -> Movable:
        """The parameters."""

    @property
    def maximised(self) -> Movable:
        """The parameters after the M step."""

    @property
    def bound(self) -> float:
        """Nats per sample."""


S = TypeVar("S", bound=PointState)


class Accelerable(Protocol[S]):
    """EM that an accelerator can speed up; each method takes one pass over the data."""

    def start(self, model: Any) -> S:
        """Take the E step at given parameters."""

    def step(self, state: S) -> S:
        """Take one iteration."""

    def sampled(self, size: int) -> Accelerable[S] | None:
        """The same EM on ``size`` representative rows, or None if that saves little."""


class Terrain(Generic[S]):
    """A local model of the bound, learned from successive states.

    In the coordinates of a ``Chart``, an EM step is to first order the gradient
    of the bound. So EM is steepest ascent there, with rates between 0 and 1: the
    eigenvalues of the observed share of the complete-data information. From
    pairs of states, limited-memory BFGS finds a better step.

    Parameters
    ----------
    other, state : PointState
        Two states near each other; the second is the origin of the coordinates.
    """

    def __init__(self, other: S, state: S):
        self._chart = state.model.chart()
        self._position = self._chart.coordinates(other.model)
        self._memory = Memory(_MEMORY, len(self._position))
        self._gradient = self._chart.coordinates(other.maximised) - self._position
        self._proposed: tuple[Movable, Array] = (state.model, np.zeros_like(self._position))
        self._upward = False
        self.visit(state)

    def visit(self, state: S) -> None:
        """Learn from the next state, unless squares overflow or underflow."""
        model, position = self._proposed
        if state.model is not model:
            position = self._chart.coordinates(state.model)
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = self._chart.coordinates(state.maximised) - position
            move, bend = position - self._position, self._gradient - gradient
            curvature, square, bent = float(move @ bend), float(move @ move), float(bend @ bend)
        if np.isfinite([curvature, bent]).all() and TINY <= square < np.inf:
            self._upward = curvature <= _LEAST_COSINE * sqrt(square) * sqrt(bent)
            rate = _UPWARD_RATE if self._upward else curvature / square
            if rate * square >= TINY:
                bend = bend + (rate - curvature / square) * move
                self._memory.add(move, bend, rate * square, rate)
        self._model, self._position, self._gradient = state.model, position, gradient

    @property
    def remaining_gain(self) -> float:
        """An estimate of the remaining gain from the slowest rate seen, nats per sample.

        A few steps do not show the slowest rates, so the rate is taken to be at most
        ``SLOWEST_RATE``. The estimate is infinite where the bound curves upwards.
        """
        if self._upward or not len(self._memory):
            return np.inf
        with np.errstate(over="ignore"):
            square = float(self._gradient @ self._gradient)
        return square / (2 * min(SLOWEST_RATE, self._memory.slowest_rate))

    def leap(self, radius: float) -> tuple[Movable | None, float]:
        """Parameters to try instead of an EM step, or None, and their distance."""
        leap = self._memory.newton_step(self._gradient)
        # Near a maximum, pairs are rounding errors, and products of their rates may overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            ascent = leap @ self._gradient
            length, plain = np.sqrt(leap @ leap), np.sqrt(self._gradient @ self._gradient)
        if not (len(self._memory) and ascent > 0 and length < np.inf):
            return None, 0.0
        shrinkage = min(1.0, max(radius, plain) / length)
        position = self._position + shrinkage * leap
        model: Movable | None = self._chart.model(position, self._model)
        if model is not None:
            self._proposed = model, position
        return model, float(shrinkage * length)


class Accelerator(Generic[S]):
    """EM as a quasi-Newton method, one pass over the data at a time, and its stopping rule.

    It begins with plain steps. If they show that a fit to a long table will take
    long, it fits a sample of the rows first. When gains shrink, it extrapolates
    steps. A proposal costs one pass, and is accepted only if the bound does not
    fall. Otherwise the state stays, and the accelerator forgets all pairs; the
    state and the rejected one form the first new pair. If the next proposal
    fails, too, plain steps follow, twice as many after each further failure in a
    row. So the bound never falls, and failures never cost much.

    Parameters
    ----------
    em : Accelerable
    tol : float
        Nats per sample.

    References
    ----------
    Jamshidian and Jennrich (1997), "Acceleration of the EM algorithm by using
    quasi-Newton methods"; Xu and Jordan (1996), "On convergence properties of
    the EM algorithm for Gaussian mixtures"; Akaike (1974), "A new look at the
    statistical model identification".
    """

    def __init__(self, em: Accelerable[S], tol: float):
        self._em = em
        self._tol = tol
        self._state: S | None = None
        self._radius = _RADIUS
        self._gain = 0.0
        self._sampled = False
        self._terrain: Terrain[S] | None = None
        # The last states connected by plain steps.
        self._plain: deque[S] = deque(maxlen=3)

    def step(self, state: S) -> S:
        """Take one pass over the data; return a better state, or the same one."""
        if state is not self._state:  # a start, or a jump
            self._begin(state)
        ahead = self._climb_on_sample(state)
        if ahead is not None:
            new = self._em.start(ahead)
            return self._begin(new) if new.bound >= state.bound else state
        if self._terrain is None and self._pause <= 0 and self._gains_shrink():
            self._terrain = Terrain(self._plain[-2], state)
        proposal, length = None, 0.0
        if self._terrain is not None:
            proposal, length = self._terrain.leap(self._radius)
        new = self._em.step(state) if proposal is None else self._em.start(proposal)
        self._gain = new.bound - state.bound
        if proposal is None:
            self._learn(new)
        elif self._gain >= 0:
            self._radius, self._failures = min(2 * self._radius, _LARGEST_RADIUS), 0
            self._plain.clear()
            self._learn(new)
        else:
            self._radius, self._failures = max(length / 4, _SMALLEST_RADIUS), self._failures + 1
            self._give_way(state, new)
            new = state
        self._state = new
        return new

    def has_converged(self, bounds: object) -> bool:
        """Whether the remaining gain and, after an extrapolation, the last gain are below ``tol``.

        The local model estimates what remains after an extrapolated step, Aitken's
        rule after plain ones. The history of the bound alone does not suffice.
        """
        if self._terrain is not None and len(self._plain) == 1:
            return 0 <= self._gain < self._tol and self._terrain.remaining_gain < self._tol
        return remaining_gain([state.bound for state in self._plain], SLOWEST_RATE) < self._tol

    def _climb_on_sample(self, state: S) -> Movable | None:
        """Fit a sample, at most once; return the model if it gains more than chance, else None.

        From the optimum of all rows, fitting only m of them gains about
        n_parameters / (2 m) nats per sample by chance (Akaike 1974).
        """
        if self._sampled or len(self._plain) < 3:
            return None
        self._sampled = True
        n_parameters = state.model.chart().n_parameters
        size = max(_SAMPLE_ROWS, _SAMPLE_ROWS_PER_PARAMETER * n_parameters)
        chance = n_parameters / (2 * size)
        if self._gain < chance / 4:
            return None
        sampled = self._em.sampled(size)
        if sampled is None:
            return None
        accelerator = Accelerator(sampled, max(self._tol, chance / 100))
        climb = iterate(
            accelerator.step,
            sampled.start(state.model),
            stop=accelerator.has_converged,
            max_iter=_SAMPLE_ITERATIONS,
        )
        if climb.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        gain = climb.bounds[-1] - climb.bounds[0]
        return climb.state.model if gain > 2 * chance else None

    def _begin(self, state: S) -> S:
        self._state, self._radius, self._failures = state, _RADIUS, 0
        self._begin_plain(state, 0)
        return state

    def _begin_plain(self, state: S, n_plain: int) -> None:
        self._terrain = None
        self._plain.clear()
        self._plain.append(state)
        self._pause = n_plain

    def _give_way(self, state: S, refused: S) -> None:
        if self._failures == 1:
            self._begin_plain(state, 0)
            self._terrain = Terrain(refused, state)
        else:
            self._begin_plain(state, 2 ** (self._failures - 2))

    def _learn(self, new: S) -> None:
        self._plain.append(new)
        self._pause -= 1
        if self._terrain is not None:
            self._terrain.visit(new)

    def _gains_shrink(self) -> bool:
        if len(self._plain) < 3:
            return False
        first, middle, last = (state.bound for state in self._plain)
        return 0 <= last - middle <= middle - first
