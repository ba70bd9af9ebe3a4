"""The architecture of a VAE, and how to build its networks for a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from skemvae.likelihoods import Likelihood
from skemvae.likelihoods.columns import Table
from skemvae.networks.codes import Codes
from skemvae.networks.encoder import Encoder
from skemvae.networks.priors import PRIORS, PriorPlan
from skemvae.networks.vae import VAE, Decoder


@dataclass(frozen=True)
class Architecture:
    """Sizes and kinds of the parts of a VAE.

    Attributes
    ----------
    n_components : int
        Number of latent dimensions.
    hidden_layer_sizes : tuple of int
        Of the encoder; the decoder has the same sizes in reverse order.
    activation : str
    prior : str
        A name in ``PRIORS``.
    n_prior_components : int
        Of a mixture or a VampPrior.
    shared_encoder : bool
        Whether a VampPrior uses the encoder itself, rather than a copy that
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
        """Bind the heads to the rows ``codes`` of a table and build networks for them."""
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
        """Build networks for codes ``u`` and bound heads; the outputs start at ``outputs``."""
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
        n_encoder = sum(parameter.numel() for parameter in encoder.parameters())
        plan = replace(
            self._prior_plan(features.shape[1], n_encoder),
            encoder=encoder,
            features=features,
            generator=generator,
        )
        return VAE(encoder, decoder, PRIORS[self.prior].begin(plan), features)

    def n_numbers(self, n_features: int, n_outputs: int, real: bool) -> int:
        """Count the numbers that such networks hold, without those of the heads.

        Parameters
        ----------
        n_features : int
            Inputs of the encoder.
        n_outputs : int
            Outputs of the decoder.
        real : bool
            Whether there are columns of real numbers, which add shortcuts past
            the hidden layers.
        """
        k, hidden = self.n_components, self.hidden_layer_sizes
        past = k if hidden and real else 0
        encoder = _affine([n_features, *hidden, 2 * k]) + past * n_features
        decoder = _affine([k, *reversed(hidden), n_outputs]) + past * n_outputs
        prior = PRIORS[self.prior].n_numbers(self._prior_plan(n_features, encoder))
        limits = 2 * n_features
        return encoder + decoder + prior + limits

    def _prior_plan(self, n_features: int, n_encoder: int) -> PriorPlan:
        return PriorPlan(
            self.n_components,
            self.n_prior_components,
            n_features,
            n_encoder,
            self.shared_encoder,
        )


def _affine(sizes: Sequence[int]) -> int:
    """Number of weights and biases of affine maps between layers of these sizes."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
