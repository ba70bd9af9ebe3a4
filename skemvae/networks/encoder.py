"""q_φ(z | x) with a network as encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skemvae.networks.factors import Factors
from skemvae.networks.layers import MLP, linear, straight
from skemvae.posteriors.gaussians import DiagonalGaussian

# exp(2 * 10) does not overflow, and a posterior narrower than exp(-10) is practically a point.
_LOG_SCALE = 10.0


class Encoder(nn.Module):
    """φ: maps features of x to the mean and scale of q(z | x).

    With ``shortcut``, a linear map past the hidden layers adds to the mean.
    """

    def __init__(
        self,
        n_features: int,
        hidden_layer_sizes: Sequence[int],
        n_components: int,
        activation: str,
        generator: torch.Generator,
        shortcut: bool,
    ):
        super().__init__()
        self.hidden = MLP([n_features, *hidden_layer_sizes], activation, generator)
        n_hidden = [n_features, *hidden_layer_sizes][-1]
        self.moments = linear(n_hidden, 2 * n_components, generator)
        with torch.no_grad():  # so that all rows start with the same scale
            self.moments.weight[n_components:] = 0.0
        self.shortcut = straight(n_features, n_components) if shortcut else None

    def forward(self, features: Tensor) -> DiagonalGaussian:
        """q(z | x) for each row of features."""
        mean, log_scale = self.moments(self.hidden(features)).chunk(2, -1)
        if self.shortcut is not None:
            mean = mean + self.shortcut(features)
        return DiagonalGaussian(mean, log_scale.clamp(-_LOG_SCALE, _LOG_SCALE))

    @torch.no_grad()
    def become(self, factors: Factors) -> None:
        """Set the weights so that q is the posterior of a factor model."""
        self.moments.weight.zero_()
        last = self.shortcut or self.moments
        last.weight[: len(factors.scale)] = factors.weights
        self.moments.bias.copy_(torch.cat([-factors.weights @ factors.mean, factors.scale.log()]))
