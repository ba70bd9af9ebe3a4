"""Distributions of mixing weights, conjugate to labels, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import betaln, digamma, gammaln

from skemvae.core.arrays import AnyArray, Array


class MixingWeights(ABC):
    """A density over K weights that sum to 1."""

    @classmethod
    @abstractmethod
    def prior(cls, n_components: int, concentration: float) -> Self:
        """Before any row is seen."""

    @staticmethod
    @abstractmethod
    def default_concentration(n_components: int) -> float:
        """A concentration that leaves superfluous components empty."""

    @abstractmethod
    def posterior(self, count: Array) -> Self:
        """After so many rows of each component, ``count`` of shape (K,)."""

    def order(self, count: Array) -> AnyArray:
        """An order of the components that makes such counts most probable."""
        return np.arange(len(count))

    @property
    @abstractmethod
    def expected_log(self) -> Array:
        """E[log w_k], shape (K,), nats."""

    @property
    @abstractmethod
    def mean(self) -> Array:
        """E[w_k], shape (K,); sums to 1."""

    @property
    @abstractmethod
    def public(self) -> AnyArray:
        """Its parameters: of shape (K,), or a pair of such arrays in one."""

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

    def posterior(self, count: Array) -> Self:
        return replace(self, concentration=self.concentration + count)

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
    """Dirichlet process, truncated: w_k = v_k prod_{j<k} (1 - v_j), with v_K = 1.

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

    def posterior(self, count: Array) -> Self:
        after = np.cumsum(count[::-1])[::-1]
        return replace(self, taken=self.taken + count[:-1], left=self.left + after[1:])

    def order(self, count: Array) -> AnyArray:
        # Large ones first; but the last one takes what is left, and may be any of them.
        sorted_ = np.argsort(-count, kind="stable")
        orders = [np.append(np.delete(sorted_, k), sorted_[k]) for k in range(len(count))]
        orders.append(np.arange(len(count)))
        return max(orders, key=lambda order: self._log_evidence(count[order]))

    def _log_evidence(self, count: Array) -> float:
        """log p(labels) of components that hold so many rows, but for a constant."""
        posterior = self.posterior(count)
        return float(betaln(posterior.taken, posterior.left).sum())

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
