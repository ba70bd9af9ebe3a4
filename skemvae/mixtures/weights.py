"""Distributions of mixing weights, conjugate to component labels, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import betaln, digamma, gammaln

from skemvae.core.arrays import AnyArray, Array

# Orders of components count as equally good if their log probabilities differ relatively by less.
_TIE = 1e-12


class MixingWeights(ABC):
    """A density over K weights that sum to 1."""

    @classmethod
    @abstractmethod
    def prior(cls, n_components: int, concentration: float) -> Self:
        """The distribution before any rows."""

    @staticmethod
    @abstractmethod
    def default_concentration(n_components: int) -> float:
        """The default concentration, which leaves superfluous components empty."""

    @abstractmethod
    def resized(self, n_components: int) -> Self:
        """The same prior for another number of components."""

    @abstractmethod
    def posterior(self, count: Array) -> Self:
        """The distribution after ``count`` rows of each component, shape (K,)."""

    def order(self, count: Array) -> AnyArray:
        """The order of the components that makes these counts most probable."""
        return np.arange(len(count))

    @abstractmethod
    def gain_of_merging(self, a: Array, b: Array) -> Array:
        """The rise of log p(labels) if components of a and b rows become one, nats.

        It assumes that many components are available; gains of several merges add up.
        """

    @property
    @abstractmethod
    def expected_log(self) -> Array:
        """E[log w_k], shape (K,), nats."""

    @property
    @abstractmethod
    def mean(self) -> Array:
        """E[w_k], shape (K,); they sum to 1."""

    @property
    @abstractmethod
    def public(self) -> AnyArray:
        """The parameters: an array of shape (K,), or a pair of arrays stacked in one."""

    @abstractmethod
    def divergence(self, prior: Self) -> float:
        """KL(self || prior), nats."""


@dataclass(frozen=True)
class Dirichlet(MixingWeights):
    """Dirichlet distribution.

    Attributes
    ----------
    concentration : array of shape (K,)
    """

    concentration: Array

    @classmethod
    def prior(cls, n_components: int, concentration: float) -> Self:
        return cls(np.full(n_components, float(concentration)))

    @staticmethod
    def default_concentration(n_components: int) -> float:
        return 1 / n_components

    def resized(self, n_components: int) -> Self:
        return self.prior(n_components, self.concentration[0])

    def posterior(self, count: Array) -> Self:
        return replace(self, concentration=self.concentration + count)

    def gain_of_merging(self, a: Array, b: Array) -> Array:
        alone = self.concentration[0]
        gain: Array = betaln(alone, alone + a + b) - betaln(alone + a, alone + b)
        return gain

    @property
    def expected_log(self) -> Array:
        expected: Array = digamma(self.concentration) - digamma(self.concentration.sum())
        return expected

    @property
    def mean(self) -> Array:
        mean: Array = self.concentration / self.concentration.sum()
        return mean

    @property
    def public(self) -> AnyArray:
        return self.concentration

    def _log_normaliser(self) -> float:
        a = self.concentration
        return float(gammaln(a).sum() - gammaln(a.sum()))

    def divergence(self, prior: Self) -> float:
        linear = float((self.concentration - prior.concentration) @ self.expected_log)
        return linear - self._log_normaliser() + prior._log_normaliser()


@dataclass(frozen=True)
class StickBreaking(MixingWeights):
    """Truncated Dirichlet process: w_k = v_k prod_{j<k} (1 - v_j), with v_K = 1.

    Attributes
    ----------
    taken, left : arrays of shape (K - 1,)
        Parameters of the beta distributions of v_1, ..., v_{K-1}.

    References
    ----------
    Blei and Jordan (2006), "Variational inference for Dirichlet process
    mixtures".
    """

    taken: Array
    left: Array

    @classmethod
    def prior(cls, n_components: int, concentration: float) -> Self:
        return cls(np.ones(n_components - 1), np.full(n_components - 1, float(concentration)))

    @staticmethod
    def default_concentration(n_components: int) -> float:
        return 1 / n_components

    def resized(self, n_components: int) -> Self:
        return self.prior(n_components, self.left[0])

    def posterior(self, count: Array) -> Self:
        after = np.cumsum(count[::-1])[::-1]
        return replace(self, taken=self.taken + count[:-1], left=self.left + after[1:])

    def gain_of_merging(self, a: Array, b: Array) -> Array:
        # The gain under the Chinese restaurant process, whose components have no order.
        gain: Array = -betaln(a, b) - np.log(self.left[0])
        return gain

    def order(self, count: Array) -> AnyArray:
        # Large ones first; but the last one takes the remaining stick, and may be any of them.
        k = len(count)
        sorted_ = np.argsort(-count, kind="stable")
        orders = np.tile(sorted_, (k + 1, 1))
        orders[0] = np.arange(k)  # keep this order if no other is better
        for last in range(k):
            orders[last + 1, last:] = np.roll(sorted_[last:], -1)
        held = count[orders]
        after = np.cumsum(held[:, ::-1], axis=1)[:, ::-1]
        log_evidence = betaln(self.taken + held[:, :-1], self.left + after[:, 1:]).sum(1)
        log_evidence[0] += _TIE * max(1.0, abs(log_evidence[0]))
        best: AnyArray = orders[log_evidence.argmax()]
        return best

    @property
    def expected_log(self) -> Array:
        both = digamma(self.taken + self.left)
        log_taken = np.append(digamma(self.taken) - both, 0.0)
        log_left: Array = np.append(0.0, np.cumsum(digamma(self.left) - both))
        return log_taken + log_left

    @property
    def mean(self) -> Array:
        both = self.taken + self.left
        taken = np.append(self.taken / both, 1.0)
        left: Array = np.append(1.0, np.cumprod(self.left / both))
        return taken * left

    @property
    def public(self) -> AnyArray:
        return np.stack([self.taken, self.left])

    def divergence(self, prior: Self) -> float:
        both = digamma(self.taken + self.left)
        terms = (
            betaln(prior.taken, prior.left)
            - betaln(self.taken, self.left)
            + (self.taken - prior.taken) * (digamma(self.taken) - both)
            + (self.left - prior.left) * (digamma(self.left) - both)
        )
        return float(terms.sum())


MIXING_WEIGHTS: dict[str, type[MixingWeights]] = {
    "dirichlet_process": StickBreaking,
    "dirichlet_distribution": Dirichlet,
}
