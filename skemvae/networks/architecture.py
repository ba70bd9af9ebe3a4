"""What the networks of a VAE look like, and how they are made for a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from skemvae.likelihoods import Likelihood
from skemvae.likelihoods.columns import Table
from skemvae.networks.codes import Codes
from skemvae.networks.encoder import Encoder
from skemvae.networks.priors import MixturePrior, NormalPrior, Prior, VampPrior
from skemvae.networks.vae import VAE, Decoder


@dataclass(frozen=True)
class Architecture:
    """Sizes and kinds of the parts.

    Attributes
    ----------
    n_components : int
        Latent dimensions.
    hidden_layer_sizes : tuple of int
        Of the encoder; the decoder has them in reverse order.
    activation : str
    prior : {"normal", "mixture", "vamp"}
    n_prior_components : int
        Of a mixture or pseudo-input prior.
    shared_encoder : bool
        Whether a pseudo-input prior uses the encoder itself, not a copy that
        belongs to θ.
    """

    n_components: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    prior: str
    n_prior_components: int
    shared_encoder: bool

    def build(
        self,
        heads: Sequence[Likelihood],
        table: Table,
        codes: Codes,
        generator: torch.Generator,
    ) -> VAE:
        """Make networks for the rows ``codes`` of a table, whose heads are bound here."""
        outputs = [
            head.bind(codes.u[:, where], codes.weight, units)
            for head, where, units in zip(heads, table.slices, table.blocks, strict=True)
        ]
        return self.assemble(heads, table, outputs, codes.u, generator)

    def assemble(
        self,
        heads: Sequence[Likelihood],
        table: Table,
        outputs: Sequence[torch.Tensor],
        u: torch.Tensor,
        generator: torch.Generator,
    ) -> VAE:
        """Make networks for codes ``u`` and bound heads, whose outputs are to start from here."""
        decoder = Decoder(
            self.n_components,
            self.hidden_layer_sizes,
            heads,
            table.slices,
            outputs,
            self.activation,
            generator,
        )
        features = decoder.features(u)
        encoder = Encoder(
            features.shape[1],
            self.hidden_layer_sizes,
            self.n_components,
            self.activation,
            generator,
            shortcut=decoder.shortcut is not None,
        )
        return VAE(encoder, decoder, self._prior(encoder, features, generator), features)

    def n_numbers(self, n_features: int, n_outputs: int, real: bool) -> int:
        """How many numbers such networks hold, without the heads' own.

        Parameters
        ----------
        n_features : int
            Inputs of the encoder.
        n_outputs : int
            Outputs of the decoder.
        real : bool
            Whether there are columns of real numbers, for which maps lead past
            the hidden layers.
        """
        k, hidden, c = self.n_components, self.hidden_layer_sizes, self.n_prior_components
        past = k if hidden and real else 0
        encoder = _affine([n_features, *hidden, 2 * k]) + past * n_features
        decoder = _affine([k, *reversed(hidden), n_outputs]) + past * n_outputs
        own_encoder = 0 if self.shared_encoder else encoder
        prior = {
            "normal": 0,
            "mixture": c * (1 + 2 * k),
            "vamp": c * (1 + n_features) + own_encoder,
        }
        limits = 2 * n_features
        return encoder + decoder + prior[self.prior] + limits

    def _prior(self, encoder: Encoder, features: torch.Tensor, generator: torch.Generator) -> Prior:
        if self.prior == "normal":
            return NormalPrior()
        if self.prior == "mixture":
            return MixturePrior(self.n_prior_components, self.n_components, generator)
        rows = torch.randint(len(features), (self.n_prior_components,), generator=generator)
        return VampPrior(features[rows], None if self.shared_encoder else encoder)


def _affine(sizes: Sequence[int]) -> int:
    """Weights and biases of affine maps between layers of these sizes."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
