"""The one loop: repeat a step until a rule, a callback, the limit or the user says stop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from skemvae.core.arrays import EPS

# Bounds that differ by less, relatively, are equal.
_TIE = 1e-8
# Gains of a climb that has just begun shrink fast, since they come from its fast directions. So no
# climb is believed to lose more than its share of what is left in a step, unless it shows slower.
SLOWEST_RATE = 0.01


class Status(StrEnum):
    """How a loop ended."""

    CONVERGED = "converged"
    MAX_ITER = "max_iter"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped_by_callback"
    DIVERGED = "diverged"
    ONGOING = "ongoing"  # not by itself: the loop is the caller's


class DivergenceError(FloatingPointError):
    """Raised by a step that finds no finite bound to go on with."""


class State(Protocol):
    """Parameters together with the bound *at these parameters*."""

    @property
    def bound(self) -> float:
        """Nats per sample."""


S = TypeVar("S", bound=State)


class StoppingRule(Protocol):
    """Decides from the history of the bound whether the loop has converged."""

    def __call__(self, bounds: Sequence[float]) -> bool: ...


def remaining_gain(bounds: Sequence[float], slowest_rate: float = 1.0) -> float:
    """What a climb that gave the last three bounds may still gain, nats per sample.

    EM converges linearly: the gains shrink by a factor a, so what remains
    after the gain g is g a / (1 - a). Infinite where gains do not shrink.

    Parameters
    ----------
    bounds : sequence of float
    slowest_rate : float, default=1.0
        Take a to be at least 1 - ``slowest_rate``: the first gains come from the
        fast directions, and say nothing of the slow ones.

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
    """Stop when the gain that remains is estimated to be below ``tol``.

    Comparing the last gain itself with a tolerance stops too early wherever
    gains shrink slowly.
    """

    tol: float
    slowest_rate: float = 1.0

    def __call__(self, bounds: Sequence[float]) -> bool:
        return remaining_gain(bounds, self.slowest_rate) < self.tol


@dataclass(frozen=True)
class Patience:
    """Stop when a noisy bound does not rise any more; it may fall in between.

    At a plateau the mean of the last bounds is not more than ``tol`` above the
    mean of as many before, both since the last plateau. Means, since a lucky
    maximum would be waited for in vain. They are of ``n_iter`` bounds each, of a
    quarter of the climb where that is longer, up to three times as many: the
    longer a climb has taken, the slower are the gains that are still to come.

    Whoever climbs changes something at a plateau, such as a rate. The loop ends
    at one where that has not raised the best bound by more than ``tol``.

    Parameters
    ----------
    n_iter : int
    tol : float
        Nats per sample.
    burn_in : int, default=0
        The first iterations do not count.
    n_plateaus : int, default=1
        At least how many end the loop.
    """

    n_iter: int
    tol: float
    burn_in: int = 0
    n_plateaus: int = 1

    def plateaus(self, bounds: Sequence[float]) -> list[int]:
        """After how many bounds there were plateaus."""
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
    """What a loop returns.

    Attributes
    ----------
    state : State
        The last one reached.
    bounds : tuple of float
        The bound at the start and after each iteration, nats per sample:
        ``bounds[i]`` belongs to the parameters after i iterations, and
        ``bounds[-1]`` to ``state``.
    status : Status
    n_iter : int
        Iterations done in this loop.
    """

    state: S
    bounds: tuple[float, ...]
    status: Status
    n_iter: int


class Ascent(Protocol[S]):
    """What a fit repeats, on the data it was made for."""

    @property
    def accelerable(self) -> Any:
        """The EM that an ``Accelerator`` may help, or None."""

    def starts(self, n_init: int) -> Iterator[tuple[S, bool]]:
        """At most so many starts, each with whether the user asked to stop meanwhile.

        An ascent that can tell early which of them are the worse ones leaves these out.
        """

    def step(self, state: S) -> S:
        """One iteration; the bound does not fall."""

    def jump(self, state: S) -> S | None:
        """A better state that steps do not reach, or None."""

    def prefers(self, state: S, other: S) -> bool:
        """Whether a state is better than one from another start."""


class Fit(ABC):
    """An ascent that makes fitted models of its states."""

    accelerable: Any = None

    @abstractmethod
    def start(self) -> tuple[Any, bool]:
        """A start, another one at each call, and whether the user asked to stop meanwhile."""

    def starts(self, n_init: int) -> Iterator[tuple[Any, bool]]:
        """One after the other."""
        return (self.start() for _ in range(n_init))

    @abstractmethod
    def step(self, state: Any) -> Any:
        """As ``Ascent``."""

    def jump(self, state: Any) -> Any:
        """Nowhere."""
        return None

    def prefers(self, state: Any, other: Any) -> bool:
        """The better bound; starts that lead to the same place tie, whatever rounding says."""
        return bool(state.bound > other.bound + _TIE * max(1.0, abs(other.bound)))

    @abstractmethod
    def fitted(self, state: Any) -> Any:
        """The model with its parameters set, in the units of the data."""

    def doubts(self, result: Result[Any], names: Sequence[Any]) -> Iterable[str]:
        """What a user should be told of a fit that succeeded."""
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
    """Repeat ``state = step(state)``.

    Parameters
    ----------
    step : callable
        One iteration.
    state : State
        The start.
    stop : StoppingRule
        Asked after each iteration.
    max_iter : int
    jump : callable, optional
        Asked for a better state, out of reach of small steps, when the loop
        would end; the next step begins there. None ends the loop.
    on_step : callable, optional
        Called with the result so far after each iteration; a true answer
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
        since = 0  # the bounds before do not tell how a climb after a jump converges
        for n_iter in range(1, max_iter + 1):
            state = step(origin)
            # One assignment: an interrupt finds the old result or the new one.
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
    """Keep the result of a loop, then take the statistics that close the fit.

    Parameters
    ----------
    result : Result
    keep : callable
        Sets what has been reached.
    look_back : callable
        A pass over the rows, or several, that the fit can do without.

    Returns
    -------
    Result
        Interrupted, if the user asks to stop meanwhile: what has been reached is
        kept all the same, and the statistics are left out.
    """
    try:
        keep(result)
        look_back()
    except KeyboardInterrupt:
        result = replace(result, status=Status.INTERRUPTED)
        keep(result)
    return result
