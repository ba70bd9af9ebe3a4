"""The fit of a Bayesian mixture: variational Bayes on a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import clone

from skemvae.core import bayesian_mixture as core
from skemvae.core.dense_covariance import DenseCovariance
from skemvae.core.em import MixtureEM
from skemvae.core.iterate import Fit, Result, Status
from skemvae.core.summary import Summary
from skemvae.core.table import Table
from skemvae.doubts import Columns
from skemvae.initialisation import Initialiser
from skemvae.models.bayesian_prior import pooled

if TYPE_CHECKING:
    from skemvae import models

# Regularisation of the EM that finds starts.
_START_RIDGE = 1e-6
# With so many components, all of them in use, there may be too few; fewer are chosen on purpose.
_MANY = 5


class BayesianMixtureFit(Fit):
    """Variational Bayes on a table.

    Starts are those of exact EM, from a tournament on a sketch of the table.

    Parameters
    ----------
    model : BayesianMixture
        With valid parameters.
    table : Table
        In a frame of its own.
    summary : Summary
        Of the table.
    prior : Parameters
        In the frame.
    rng : RandomState
        Where randomness comes from.
    previous : BayesianMixture or None
        The fitted model that a warm start goes on from.
    """

    def __init__(
        self,
        model: models.BayesianMixture,
        table: Table,
        summary: Summary,
        prior: core.Parameters,
        rng: np.random.RandomState,
        previous: models.BayesianMixture | None,
    ):
        self._model = model
        self._table = table
        self._summary = summary
        self._prior = core.BayesianMixture(prior, prior)
        self._rng = rng
        self._previous = previous
        self.accelerable = self._ascent = core.VariationalBayes(MixtureEM(table))

    def start(self) -> tuple[core.State, bool]:
        em = self._ascent.em
        if self._previous is not None:
            q = self._previous._mixture.into(self._table.frame).q
            return em.start(core.BayesianMixture(self._prior.prior, q)), False
        structure = type(self._prior.prior.components.covariance)
        initialiser = Initialiser.of(
            structure, self._model.n_components, self._table, self._summary, _START_RIDGE
        )
        start = initialiser.tournament(self._rng)
        moments = em.start(start.model).expectation.moments
        return em.start(self._prior.maximise(moments)), start.interrupted

    def step(self, state: core.State) -> core.State:
        return self._ascent.step(state)

    def jump(self, state: core.State) -> core.State | None:
        return self._ascent.jump(state)

    def doubts(self, result: Result[core.State], names: Sequence[object]) -> Iterator[str]:
        model, table, summary = result.state.model, self._table, self._summary
        q, prior = model.q.components, model.prior.components
        columns = Columns(table, names, summary.spread > summary.floor, "covariance_prior")
        if isinstance(q.covariance, DenseCovariance):
            covariance, _ = pooled(type(q.covariance), table, summary)
            yield from columns.dependence(covariance, summary.floor**2 / table.frame.scale**2)
        means = table.frame.origin + table.frame.scale * q.mean
        is_active = model.is_active
        variances = np.where(is_active[:, None], q.covariance.variances, np.nan)
        # A tied covariance has the rows of all components.
        floor = prior.covariance.variances * (prior.dof / q.dof)[:, None]
        yield from columns.collapse(means, variances, floor)
        has_converged = result.status is Status.CONVERGED  # otherwise they may yet run empty
        if has_converged and is_active.all() and len(is_active) >= _MANY:
            one, bound = self._bound_of_one(result.state), result.state.bound
            yield _all_in_use(len(is_active)) if one < bound else _one_is_better(one, bound, model)

    def _bound_of_one(self, state: core.State) -> float:
        """The bound if one component held all rows, nats per sample."""
        moments = state.expectation.moments
        for k in range(1, len(moments.count)):
            moments = moments.merged(0, k)
        return self._ascent.start(state.model.maximise(moments)).bound

    def fitted(self, state: core.State) -> models.BayesianMixture:
        model: models.BayesianMixture = clone(self._model)
        return model._set(state.model.out_of(self._table.frame))


def _all_in_use(n_components: int) -> str:
    return (
        f"All n_components={n_components} components are in use: more may be needed, or the "
        "density is no mixture of a few Gaussians. Raise n_components until some stay empty, and "
        "compare held-out nats (score), which judge the density; for clusters compare "
        "EMGaussianMixture.icl of a few numbers of components."
    )


def _one_is_better(one: float, bound: float, model: core.BayesianMixture) -> str:
    k, d = model.q.components.mean.shape
    return (
        f"All n_components={k} components are in use, though one alone has the higher bound "
        f"({one:.4g} against {bound:.4g} nats per sample): the rows are few for {d} features, and "
        "the prior takes components for much narrower than the table. Lower n_components, set "
        'covariance_type="diag", or give a wider covariance_prior, such as '
        "n_features * np.cov(X.T), and compare held-out nats (score)."
    )
