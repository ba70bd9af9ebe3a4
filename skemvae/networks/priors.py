"""Priors p(z) as torch modules that hold their learned parameters."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from skemvae.networks.encoder import Encoder
from skemvae.posteriors.gaussians import GaussianMixture, PriorDensity, StandardNormal


@dataclass(frozen=True)
class PriorPlan:
    """What a prior may look at when it is made.

    Attributes
    ----------
    n_components : int
        Latent dimensions.
    n_prior_components : int
        What the user asks for.
    n_features, n_encoder : int
        Inputs and numbers of the encoder.
    shares_encoder : bool
        Whether the prior may use the encoder itself, not only a copy.
    encoder, features, generator : Encoder, Tensor of shape (n, n_features), Generator, optional
        The encoder, what it sees of the rows, and what draws; ``n_numbers`` has none of them.
    """

    n_components: int
    n_prior_components: int
    n_features: int
    n_encoder: int
    shares_encoder: bool
    encoder: Any = None
    features: Any = None
    generator: Any = None


class Prior(nn.Module, ABC):
    """Makes p(z) from its parameters and the encoder."""

    # Whether the encoder is part of p(z).
    contains_encoder = False

    @classmethod
    @abstractmethod
    def begin(cls, plan: PriorPlan) -> Self:
        """Where training begins."""

    @classmethod
    @abstractmethod
    def n_numbers(cls, plan: PriorPlan) -> int:
        """How many numbers the module holds; known before any of them is allocated."""

    @abstractmethod
    def forward(self, encoder: Encoder) -> PriorDensity:
        """The density at the current parameters."""


class NormalPrior(Prior):
    """N(0, I), without learned parameters."""

    @classmethod
    def begin(cls, plan: PriorPlan) -> Self:
        return cls()

    @classmethod
    def n_numbers(cls, plan: PriorPlan) -> int:
        return 0

    def forward(self, encoder: Encoder) -> PriorDensity:
        return StandardNormal()


class MixturePrior(Prior):
    """A learned mixture of Gaussians with independent coordinates."""

    def __init__(self, n_prior_components: int, n_components: int, generator: torch.Generator):
        super().__init__()
        shape = (n_prior_components, n_components)
        self.logits = nn.Parameter(torch.zeros(n_prior_components))
        self.mean = nn.Parameter(torch.randn(shape, generator=generator))
        self.log_scale = nn.Parameter(torch.zeros(shape))

    @classmethod
    def begin(cls, plan: PriorPlan) -> Self:
        return cls(plan.n_prior_components, plan.n_components, plan.generator)

    @classmethod
    def n_numbers(cls, plan: PriorPlan) -> int:
        return plan.n_prior_components * (1 + 2 * plan.n_components)

    def forward(self, encoder: Encoder) -> PriorDensity:
        return GaussianMixture(torch.log_softmax(self.logits, 0), self.mean, self.log_scale)


class VampPrior(Prior):
    """A weighted mean of the posteriors of learned pseudo-inputs, with learned weights.

    Parameters
    ----------
    inputs : Tensor of shape (C, n_features)
        The encoder features of the pseudo-inputs at the start.
    own_encoder : Encoder, optional
        An encoder to copy, if the prior does not share that of q(z | x).

    References
    ----------
    Tomczak and Welling (2018), "VAE with a VampPrior".
    """

    def __init__(self, inputs: Tensor, own_encoder: Encoder | None = None):
        super().__init__()
        self.inputs = nn.Parameter(inputs.clone())
        self.logits = nn.Parameter(torch.zeros(len(inputs)))
        self.own_encoder = copy.deepcopy(own_encoder)

    @classmethod
    def begin(cls, plan: PriorPlan) -> Self:
        size = (plan.n_prior_components,)
        rows = torch.randint(len(plan.features), size, generator=plan.generator)
        return cls(plan.features[rows], None if plan.shares_encoder else plan.encoder)

    @classmethod
    def n_numbers(cls, plan: PriorPlan) -> int:
        own_encoder = 0 if plan.shares_encoder else plan.n_encoder
        return plan.n_prior_components * (1 + plan.n_features) + own_encoder

    @property
    def contains_encoder(self) -> bool:  # type: ignore[override]
        """Whether the encoder of q(z | x) is part of p(z)."""
        return self.own_encoder is None

    def forward(self, encoder: Encoder) -> PriorDensity:
        q = (self.own_encoder or encoder)(self.inputs)
        return GaussianMixture(torch.log_softmax(self.logits, 0), q.mean, q.log_scale)


PRIORS: dict[str, type[Prior]] = {
    "normal": NormalPrior,
    "mixture": MixturePrior,
    "vamp": VampPrior,
}
