"""Starts of a Bayesian mixture with different numbers of components, and the best of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from skemvae.core.iterate import Aitken, Status, iterate
from skemvae.engine.starts.initialisation import Initialiser
from skemvae.mixtures.bayesian_mixture import BayesianMixture, State
from skemvae.models.bayesian_climb import Climb, is_better

# Starts are tried with each number of components up to _EACH, then with numbers that grow by the
# fraction _GROWTH.
_EACH, _GROWTH = 10, 1 / 4
# The best of their ends, this many, are also improved with splits.
_FINALISTS = 3
# Limits of an ascent: nats per sample that may be missing, and iterations.
_TOL, _MOST_ITERATIONS = 1e-2, 100
# Steps in which the prior adapts to the components of a start.
_STEPS = 10


@dataclass(frozen=True)
class Starts:
    """Ascents on a sketch of the table, from starts with one component and more.

    Starts with few components do not depend on ``n_components``, so a fit with a larger
    ``n_components`` ends no worse.

    Attributes
    ----------
    prior : BayesianMixture
        The mixture before it has seen any row, with the largest number of components.
    initialiser : Initialiser
        Its tournaments find the best start of exact EM.
    climb : Climb
        On the sketch.
    """

    prior: BayesianMixture
    initialiser: Initialiser
    climb: Climb

    def best(self, rng: np.random.RandomState) -> tuple[State, bool]:
        """The best end of an ascent, and whether the user interrupted the search."""
        seed = rng.randint(2**31)
        states: list[State] = []
        interrupted = False
        for k in _sizes(self.initialiser.n_components):
            if not interrupted:
                state, interrupted = self._of(k, np.random.RandomState(seed + k))
                states.append(state)
        finalists = _best_places(states)
        best = finalists[0]
        for state in finalists:
            if not interrupted:
                end, interrupted = self._climbed(state, self.climb.jump)
                best = end if is_better(end, best) else best
        return best, interrupted

    def _of(self, k: int, rng: np.random.RandomState) -> tuple[State, bool]:
        """The end of the ascent, by steps and merges, from a start with k components."""
        start = replace(self.initialiser, n_components=k).tournament(rng)
        moments = self.climb.ascent.em.start(start.model).expectation.moments
        model = self.prior.settled(moments.padded(self.initialiser.n_components), _STEPS)
        state = self.climb.ascent.start(model)
        if start.interrupted:
            return state, True
        return self._climbed(self.climb.merged(state) or state, self.climb.merged)

    def _climbed(self, state: State, jump: Callable[[State], State | None]) -> tuple[State, bool]:
        result = iterate(
            self.climb.ascent.step,
            state,
            stop=Aitken(_TOL),
            max_iter=_MOST_ITERATIONS,
            jump=jump,
        )
        return result.state, result.status is Status.INTERRUPTED


def _sizes(n_components: int) -> list[int]:
    """The numbers of components with which starts are tried."""
    sizes = [1]
    while sizes[-1] < n_components:
        sizes.append(sizes[-1] + (1 if sizes[-1] < _EACH else int(_GROWTH * sizes[-1])))
    return [*sizes[:-1], n_components]


def _best_places(states: list[State]) -> list[State]:
    """The best distinct states, in descending order; of equal ones, the earliest."""
    places: list[State] = []
    for state in states:
        if all(is_better(state, place) or is_better(place, state) for place in places):
            places.append(state)
    return sorted(places, key=lambda place: -place.bound)[:_FINALISTS]
