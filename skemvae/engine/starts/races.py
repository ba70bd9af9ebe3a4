"""Races between starts: they run EM on a sketch, and the better ones go on."""

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

# A race stops a start when less remains to be gained, in nats per sample; starts whose
# merits differ by less have reached the same optimum.
_ENOUGH = 1e-4
# Iterations of many starts before half of them drop out; each later round takes twice as many.
# The last few starts run until they converge, for at most _LAST_ROUND iterations.
_FIRST_ROUND, _LAST_ROUND = 8, 100
_LAST_FEW = 3
# The lead, in standard errors, with which one start clearly beats another on a sketch.
_CLEARLY = 2.0


@dataclass(frozen=True)
class Judge:
    """Ranks fits by their merit.

    The likelihood alone prefers spikes: a component on two equal rows gains many nats from a
    variance that two rows do not determine. So the merit of a fit is its bound with covariances
    that its rows do determine. Each covariance is averaged with the pooled one, which counts as
    much as the few rows that make a covariance regular, and is widened so that no density
    exceeds one row per step of the resolution. A spike on two rows loses its gain; a cluster of
    250 rows in which a feature is constant keeps nearly all of it.

    Attributes
    ----------
    sketch : Sketch
        The sketch of the table.
    noise : array of shape (d,)
        The ridge, in the frame of the table.
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
        """How many distinct rows determine one component."""
        return len(self.noise) + 1

    def on_part(self, n_rows: int) -> Judge:
        """The judge for the first ``n_rows`` rows of the sketch only."""
        return replace(self, sketch=self.sketch.part(n_rows))

    def along(self, axes: Array) -> Judge:
        """The judge for the standardised rows projected on unit vectors, shape (d, r)."""
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
        """The approximate number of rows of each component, shape (K,); repeats count once."""
        total = self.sketch.weights.sum() / self.sketch.fraction
        rows: Array = model.weights * (total / self._multiplicity)
        return rows

    def race(self, models: Sequence[GaussianMixture], n_iter: int, n_best: int) -> list[Place]:
        """Run all models on the sketch for ``n_iter`` iterations; return the best, in order.

        It returns fewer than ``n_best`` if several reach the same optimum.

        Raises
        ------
        KeyboardInterrupt
        """
        return self._best(climb(models, self.sketch.rows, n_iter, _ENOUGH), n_best)

    def finalists(self, models: list[GaussianMixture], max_iter: int) -> list[GaussianMixture]:
        """Run several starts on the sketch; return those that may give the best fit of the table.

        Half of them drop out after a few iterations, half of the others after
        twice as many, and so on. It returns the best of the last few, and those
        that the sketch does not show to be clearly worse. ``models`` is updated in
        place and sorted, so that after Ctrl-C its first element is the best so far.
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
        """Whether a fit is better by more than the choice of the rows explains."""
        rows = self.sketch.rows
        best_log_density, other_log_density = (
            map_rows(state.model, rows, lambda seen: seen.log_evidence, np.empty(rows.n_rows))
            for state in (best, other)
        )
        lead = best_log_density - other_log_density
        weight = self.sketch.weights
        mean = np.average(lead, weights=weight)
        variance = (weight**2 * (lead - mean) ** 2).sum() / rows.total**2
        # There is no uncertainty if the sketch holds all rows.
        error = np.sqrt((1 - self.sketch.fraction) * variance)
        return bool(mean > _CLEARLY * error)

    def _best(self, climbed: list[Place], n_best: int) -> list[Place]:
        ranked: list[tuple[float, Place]] = []
        for fit in sorted(climbed, key=attrgetter("bound"), reverse=True):
            if len(ranked) >= n_best and fit.bound <= ranked[n_best - 1][0]:
                break  # a merit never exceeds its bound
            merit = self._merit(fit, fit.count)
            if all(abs(merit - other) >= _ENOUGH for other, _ in ranked):  # a new optimum
                ranked.append((merit, fit))
                ranked.sort(key=itemgetter(0), reverse=True)
        return [fit for _, fit in ranked[:n_best]]

    def _merit(self, fit: State | Place, count: Array) -> float:
        """The bound of a fit if its components had covariances that their rows determine.

        ``count``, of shape (K,), is the weight of each component. A component loses
        ``KL(N(m, C) || N(m, C'))`` nats per row, where C' is the averaged covariance.
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
        """How often a typical row is repeated, so that writing a table twice adds no rows."""
        return float(np.median(self.sketch.weights))
