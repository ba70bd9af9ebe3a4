"""The loop of every fit, which a stopping rule, a callback, a limit or the user ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from skemvae.core.arrays import EPS

# Bounds with a smaller relative difference count as equal.
_TIE = 1e-8
# Early gains shrink fast, since they come from the fast directions. So assume that an iteration
# closes at most this share of the remaining gap, or less if the gains show that.
SLOWEST_RATE = 0.01


class Status(StrEnum):
    """How a loop ended."""

    CONVERGED = "converged"
    MAX_ITER = "max_iter"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped_by_callback"
    DIVERGED = "diverged"
    ONGOING = "ongoing"  # the caller runs the loop


class DivergenceError(FloatingPointError):
    """Raised by a step that finds no finite bound."""


class State(Protocol):
    """Parameters, and the bound *at these parameters*."""

    @property
    def bound(self) -> float:
        """Nats per sample."""


S = TypeVar("S", bound=State)


class StoppingRule(Protocol):
    """Decides from the history of the bound whether the loop has converged."""

    def __call__(self, bounds: Sequence[float]) -> bool: ...


def remaining_gain(bounds: Sequence[float], slowest_rate: float = 1.0) -> float:
    """Estimate from the last three bounds how much a fit can still gain, nats per sample.

    EM converges linearly: each gain is a times the one before, so g a / (1 - a)
    remains after the gain g. The estimate is infinite if the gains do not shrink.

    Parameters
    ----------
    bounds : sequence of float
    slowest_rate : float, default=1.0
        Take a to be at least 1 - ``slowest_rate``: the first gains come from the
        fast directions and do not show the slow ones.

    References
    ----------
    Boehning et al. (1994), "The distribution of the likelihood ratio for
    mixtures of densities from the one-parameter exponential family";
    McLachlan and Peel (2000), "Finite Mixture Models", section 2.11.
    """
    if len(bounds) < 3:
        return np.inf
    first, middle, last = bounds[-3:]
    previous, gain = middle - first, last - middle
    if abs(gain) <= 8 * EPS * max(1.0, abs(last)):  # rounding
        return 0.0
    if not 0 < gain < previous:
        return np.inf
    factor = max(gain / previous, 1 - slowest_rate)
    return gain * factor / (1 - factor)


@dataclass(frozen=True)
class Aitken:
    """Stop when the estimated remaining gain is below ``tol``.

    A rule that compares the last gain with a tolerance stops too early if gains
    shrink slowly.
    """

    tol: float
    slowest_rate: float = 1.0

    def __call__(self, bounds: Sequence[float]) -> bool:
        return remaining_gain(bounds, self.slowest_rate) < self.tol


@dataclass(frozen=True)
class Patience:
    """Stop when a noisy bound no longer rises; it may fall in between.

    At a plateau, the mean of the last bounds is at most ``tol`` above the mean
    of as many before, both since the last plateau. It compares means, since a
    lucky maximum might never be reached again. Each mean is over ``n_iter``
    bounds, or over a quarter of those since the last plateau if that is more, up
    to ``3 * n_iter``: the longer a fit has run, the slower are its gains.

    The fit changes something at a plateau, such as the learning rate. The loop
    ends at a plateau if that has not raised the best bound by more than ``tol``.

    Parameters
    ----------
    n_iter : int
    tol : float
        Nats per sample.
    burn_in : int, default=0
        How many of the first iterations to ignore.
    n_plateaus : int, default=1
        The loop does not end before this many plateaus.
    """

    n_iter: int
    tol: float
    burn_in: int = 0
    n_plateaus: int = 1

    def plateaus(self, bounds: Sequence[float]) -> list[int]:
        """The numbers of bounds after which there was a plateau."""
        found, start = list[int](), self.burn_in
        total = np.concatenate([[0.0], np.cumsum(bounds)])
        for end in range(self.burn_in + 2 * self.n_iter, len(bounds) + 1):
            n = min(max(self.n_iter, (end - start) // 4), 3 * self.n_iter)
            earlier, last = total[end - n] - total[end - 2 * n], total[end] - total[end - n]
            if end >= start + 2 * n and last - earlier <= n * self.tol:
                found.append(end)
                start = end
        return found

    def __call__(self, bounds: Sequence[float]) -> bool:
        found = self.plateaus(bounds)
        if len(found) < self.n_plateaus:
            return False
        if len(found) < 2:
            return True
        before, last = (max(bounds[self.burn_in : end]) for end in found[-2:])
        return last <= before + self.tol


@dataclass(frozen=True)
class Result(Generic[S]):
    """The result of a loop.

    Attributes
    ----------
    state : State
        The last state reached.
    bounds : tuple of float
        The bound at the start and after each iteration, nats per sample:
        ``bounds[i]`` belongs to the parameters after i iterations, and
        ``bounds[-1]`` to ``state``.
    status : Status
    n_iter : int
        The number of iterations in this loop.
    """

    state: S
    bounds: tuple[float, ...]
    status: Status
    n_iter: int


class Ascent(Protocol[S]):
    """The starts and steps of a fit on given data."""

    @property
    def accelerable(self) -> Any:
        """The EM that an ``Accelerator`` can speed up, or None."""

    def starts(self, n_init: int) -> Iterator[tuple[S, bool]]:
        """Yield at most ``n_init`` starts, each with whether the user has interrupted it.

        An ascent that can recognise poor starts early leaves them out.
        """

    def step(self, state: S) -> S:
        """Take one iteration; the bound does not fall."""

    def jump(self, state: S) -> S | None:
        """A better state that steps cannot reach, or None."""

    def prefers(self, state: S, other: S) -> bool:
        """Whether a state is better than one from another start."""


class Fit(ABC):
    """An ascent that turns its states into fitted models."""

    accelerable: Any = None

    @abstractmethod
    def start(self) -> tuple[Any, bool]:
        """Make a new start at each call, and say whether the user has interrupted it."""

    def starts(self, n_init: int) -> Iterator[tuple[Any, bool]]:
        """Make ``n_init`` starts, one after the other."""
        return (self.start() for _ in range(n_init))

    @abstractmethod
    def step(self, state: Any) -> Any:
        """Take one iteration, as ``Ascent.step``."""

    def jump(self, state: Any) -> Any:
        """Return None: there is nowhere to jump to."""
        return None

    def prefers(self, state: Any, other: Any) -> bool:
        """Whether the bound is better, by more than rounding."""
        return bool(state.bound > other.bound + _TIE * max(1.0, abs(other.bound)))

    @abstractmethod
    def fitted(self, state: Any) -> Any:
        """The model with its parameters set, in the units of the data."""

    def doubts(self, result: Result[Any], names: Sequence[Any]) -> Iterable[str]:
        """Warnings about a fit that succeeded."""
        return ()


def iterate(
    step: Callable[[S], S],
    state: S,
    *,
    stop: StoppingRule,
    max_iter: int,
    jump: Callable[[S], S | None] | None = None,
    on_step: Callable[[Result[S]], bool] | None = None,
    history: Sequence[float] = (),
) -> Result[S]:
    """Repeat ``state = step(state)`` until something ends the loop.

    Parameters
    ----------
    step : callable
        One iteration.
    state : State
        The start.
    stop : StoppingRule
        Called with the bounds after each iteration.
    max_iter : int
    jump : callable, optional
        Called when the loop would end. It returns a better state that steps cannot
        reach, from which the loop continues, or None to end the loop.
    on_step : callable, optional
        Called with the result so far after each iteration; a true value
        stops the loop.
    history : sequence of float
        Bounds of an earlier loop that this one continues.

    Returns
    -------
    Result
        A KeyboardInterrupt or a DivergenceError ends the loop with the last
        complete state.
    """
    result = Result(state, (*history, state.bound), Status.MAX_ITER, 0)
    try:
        origin = state
        since = 0  # bounds before a jump do not show how the fit converges after it
        for n_iter in range(1, max_iter + 1):
            state = step(origin)
            # A single assignment, so an interrupt finds either the old result or the new one.
            result = Result(state, (*result.bounds, state.bound), Status.MAX_ITER, n_iter)
            if on_step is not None and on_step(result):
                return replace(result, status=Status.STOPPED)
            origin = state
            if stop(result.bounds):
                better = None if jump is None else jump(state)
                if better is not None:
                    origin, since = better, len(result.bounds)
                elif stop(result.bounds[since:]):
                    return replace(result, status=Status.CONVERGED)
    except KeyboardInterrupt:
        return replace(result, status=Status.INTERRUPTED)
    except DivergenceError:
        return replace(result, status=Status.DIVERGED)
    return result


def conclude(
    result: Result[S], keep: Callable[[Result[S]], object], look_back: Callable[[], object]
) -> Result[S]:
    """Keep the result of a loop, then compute the closing statistics of the fit.

    Parameters
    ----------
    result : Result
    keep : callable
        Stores the result.
    look_back : callable
        Optional passes over the rows, for the statistics.

    Returns
    -------
    Result
        If the user interrupts, its status says so; the result is still kept, and
        the statistics are left out.
    """
    try:
        keep(result)
        look_back()
    except KeyboardInterrupt:
        result = replace(result, status=Status.INTERRUPTED)
        keep(result)
    return result
