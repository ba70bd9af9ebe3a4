"""Races between starts: some climb on a sketch, and the better ones go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter, itemgetter

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.engine.climbs.whole_steps import Place, State, climb
from skemvae.engine.passes.numpy_pass import map_rows
from skemvae.engine.samples.sketch import Sketch
from skemvae.structures.dense import as_matrices
from skemvae.structures.matrices import MatrixCovariance

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
    """Tells which of several fits is the best: the one of the highest merit.

    The likelihood alone prefers spikes: a component on two equal rows buys many nats with a
    variance that two rows do not determine. So the merit of a fit is what its bound would be with
    covariances that its rows do determine: each is averaged with the pooled one, which counts as
    much as the few rows that make a covariance regular, and is so wide that no density exceeds
    one row in each step of the resolution. A spike on two rows loses what it bought,
    a cluster of 250 rows in which a feature is constant keeps nearly all of it.

    Attributes
    ----------
    sketch : Sketch
        Of the table.
    noise : array of shape (d,)
        Regularising variances, in the frame of the table.
    resolution : array of shape (d,)
        The smallest gap between two values of each feature, or 0; in the frame of the table.

    References
    ----------
    Fraley and Raftery (2007), "Bayesian regularization for normal mixture estimation and
    model-based clustering".
    """

    sketch: Sketch
    noise: Array
    resolution: Array

    @property
    def few_rows(self) -> int:
        """How many distinct rows determine a component."""
        return len(self.noise) + 1

    def on_part(self, n_rows: int) -> Judge:
        """A judge who sees so many rows of the sketch only."""
        return replace(self, sketch=self.sketch.part(n_rows))

    def along(self, axes: Array) -> Judge:
        """A judge who sees the standardised rows along some unit vectors, shape (d, r), only."""
        squares = (axes / self.sketch.scale[:, None]) ** 2
        noise, resolution = self.noise @ squares, np.sqrt(self.resolution**2 @ squares)
        return Judge(self.sketch.along(axes), noise, resolution)

    def prefers(self, state: State, other: State) -> bool:
        """Whether a fit to the whole table is better than another."""
        merit, other_merit = (
            self._merit(fit, fit.expectation.moments.count) for fit in (state, other)
        )
        return merit > other_merit

    def rows_of(self, model: GaussianMixture) -> Array:
        """About how many rows each component holds, shape (K,); repeated rows count once."""
        total = self.sketch.weights.sum() / self.sketch.fraction
        rows: Array = model.weights * (total / self._multiplicity)
        return rows

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
        return models + [state.model for state in others if not self._leads(best, state)]

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
        ranked: list[tuple[float, Place]] = []
        for fit in sorted(climbed, key=attrgetter("bound"), reverse=True):
            if len(ranked) >= n_best and fit.bound <= ranked[n_best - 1][0]:
                break  # no merit is above its bound
            merit = self._merit(fit, fit.count)
            if all(abs(merit - other) >= _ENOUGH for other, _ in ranked):  # another place
                ranked.append((merit, fit))
                ranked.sort(key=itemgetter(0), reverse=True)
        return [fit for _, fit in ranked[:n_best]]

    def _merit(self, fit: State | Place, count: Array) -> float:
        """The bound of a fit, if its components had covariances that their rows determine.

        ``count`` of shape (K,) is the weight that each component holds. Of its bound
        a component loses ``KL(N(m, C) || N(m, C'))`` for each row, C' being the other covariance.
        """
        own = as_matrices(fit.model.covariance)
        prudent = self._prudent(own, count)
        traces = prudent.block_traces(own.values).sum(1)
        loss = (prudent.log_det - own.log_det + traces - own.n_features) / 2
        merit = fit.bound - float(count @ loss) / float(count.sum())
        return merit if np.isfinite(merit) else -np.inf

    def _prudent(self, covariance: MatrixCovariance, count: Array) -> MatrixCovariance:
        values, few = covariance.values, covariance.block_size + 1
        n_rows = covariance.observations(count / self._multiplicity, covariance.n_features)
        share = (n_rows / (n_rows + few)).reshape(-1, *(1,) * (values.ndim - 1))
        pooled = ((count / count.sum()) @ values.reshape(len(count), -1)).reshape(values.shape[1:])
        values = share * values + (1 - share) * pooled
        diagonal = values if values.ndim == 2 else np.einsum("kii->ki", values)
        diagonal += self.resolution**2 / (2 * np.pi)
        return type(covariance)(values)

    @cached_property
    def _multiplicity(self) -> float:
        """How often a row is repeated as a rule: a table that is written twice holds no more."""
        return float(np.median(self.sketch.weights))
