"""The fit of a Bayesian mixture: variational Bayes on a table, with merges and splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import clone

from skemvae.core.arrays import Array
from skemvae.core.iterate import Fit, Result, Status
from skemvae.core.moments import Moments
from skemvae.core.table import Table
from skemvae.doubts import Columns
from skemvae.engine.climbs.sampling import SampledEM
from skemvae.engine.passes.choice import fastest_pass
from skemvae.engine.samples.summary import Summary
from skemvae.engine.starts.initialisation import Initialiser
from skemvae.mixtures import bayesian_mixture as core
from skemvae.models.bayesian_climb import Climb
from skemvae.models.bayesian_prior import pooled
from skemvae.models.bayesian_starts import Starts

if TYPE_CHECKING:
    from skemvae import models

# Ridge of the EM that finds starts, and the least width of a fitted prior.
START_RIDGE = 1e-6
# With this many components, all in use, there may be too few; a smaller number is deliberate.
_MANY = 5


class BayesianMixtureFit(Fit):
    """Variational Bayes on a table.

    Starts with one component and more, each from a tournament of exact EM, are improved on a
    sketch of the table, and the best one is fitted to the table. So a large ``n_components`` ends
    no worse than a small one. When an ascent converges, merges and splits are tried, and it
    continues from those that raise the bound.

    Parameters
    ----------
    model : BayesianMixture
        With valid parameters.
    table : Table
        In its own frame.
    summary : Summary
        Of the table.
    initialiser : Initialiser
        Of the table.
    prior : core.BayesianMixture
        The mixture before it has seen any row, in the frame.
    rng : RandomState
        Source of randomness.
    previous : BayesianMixture or None
        The fitted model from which a warm start continues.
    """

    def __init__(
        self,
        model: models.BayesianMixture,
        table: Table,
        summary: Summary,
        initialiser: Initialiser,
        prior: core.BayesianMixture,
        rng: np.random.RandomState,
        previous: models.BayesianMixture | None,
    ):
        self._model = model
        self._table = table
        self._summary = summary
        self._prior = prior
        self._rng = rng
        self._previous = previous
        sample = initialiser.sketch.sample
        on_table, on_sample = (
            core.VariationalBayes(SampledEM(rows, fastest_pass)) for rows in (table, sample)
        )
        self._climb = Climb(on_table, sample, initialiser, rng)
        self._starts = Starts(prior, initialiser, replace(self._climb, ascent=on_sample))
        self.accelerable = self._climb.ascent

    def start(self) -> tuple[core.State, bool]:
        em = self._climb.ascent.em
        if self._previous is not None:
            return em.start(self._continued(self._previous._mixture.into(self._table.frame))), False
        start, interrupted = self._starts.best(self._rng)
        return em.start(start.model), interrupted

    def _continued(self, previous: core.BayesianMixture) -> core.BayesianMixture:
        """The parameters of an earlier fit, with the fitted parts of its prior."""
        prior, earlier = self._prior.prior.components, previous.prior.components
        if self._prior.hyperprior.fits_covariance:
            prior = replace(prior, covariance=earlier.covariance)
        if self._prior.hyperprior.fits_mean_precision:
            prior = replace(prior, mean_precision=earlier.mean_precision)
        parameters = core.Parameters(self._prior.prior.weights, prior)
        return replace(self._prior, prior=parameters, q=previous.q)

    def step(self, state: core.State) -> core.State:
        return self._climb.ascent.step(state)

    def jump(self, state: core.State) -> core.State | None:
        return self._climb.jump(state)

    def doubts(self, result: Result[core.State], names: Sequence[object]) -> Iterator[str]:
        model, table, summary = result.state.model, self._table, self._summary
        q, is_active = model.q.components, model.is_active
        columns = Columns(table, names, summary.spread > summary.floor, "covariance_prior")
        if q.covariance.block_size > 1:
            covariance, _ = pooled(type(q.covariance), table, summary)
            yield from columns.dependence(covariance, summary.floor**2 / table.frame.scale**2)
        means = table.frame.origin + table.frame.scale * q.mean
        variances = np.where(is_active[:, None], q.covariance.variances, np.nan)
        yield from columns.collapse(means, variances, _least_variances(model))
        has_converged = result.status is Status.CONVERGED  # else some may still become empty
        if has_converged and is_active.all() and len(is_active) >= _MANY:
            yield (
                f"All n_components={len(is_active)} components are in use: more may be needed, or "
                "the density is not a mixture of a few Gaussians. Raise n_components until some "
                "stay empty, and compare held-out nats (score), which judge the density; for "
                "clusters compare EMGaussianMixture.icl of a few numbers of components."
            )

    def fitted(self, state: core.State) -> models.BayesianMixture:
        model: models.BayesianMixture = clone(self._model)
        return model._set(state.model.out_of(self._table.frame))


def _least_variances(model: core.BayesianMixture) -> Array:
    """The variances that equal rows in each active component would give, shape (K, d)."""
    q, prior = model.q.components, model.prior.components
    held = np.where(model.is_active, model.held, 0.0)
    # The mean of the rows is further from the prior's mean than the mean of q is.
    ratio = np.where(held > 0, q.mean_precision / np.maximum(held, 1.0), 0.0)
    means = prior.mean + ratio[:, None] * (q.mean - prior.mean)
    equal = Moments(held, means, np.zeros_like(means), np.zeros(q.covariance.values.shape))
    return prior.posterior(equal).covariance.variances
