"""The decoder network, and the VAE as the whole of encoder, decoder and prior."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from skemvae.likelihoods import Likelihood
from skemvae.likelihoods.base import weighted_variance
from skemvae.networks.codes import Codes
from skemvae.networks.encoder import Encoder
from skemvae.networks.factors import Factors
from skemvae.networks.layers import MLP, linear, straight
from skemvae.networks.priors import Prior
from skemvae.posteriors.gaussians import DiagonalGaussian, PriorDensity

# Features are clipped this many times their range beyond those of the training rows.
_MARGIN = 3.0
_ACTIVE = 0.01


class Decoder(nn.Module):
    """θ without the prior: maps z to the distribution of the codes u of x.

    With hidden layers and columns of real numbers, a linear map past the layers
    adds to the outputs.

    Parameters
    ----------
    heads : list of Likelihood
        Bound to the blocks of columns ``slices``.
    outputs : list of Tensor
        Initial outputs of the heads.
    """

    def __init__(
        self,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        heads: Sequence[Likelihood],
        slices: Sequence[slice],
        outputs: Sequence[Tensor],
        activation: str,
        generator: torch.Generator,
    ):
        super().__init__()
        sizes = [n_components, *reversed(hidden_layer_sizes)]
        self.hidden = MLP(sizes, activation, generator)
        self.outputs = linear(sizes[-1], sum(map(len, outputs)), generator)
        with torch.no_grad():
            self.outputs.bias.copy_(torch.cat(list(outputs)))
        self.heads = nn.ModuleList(heads)
        self.slices = list(slices)
        short = self.real and len(hidden_layer_sizes) > 0
        self.shortcut = straight(n_components, self.outputs.out_features) if short else None

    @property
    def real(self) -> bool:
        """Whether there are columns of real numbers."""
        return any(head.real for head in cast(Sequence[Likelihood], self.heads))

    def blocks(self, eta: Tensor) -> Iterator[tuple[Likelihood, slice, Tensor]]:
        """Iterate over the heads, each with the columns of its codes and its outputs."""
        heads = cast(Sequence[Likelihood], self.heads)
        if len(heads) == 1:  # avoids a copy in the gradient of the split
            return iter([(heads[0], self.slices[0], eta)])
        parts = eta.split([head.n_outputs for head in heads], -1)
        return zip(heads, self.slices, parts, strict=True)

    def forward(self, z: Tensor) -> Tensor:
        """Outputs η of all heads."""
        eta = cast(Tensor, self.outputs(self.hidden(z)))
        return eta if self.shortcut is None else eta + self.shortcut(z)

    def log_prob(self, u: Tensor, z: Tensor) -> Tensor:
        """log p(u | z), shape (n, S), for u of shape (n, d) and z of shape (n or 1, S, k)."""
        total: Tensor | float = 0.0
        for head, where, eta in self.blocks(self(z)):
            total = total + head.log_prob(u[:, None, where], eta)
        return cast(Tensor, total)

    def log_probs(self, u: Tensor, z: Tensor) -> Tensor:
        """log p(u_j | z), shape (n, S, d)."""
        parts = [
            head.log_probs(u[:, None, where], eta) for head, where, eta in self.blocks(self(z))
        ]
        return torch.cat(parts, -1)

    def mean(self, z: Tensor) -> Tensor:
        """E[u | z], or the mode where there is no mean, shape (n, d)."""
        return torch.cat([head.mean(eta) for head, _, eta in self.blocks(self(z))], -1)

    def features(self, u: Tensor) -> Tensor:
        """The inputs of the encoder for these codes."""
        heads = cast(Sequence[Likelihood], self.heads)
        parts = [h.features(u[:, where]) for h, where in zip(heads, self.slices, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def draw(self, u: Tensor, generator: torch.Generator) -> Tensor:
        """The codes to train on, drawn where they are random themselves."""
        heads = cast(Sequence[Likelihood], self.heads)
        parts = [
            h.draw(u[:, where], generator) for h, where in zip(heads, self.slices, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def noise_of(self, u: Tensor, factors: Factors) -> Tensor:
        """Codes like u, but with real columns shrunk to vary about their mean by noise alone."""
        u = u.clone()
        for columns, features, _ in self._real_columns():
            mean, share = factors.mean[features], factors.noise[features]
            u[:, columns] = mean + (u[:, columns] - mean) * share.sqrt()
        return u

    @torch.no_grad()
    def become(self, factors: Factors, outputs: Tensor) -> None:
        """Set the weights so that the means of real columns are those of a factor model.

        The other outputs are those given, whatever z. Without hidden layers
        they keep their weights.
        """
        last = self.shortcut or self.outputs
        if self.shortcut is not None:
            self.outputs.weight.zero_()
        self.outputs.bias.copy_(outputs)
        for _, features, means in self._real_columns():
            last.weight[means] = factors.loadings[features]
            self.outputs.bias[means] = factors.mean[features]

    def _real_columns(self) -> Iterator[tuple[slice, slice, slice]]:
        """For each real head: its columns of codes, their features, and the outputs for means."""
        feature = output = 0
        for head, where in zip(cast(Sequence[Likelihood], self.heads), self.slices, strict=True):
            d = where.stop - where.start
            if head.real:
                yield where, slice(feature, feature + d), slice(output, output + d)
            feature += head.features(torch.zeros(1, d)).shape[1]
            output += head.n_outputs


class VAE(nn.Module):
    """A variational autoencoder: encoder φ, decoder and prior θ.

    Features are clipped a few times their range beyond the training rows before
    the encoder sees them, so an extreme row cannot make it overflow. The bound
    remains a bound, because q may be anything.
    """

    low: Tensor
    high: Tensor

    def __init__(self, encoder: Encoder, decoder: Decoder, prior: Prior, features: Tensor):
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        low, high = features.amin(0), features.amax(0)
        margin = _MARGIN * (high - low).clamp(min=1.0)
        self.register_buffer("low", low - margin)
        self.register_buffer("high", high + margin)

    @property
    def n_components(self) -> int:
        """Number of latent dimensions k."""
        return cast(int, self.encoder.moments.out_features) // 2

    def prior_density(self) -> PriorDensity:
        """p(z)."""
        return cast(PriorDensity, self.prior(self.encoder))

    def posterior(self, u: Tensor) -> DiagonalGaussian:
        """q(z | x) for each row of codes."""
        features = self.decoder.features(u)
        return cast(DiagonalGaussian, self.encoder(features.clamp(self.low, self.high)))

    def theta(self) -> list[nn.Parameter]:
        """The parameters of p(x, z) that do not belong to φ."""
        return [*self.decoder.parameters(), *self.prior.parameters()]

    def phi(self) -> list[nn.Parameter]:
        """The parameters of q(z | x)."""
        return list(self.encoder.parameters())

    @property
    def n_parameters(self) -> int:
        """Number of free parameters of p(x, z); the encoder's count if the prior contains it."""
        parts = [*self.theta(), *(self.phi() if self.prior.contains_encoder else [])]
        return sum(p.numel() for p in parts)


def n_active_units(vae: VAE, codes: Codes) -> int:
    """Number of latent dimensions whose posterior mean varies between rows.

    References
    ----------
    Burda, Grosse and Salakhutdinov (2016), "Importance weighted
    autoencoders", section 5: a variance above 0.01.
    """
    with torch.no_grad():
        means = torch.cat([vae.posterior(block.u).mean for block in codes.blocks()])
    variance = weighted_variance(means.double(), codes.weight.double())
    return int((variance > _ACTIVE).sum())
