"""Priors p(z) as modules: what is learned of them."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from skemvae.networks.encoder import Encoder
from skemvae.posteriors.gaussians import GaussianMixture, PriorDensity, StandardNormal


class Prior(nn.Module, ABC):
    """p(z), or how it is made of parameters and the encoder."""

    # Whether the encoder is a part of p(z).
    contains_encoder = False

    @abstractmethod
    def forward(self, encoder: Encoder) -> PriorDensity:
        """The density, at the present parameters."""


class NormalPrior(Prior):
    """N(0, I): nothing is learned."""

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

    def forward(self, encoder: Encoder) -> PriorDensity:
        return GaussianMixture(torch.log_softmax(self.logits, 0), self.mean, self.log_scale)


class VampPrior(Prior):
    """The mean posterior of learned pseudo-inputs, with learned weights.

    Parameters
    ----------
    inputs : Tensor of shape (C, n_features)
        What the encoder is to see of the pseudo-inputs at the start.
    own_encoder : Encoder, optional
        Copied, if the prior shall not share the encoder of q(z | x).

    References
    ----------
    Tomczak and Welling (2018), "VAE with a VampPrior".
    """

    def __init__(self, inputs: Tensor, own_encoder: Encoder | None = None):
        super().__init__()
        self.inputs = nn.Parameter(inputs.clone())
        self.logits = nn.Parameter(torch.zeros(len(inputs)))
        self.own_encoder = copy.deepcopy(own_encoder)

    @property
    def contains_encoder(self) -> bool:  # type: ignore[override]
        """Whether the encoder of q(z | x) is a part of p(z)."""
        return self.own_encoder is None

    def forward(self, encoder: Encoder) -> PriorDensity:
        q = (self.own_encoder or encoder)(self.inputs)
        return GaussianMixture(torch.log_softmax(self.logits, 0), q.mean, q.log_scale)
