"""The Bayesian Gaussian mixture: q of its parameters, and its predictive density."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from skemvae.core.arrays import AnyArray, Array, quietly
from skemvae.core.chart import Chart, Point
from skemvae.core.em import EMState
from skemvae.core.moments import Moments
from skemvae.core.rows import Frame
from skemvae.core.scan import Metric, Scan
from skemvae.engine.climbs.sampling import SampledEM
from skemvae.mixtures.hyperprior import Hyperprior
from skemvae.mixtures.normal_wishart import NormalWishart
from skemvae.mixtures.weights import MixingWeights
from skemvae.structures.dense import as_matrices

# A component is active if it holds more than this many rows.
_ACTIVE = 1.0


@dataclass(frozen=True)
class Parameters:
    """A distribution of weights, means and precisions.

    Attributes
    ----------
    weights : MixingWeights
    components : NormalWishart
    """

    weights: MixingWeights
    components: NormalWishart

    def divergence(self, prior: Parameters) -> float:
        """KL(self || prior), nats."""
        return self.weights.divergence(prior.weights) + self.components.divergence(prior.components)


@dataclass(frozen=True)
class BayesianMixture:
    """Prior and q of the parameters, with the interface of a mixture for the E step.

    With q(z, parameters) = q(z) q(parameters), the best q(z) has
    responsibilities proportional to exp E_q(parameters)[log p(x, z)]. The bound
    is then the sum over rows of the logarithm of their normaliser, minus
    KL(q(parameters) || prior).

    Attributes
    ----------
    prior, q : Parameters
    hyperprior : Hyperprior
        The density of the components' prior, which is fitted together with q.
    """

    prior: Parameters
    q: Parameters
    hyperprior: Hyperprior

    @property
    def log_normaliser(self) -> Array:
        """The part of E[log p(x, z)] that does not depend on x, shape (K,)."""
        return self.q.weights.expected_log + self.q.components.log_normaliser

    def scan(self) -> Scan:
        """The arithmetic of a pass over rows."""
        return self.q.components.scan()

    @cached_property
    def divergence(self) -> float:
        """KL(q || prior) plus the penalty of the fitted prior, nats in total."""
        penalty = self.hyperprior.penalty(self.prior.components)
        return self.q.divergence(self.prior) + penalty

    @property
    def held(self) -> Array:
        """How many rows each component holds, shape (K,)."""
        return self.q.components.mean_precision - self.prior.components.mean_precision

    @property
    def is_active(self) -> AnyArray:
        """Whether each component holds more than one row, shape (K,)."""
        return self.held > _ACTIVE

    def maximise(self, moments: Moments) -> Self:
        """Improve the prior, then find the best q of the parameters, in closed form."""
        return self._maximised(self.ordered(moments))

    def _maximised(self, moments: Moments) -> Self:
        weights = self.prior.weights
        components = self.hyperprior.better(self.prior.components, moments)
        q = Parameters(weights.posterior(moments.count), components.posterior(moments))
        return replace(self, prior=Parameters(weights, components), q=q)

    def ordered(self, moments: Moments) -> Moments:
        """The moments, with components in the most probable order under the prior of weights."""
        return moments.take(self.prior.weights.order(moments.count))

    def settled(self, moments: Moments, n_steps: int) -> Self:
        """The mixture after ``n_steps`` M steps with the same moments; the prior adapts."""
        moments = self.ordered(moments)
        model = self
        for _ in range(n_steps):
            model = model._maximised(moments)
        return model

    def value(self, moments: Moments) -> float:
        """The bound for a q(z) with these moments, minus the entropy of q(z); nats in total.

        Both must have their components in the same order; after an M step, use ``ordered``.
        """
        q = self.q.components
        shift = moments.means - q.mean
        square = shift[:, :, None] * shift[:, None, :] if moments.second.ndim == 3 else shift**2
        traces = q.covariance.block_traces(moments.covariances + square).sum(1)
        return float(moments.count @ (self.log_normaliser - traces / 2)) - self.divergence

    @property
    def point(self) -> Point:
        """The parameters of q; the weights are row counts, including those of the prior."""
        q = self.q.components
        return Point(q.mean_precision, q.mean, q.covariance)

    def at(self, point: Point) -> Self:
        """The mixture with other parameters of q, for the same number of rows."""
        weights, mean, covariance = point
        prior, q = self.prior.components, self.q.components.mean_precision
        count = np.maximum(weights * (q.sum() / weights.sum()) - prior.mean_precision, 0.0)
        count *= (q - prior.mean_precision).sum() / count.sum()
        components = prior.moved(count, mean, as_matrices(covariance))
        return replace(self, q=Parameters(self.prior.weights.posterior(count), components))

    def chart(self) -> Chart[Self]:
        """Coordinates around this mixture."""
        return Chart(self)

    def predictive(self) -> Predictive:
        """The predictive density, that of the next row."""
        return Predictive(self.q)

    def into(self, frame: Frame) -> Self:
        """The same mixture in the coordinates z of a frame."""
        return replace(
            self,
            prior=replace(self.prior, components=self.prior.components.into(frame)),
            q=replace(self.q, components=self.q.components.into(frame)),
            hyperprior=self.hyperprior.into(frame),
        )

    def out_of(self, frame: Frame) -> Self:
        """The mixture of x, if this one is over the coordinates z of a frame."""
        return replace(
            self,
            prior=replace(self.prior, components=self.prior.components.out_of(frame)),
            q=replace(self.q, components=self.q.components.out_of(frame)),
            hyperprior=self.hyperprior.out_of(frame),
        )


@dataclass(frozen=True)
class Predictive:
    """The predictive density E_q[p(x | parameters)], a mixture of Student's t distributions.

    Attributes
    ----------
    q : Parameters
    """

    q: Parameters

    @property
    def log_normaliser(self) -> Array:
        """The part of the log joint density that does not depend on x, shape (K,)."""
        log_weights = quietly(np.log, self.q.weights.mean)
        normaliser: Array = log_weights + self.q.components.predictive_log_normaliser
        return normaliser

    def scan(self) -> Metric:
        """The arithmetic of a pass over rows."""
        return self.q.components.predictive_metric()

    def into(self, frame: Frame) -> Self:
        """The same density in the coordinates z of a frame."""
        return replace(self, q=replace(self.q, components=self.q.components.into(frame)))

    def sample(self, n: int, rng: Any) -> tuple[Array, Any]:
        """Draw n rows and their components; each row has its own draw of the parameters."""
        labels = rng.choice(len(self.q.weights.mean), size=n, p=self.q.weights.mean)
        return self.q.components.draw(labels, rng), labels


State = EMState[BayesianMixture]


@dataclass(frozen=True)
class VariationalBayes:
    """Coordinate ascent of the bound on a table; the bound never falls.

    Attributes
    ----------
    em : SampledEM
    """

    em: SampledEM

    def start(self, model: BayesianMixture) -> State:
        """Take the E step at a given q of the parameters."""
        return self.em.start(model)

    def step(self, state: State) -> State:
        """Take one iteration: first q of the parameters, then q(z)."""
        new = self.em.step(state)
        # In theory the bound never falls; this guards against rounding.
        return new if new.bound >= state.bound else state

    def sampled(self, size: int) -> VariationalBayes | None:
        """The same ascent on ``size`` representative rows, or None if that saves little."""
        em = self.em.sampled(size)
        return None if em is None else VariationalBayes(em)
