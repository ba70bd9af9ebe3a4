"""Races between starts: some climb on a sketch, and the better ones go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.bound import Posterior
from skemvae.core.compiled_em import Place, State, climb
from skemvae.core.expectation import Seen, each_block, map_rows
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.sketch import Sketch

Merit = tuple[bool, bool, float]

# A climb on a sketch ends when so little remains to be gained, in nats per sample;
# climbs whose bounds differ by less have come to the same place.
_ENOUGH = 1e-4
# Among many starts each climbs so far before half of them are left behind, the
# others twice as far, and so on; the last few climb until they converge.
_FIRST_ROUND, _LAST_ROUND = 8, 100
_LAST_FEW = 3
# Standard errors by which the better of two starts must lead on a sketch of the table.
_CLEARLY = 2.0


@dataclass(frozen=True)
class Judge:
    """Tells which of several fits is the best.

    Attributes
    ----------
    sketch : Sketch
        Of the table.
    noise : array of shape (d,)
        Regularising variances, in the frame of the table.
    nothing : array of shape (d,)
        Variances up to which a component has none, in the frame of the table;
        negative where no component can have more.
    """

    sketch: Sketch
    noise: Array
    nothing: Array

    @property
    def few_rows(self) -> int:
        """How many distinct rows determine a component."""
        return len(self.noise) + 1

    def on_part(self, n_rows: int) -> Judge:
        """A judge who sees so many rows of the sketch only."""
        return replace(self, sketch=self.sketch.part(n_rows))

    def prefers(self, state: State, other: State) -> bool:
        """Whether a fit to the whole table is better than another."""
        # Each row of the sketch stands for several of the table.
        few_rows = self.few_rows * self.sketch.fraction
        merit, other_merit = (
            self._merit(fit, self._rests_on(fit.model) >= few_rows) for fit in (state, other)
        )
        return merit > other_merit

    def race(self, models: Sequence[GaussianMixture], n_iter: int, n_best: int) -> list[Place]:
        """Let all climb on the sketch for some iterations, and return the best, in order.

        They are fewer than ``n_best`` where several came to the same place.

        Raises
        ------
        KeyboardInterrupt
        """
        return self._best(climb(models, self.sketch.rows, n_iter, _ENOUGH), n_best)

    def finalists(self, models: list[GaussianMixture], max_iter: int) -> list[GaussianMixture]:
        """Which of several starts, climbed on the sketch, may lead to the best fit of the table.

        Half of them are left behind after a few iterations, half of the others
        after twice as many, and so on. Of the last few the best is returned, and
        with it those whose rows do not say clearly that they are worse. After
        Ctrl-C it is the best so far alone, of ``models``, which are kept in order.
        """
        n_iter, left = min(_FIRST_ROUND, max_iter), max_iter
        while len(models) > _LAST_FEW:
            states = self.race(models, n_iter, max(_LAST_FEW, -(-len(models) // 2)))
            models[:] = [state.model for state in states]
            left -= n_iter
            n_iter = min(2 * n_iter, left)
        best, *others = self.race(models, min(_LAST_ROUND, left), _LAST_FEW)
        models[:] = [best.model]
        sound = self._merit_here(best)[:2]
        return models + [
            state.model
            for state in others
            if self._merit_here(state)[:2] == sound and not self._leads(best, state)
        ]

    def _leads(self, best: Place, other: Place) -> bool:
        """Whether a fit is better by more than what the choice of the rows explains."""
        rows = self.sketch.rows
        best_log_density, other_log_density = (
            map_rows(state.model, rows, lambda seen: seen.log_evidence, np.empty(rows.n_rows))
            for state in (best, other)
        )
        lead = best_log_density - other_log_density
        weight = self.sketch.weights
        mean = np.average(lead, weights=weight)
        variance = (weight**2 * (lead - mean) ** 2).sum() / rows.total**2
        # Nothing is uncertain where the sketch holds all rows.
        error = np.sqrt((1 - self.sketch.fraction) * variance)
        return bool(mean > _CLEARLY * error)

    def _best(self, climbed: list[Place], n_best: int) -> list[Place]:
        ranked: list[tuple[Merit, Place]] = []
        n_sound = 0
        for fit in sorted(climbed, key=attrgetter("bound"), reverse=True):
            merit = self._merit_here(fit)
            if not any(_same_place(merit, other) for other, _ in ranked):
                ranked.append((merit, fit))
                n_sound += merit[0]
            if n_sound == n_best:  # those that follow have lower bounds
                break
        ranked.sort(key=itemgetter(0), reverse=True)
        return [fit for _, fit in ranked[:n_best]]

    def _merit_here(self, fit: Place) -> Merit:
        """The merit of a fit to the sketch itself."""
        # A component rests on at least sum r rows, since r <= 1; mostly that says enough.
        fewest = fit.count.min() / self.sketch.weights.max()
        enough_rows = fewest >= self.few_rows or self._rests_on(fit.model) >= self.few_rows
        return self._merit(fit, enough_rows)

    def _merit(self, fit: State | Place, enough_rows: bool) -> Merit:
        """A key that sorts fits: sound ones above collapsed ones, then by the bound.

        Likelihood alone prefers spikes on a few rows, which explain nothing.
        """
        spread = fit.model.covariance.variances - self.noise
        off_floor = bool((spread > self.nothing).all())
        return off_floor and bool(enough_rows), off_floor, fit.bound

    def _rests_on(self, model: GaussianMixture) -> float:
        """How many distinct rows of the sketch there are for the component with the fewest."""
        responsibilities = np.empty((self.sketch.n_rows, len(model.weights)))

        def visit(seen: Seen) -> None:
            responsibilities[seen.block.where] = Posterior.exact(seen.log_joint).weight

        each_block(model, self.sketch.rows, visit)
        return float(self.sketch.effective_rows(responsibilities).min())


def _same_place(merit: Merit, other: Merit) -> bool:
    return merit[:2] == other[:2] and abs(merit[2] - other[2]) < _ENOUGH
