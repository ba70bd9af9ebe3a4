"""Splits of those components of a Bayesian mixture that are better as two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from skemvae.core.em import MixtureEM
from skemvae.core.moments import Moments
from skemvae.core.rows import Rows
from skemvae.engine.passes.choice import fastest_pass
from skemvae.engine.passes.numpy_pass import map_rows
from skemvae.engine.starts.initialisation import Initialiser
from skemvae.mixtures.bayesian_mixture import BayesianMixture, Parameters

# Components with fewer rows than _EMPTY are empty; those with fewer than _SPLIT are not split.
_EMPTY, _SPLIT = 0.5, 4.0
# Iterations within which two components must become better than one.
_ITERATIONS = 10


class _Split(NamedTuple):
    component: int
    gain: float  # nats in total
    halves: Moments


@dataclass(frozen=True)
class Splitter:
    """Tries each component as two, on its own rows of a sketch.

    Attributes
    ----------
    initialiser : Initialiser
        Of the mixture; holds the sketch.
    rng : RandomState
    """

    initialiser: Initialiser
    rng: Any

    def splits(self, model: BayesianMixture, moments: Moments) -> Iterator[Moments]:
        """Moments after splits: first of all components that gain, then of the best one alone.

        Each split fills an empty component, so there are no more splits than those.

        Parameters
        ----------
        model : BayesianMixture
        moments : Moments
            Of the rows of the table, under ``model``.
        """
        (empty,) = np.nonzero(moments.count < _EMPTY)
        if not len(empty):
            return
        sketch = self.initialiser.sketch
        posterior = np.empty((sketch.n_rows, len(moments.count)))
        map_rows(model, sketch.rows, lambda seen: seen.weight, posterior)
        splittable = np.flatnonzero(moments.count >= _SPLIT).tolist()
        tried = (self._split(model, k, posterior[:, k]) for k in splittable)
        found = sorted((split for split in tried if split.gain > 0), key=lambda split: -split.gain)
        for n_splits in sorted({min(len(found), len(empty)), min(len(found), 1)} - {0})[::-1]:
            yield _divided(moments, found[:n_splits], empty)

    def _split(self, model: BayesianMixture, k: int, share: Any) -> _Split:
        q, sketch = model.q.components, self.initialiser.sketch
        scale = np.sqrt(q.covariance.variances[k])
        start, part = self.initialiser.halves(share, q.mean[k], scale, self.rng)
        rows = Rows.of(part.rows.X, part.weights / sketch.fraction)
        # A shared precision starts from q, which holds what the other rows say about it.
        components = (q if q.covariance.is_shared else model.prior.components).take(
            np.array([k, k])
        )
        prior = Parameters(model.prior.weights.resized(2), components)
        hyperprior = replace(model.hyperprior, fits_covariance=False, fits_mean_precision=False)
        two = BayesianMixture(prior, prior, hyperprior)
        em = MixtureEM(rows, fastest_pass)
        moments = em.start(start).expectation.moments
        together = two.ordered(moments.merged(np.zeros(2, dtype=int)))
        one = two.maximise(together).value(together)
        state = em.start(two.maximise(moments))
        for left in range(_ITERATIONS, 0, -1):
            new = em.step(state)
            missing = one - new.bound * rows.total
            if missing < 0 or missing > left * (new.bound - state.bound) * rows.total:
                break
            state = new
        return _Split(k, new.bound * rows.total - one, new.expectation.moments)


def _divided(moments: Moments, splits: list[_Split], empty: Any) -> Moments:
    arrays = (moments.count, moments.origin, moments.first, moments.second)
    count, origin, first, second = (part.copy() for part in arrays)
    for (k, _, halves), other in zip(splits, empty, strict=False):
        where = [k, other]
        count[where], origin[where] = halves.count, halves.origin
        first[where], second[where] = halves.first, halves.second
    return Moments(count, origin, first, second)
