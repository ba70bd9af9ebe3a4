"""The Bayesian Gaussian mixture: q of its parameters, and the density of the next row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from skemvae.core.arrays import AnyArray, Array, quietly
from skemvae.core.chart import Point
from skemvae.core.em import EMState, MixtureEM
from skemvae.core.mixing import MixingWeights
from skemvae.core.moments import Moments
from skemvae.core.normal_wishart import NormalWishart
from skemvae.core.rows import Frame
from skemvae.core.scan import Metric, Scan

# Components whose means are further apart, as a squared Mahalanobis distance under the sum of
# their covariances, are not parts of one cluster: halves of a Gaussian are at about 3.5.
_NEIGHBOURS = 12.0
# A component is active if it holds more than so many rows.
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
    """Prior and q of the parameters, as a mixture that the E step can see.

    With q(z, parameters) = q(z) q(parameters), the best q(z) has
    responsibilities proportional to exp E_q(parameters)[log p(x, z)], and then
    the bound is the sum over rows of the logarithm of their normaliser, less
    KL(q(parameters) || prior).

    Attributes
    ----------
    prior, q : Parameters
    """

    prior: Parameters
    q: Parameters

    @property
    def log_normaliser(self) -> Array:
        """The part of E[log p(x, z)] that does not depend on x, shape (K,)."""
        return self.q.weights.expected_log + self.q.components.log_normaliser

    def scan(self) -> Scan:
        """The arithmetic of a pass over rows."""
        return self.q.components.scan()

    @cached_property
    def divergence(self) -> float:
        """KL(q || prior), nats in total."""
        return self.q.divergence(self.prior)

    @property
    def held(self) -> Array:
        """How many rows each component holds, shape (K,)."""
        return self.q.components.mean_precision - self.prior.components.mean_precision

    @property
    def is_active(self) -> AnyArray:
        """Whether each component holds more than one row, shape (K,)."""
        return self.held > _ACTIVE

    def maximise(self, moments: Moments) -> Self:
        """The best q of the parameters, in closed form: conjugacy."""
        weights, components = self.prior.weights, self.prior.components
        moments = moments.take(weights.order(moments.count))
        return replace(
            self, q=Parameters(weights.posterior(moments.count), components.posterior(moments))
        )

    @property
    def point(self) -> Point:
        """Where q is; the weights are counts of rows, those of the prior included."""
        q = self.q.components
        return Point(q.mean_precision, q.mean, q.covariance)

    def at(self, point: Point) -> Self:
        """With q elsewhere, after as many rows."""
        weights, mean, covariance = point
        prior, q = self.prior.components, self.q.components.mean_precision
        count = np.maximum(weights * (q.sum() / weights.sum()) - prior.mean_precision, 0.0)
        count *= (q - prior.mean_precision).sum() / count.sum()
        components = prior.moved(count, mean, covariance)
        return replace(self, q=Parameters(self.prior.weights.posterior(count), components))

    def predictive(self) -> Predictive:
        """The density of the next row."""
        return Predictive(self.q)

    def into(self, frame: Frame) -> Self:
        """The same mixture in the coordinates z of a frame."""
        return replace(
            self,
            prior=replace(self.prior, components=self.prior.components.into(frame)),
            q=replace(self.q, components=self.q.components.into(frame)),
        )

    def out_of(self, frame: Frame) -> Self:
        """The mixture of x, from that of the coordinates z of a frame."""
        return replace(
            self,
            prior=replace(self.prior, components=self.prior.components.out_of(frame)),
            q=replace(self.q, components=self.q.components.out_of(frame)),
        )


@dataclass(frozen=True)
class Predictive:
    """p(x | rows seen) = E_q[p(x | parameters)]: a mixture of Student's t.

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
        """Draw n rows and their components: each row from parameters of its own."""
        labels = rng.choice(len(self.q.weights.mean), size=n, p=self.q.weights.mean)
        return self.q.components.draw(labels, rng), labels


State = EMState[BayesianMixture]


@dataclass(frozen=True)
class VariationalBayes:
    """Coordinate ascent of the bound on a table; it never falls.

    Attributes
    ----------
    em : MixtureEM
    """

    em: MixtureEM

    def start(self, model: BayesianMixture) -> State:
        """The E step at a given q of the parameters."""
        return self.em.start(model)

    def step(self, state: State) -> State:
        """One iteration: q of the parameters, then q(z)."""
        new = self.em.step(state)
        # By theory the bound never falls: this catches rounding.
        return new if new.bound >= state.bound else state

    def sampled(self, size: int) -> VariationalBayes | None:
        """The same on so many rows that stand for all of them; None if that saves little."""
        em = self.em.sampled(size)
        return None if em is None else VariationalBayes(em)

    def jump(self, state: State) -> State | None:
        """Merge two components that are parts of one cluster, if that raises the bound.

        Moments add, so a merged component needs no pass over the rows; one
        pass tells its bound. Small steps get there too slowly to be waited for.
        """
        moments = state.expectation.moments
        for a, b in _neighbours(state.model.q.components, moments.count):
            merged = self.start(state.model.maximise(moments.merged(a, b)))
            if merged.bound > state.bound:
                return merged
        return None


def _neighbours(components: NormalWishart, count: Array) -> Iterator[tuple[int, int]]:
    """Pairs of components worth merging: each with its nearest, the closest first."""
    held = np.flatnonzero(count > 0.5)
    nearest: dict[tuple[int, int], float] = {}
    for a in held:
        others = held[held != a]
        if not len(others):
            return
        pairs = type(components.covariance)(
            components.covariance.values[others] + components.covariance.values[a]
        )
        distances = pairs.squared_lengths(components.mean[others] - components.mean[a])
        b = others[distances.argmin()]
        nearest[min(a, b), max(a, b)] = float(distances.min())
    for pair in sorted(nearest, key=lambda pair: nearest[pair]):
        if nearest[pair] < _NEIGHBOURS:
            yield pair
