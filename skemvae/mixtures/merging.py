"""Merges of several components at a time, found without a pass over all rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import xlogy

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.em import MixtureEM
from skemvae.core.moments import Moments
from skemvae.core.rows import Rows
from skemvae.engine.passes.choice import fastest_pass
from skemvae.engine.passes.numpy_pass import map_rows
from skemvae.mixtures.bayesian_mixture import BayesianMixture
from skemvae.mixtures.normal_wishart import NormalWishart

# Components that hold fewer rows count as empty.
_HELD = 0.5
# The number of nearest neighbours with which a component may be merged.
_NEIGHBOURS = 8
# M steps in which the prior adapts to a merge.
_STEPS = 4


class Merger(NamedTuple):
    """A set of merges.

    Attributes
    ----------
    to : array of shape (K,)
        The component that gets the rows of each component.
    gain : float
        The approximate rise of the bound with a fixed prior, nats in total.
    """

    to: AnyArray
    gain: float


def merged(model: BayesianMixture, moments: Moments, sample: Rows) -> BayesianMixture | None:
    """Return the best mixture of fewer components, or None if the bound would not rise.

    Moments add up, so the bound after any merges is known except for the entropy of q(z), which
    a sample of the rows gives. Merges are greedy: the two components with the highest gain
    become one, and so on until one is left. These gains are too pessimistic, since q(z) and the
    prior also adapt: merging all components may pay off even if no single merge does. So a pass
    over the sample gives the bound after one, two, four and so on, and after all merges.

    Parameters
    ----------
    model : BayesianMixture
    moments : Moments
        Moments of the rows of the table under ``model``.
    sample : Rows
        A sample of the rows, with weights that add up to those of all rows.

    References
    ----------
    Heller and Ghahramani (2005), "Bayesian hierarchical clustering"; Hughes and Sudderth (2013),
    "Memoized online variational inference for Dirichlet process mixture models".
    """
    em = MixtureEM(sample, fastest_pass)
    mergers = list(_Tree(model, moments, sample).mergers())
    n_merges = {2**i for i in range(len(mergers).bit_length())} | {len(mergers) - 1}
    n_merges.add(int(np.argmax([merger.gain for merger in mergers])))
    best, highest = None, em.start(model).bound
    for n in sorted(n_merges & set(range(1, len(mergers)))):
        candidate = model.settled(moments.merged(mergers[n].to), _STEPS)
        bound = em.start(candidate).bound
        if bound > highest:
            best, highest = candidate, bound
    return best


class _Tree:
    """Components, and the gain from merging each pair of them."""

    def __init__(self, model: BayesianMixture, moments: Moments, rows: Rows):
        k = len(moments.count)
        posterior = np.empty((rows.n_rows, k))
        map_rows(model, rows, lambda seen: seen.weight, posterior)
        self._prior, self._q = model.prior, model.q.components
        self._weight = np.ones(rows.n_rows) if rows.weight is None else rows.weight
        self._moments = moments
        self._posterior = np.ascontiguousarray(posterior.T)
        self._evidence = self._evidence_of(moments)
        self._entropy = self._entropy_of(self._posterior)
        # For each pair as one component; -inf if it has not been considered.
        self._gain, self._joint_evidence, self._joint_entropy = np.full((3, k, k), -np.inf)
        self._held = moments.count > _HELD

    def mergers(self) -> Iterator[Merger]:
        """Yield no merge, then one, two and so on, until one component is left."""
        to, gain = np.arange(len(self._held)), 0.0
        yield Merger(to, gain)
        self._pair(np.flatnonzero(self._held))
        for _ in range(int(self._held.sum()) - 1):
            if not np.isfinite(self._gain).any():  # the neighbours of all have been merged
                self._pair(np.flatnonzero(self._held))
            a, b = np.unravel_index(self._gain.argmax(), self._gain.shape)
            gain += float(self._gain[a, b])
            self._merge(int(a), int(b))
            to = np.where(to == b, a, to)
            yield Merger(to, gain)

    def _merge(self, a: int, b: int) -> None:
        to = np.arange(len(self._held))
        to[b] = a
        self._moments = self._moments.merged(to)
        self._posterior[a] += self._posterior[b]
        self._evidence[a] = self._joint_evidence[a, b]
        self._entropy[a] = self._joint_entropy[a, b]
        self._held[b] = False
        for gone in (a, b):
            self._gain[gone] = self._gain[:, gone] = -np.inf
        self._pair(np.array([a]))

    def _pair(self, components: AnyArray) -> None:
        """Compute the gain from merging each of some components with its neighbours."""
        pairs = np.array(sorted({pair for a in components for pair in self._neighbours(a)}))
        if not len(pairs):
            return
        a, b = pairs.T
        count = self._moments.count
        evidence = self._evidence_of(self._moments.take(a) + self._moments.take(b))
        entropy = np.array([self._entropy_of(self._posterior[pair].sum(0)) for pair in pairs])
        gain = evidence - self._evidence[a] - self._evidence[b]
        gain += entropy - self._entropy[a] - self._entropy[b]
        gain += self._prior.weights.gain_of_merging(count[a], count[b])
        self._gain[a, b], self._joint_evidence[a, b], self._joint_entropy[a, b] = (
            gain,
            evidence,
            entropy,
        )

    def _neighbours(self, a: int) -> Iterator[tuple[int, int]]:
        """Pairs of ``a`` with its nearest neighbours, for components as wide as in the prior."""
        (others,) = np.nonzero(self._held & (np.arange(len(self._held)) != a))
        upper = self._prior.components.covariance.precision_cholesky[0]
        shift = self._moments.means[others] - self._moments.means[a]
        whitened = shift @ upper if upper.ndim == 2 else shift * upper
        nearest = np.argsort((whitened**2).sum(1), kind="stable")[:_NEIGHBOURS]
        return ((min(a, b), max(a, b)) for b in others[nearest])

    def _evidence_of(self, moments: Moments) -> Array:
        first = np.zeros(len(moments.count), dtype=int)
        prior: NormalWishart = self._prior.components.take(first)
        if prior.covariance.is_shared:
            return prior.log_evidence_given(self._q.take(first), moments)
        return prior.log_evidence(moments)

    def _entropy_of(self, posterior: Array) -> Array:
        entropy: Array = -xlogy(posterior, posterior) @ self._weight
        return entropy
