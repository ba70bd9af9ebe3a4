"""Factor analysis, to which networks without hidden layers reduce."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from skemvae.likelihoods.base import weighted_mean, weighted_variance
from skemvae.posteriors.threads import in_region

if TYPE_CHECKING:
    from skemvae.likelihoods.columns import Table
    from skemvae.networks.codes import Codes
    from skemvae.networks.vae import VAE

# This many rows determine the factor model well enough.
_ROWS = 4096
_STEPS = 50
_POWERS, _SPARE = 10, 8
# Smallest noise, as a share of the variance of a column.
_LEAST_NOISE = 1e-6


@dataclass(frozen=True)
class Factors:
    """The model x = mean + loadings z + noise with standard normal z, and its posterior.

    The factors are rotated so that they are independent given x: q(z | x) is
    normal with mean ``weights (x - mean)`` and standard deviations ``scale``.

    Attributes
    ----------
    mean : Tensor of shape (p,)
    loadings : Tensor of shape (p, k)
    noise : Tensor of shape (p,)
        The share of each column's variance that is noise.
    weights : Tensor of shape (k, p)
    scale : Tensor of shape (k,)
    """

    mean: Tensor
    loadings: Tensor
    noise: Tensor
    weights: Tensor
    scale: Tensor

    @classmethod
    def of(cls, x: Tensor, weight: Tensor, k: int, generator: torch.Generator) -> Self:
        """Fit nearly by maximum likelihood to rows x of shape (n, p).

        EM on columns scaled to variance 1, starting from their principal components.

        References
        ----------
        Rubin and Thayer (1982), "EM algorithms for ML factor analysis";
        Tipping and Bishop (1999), "Probabilistic principal component analysis".
        """
        rows = torch.randperm(len(x), generator=generator)[:_ROWS]
        some, share = x[rows].double(), weight[rows].double()
        mean, spread = weighted_mean(some, share), weighted_variance(some, share).sqrt()
        spread = torch.where(spread > 0, spread, 1.0)
        unit = (some - mean) / spread * (share / share.sum()).sqrt()[:, None]
        loadings = _principal(unit, k, generator)
        identity = torch.eye(k, dtype=unit.dtype)
        noise = (1 - (loadings**2).sum(1)).clamp(_LEAST_NOISE, 1)
        square = unit.mT @ unit if len(unit) > unit.shape[1] else None
        for _ in range(_STEPS):
            precise = loadings / noise[:, None]
            weights = torch.linalg.solve(identity + loadings.mT @ precise, precise.mT)
            cross = unit.mT @ (unit @ weights.mT) if square is None else square @ weights.mT
            second = identity - weights @ loadings + weights @ cross
            loadings = torch.linalg.solve(second, cross, left=False)
            noise = (1 - (loadings * cross).sum(1)).clamp(_LEAST_NOISE, 1)
        bends, axes = torch.linalg.eigh(loadings.mT @ (loadings / noise[:, None]))
        loadings, bends = loadings @ axes, 1 + bends.clamp(min=0)
        weights = (loadings / noise[:, None] / bends).mT / spread
        parts = mean, spread[:, None] * loadings, noise, weights, bends**-0.5
        return cls(*(part.to(x.dtype) for part in parts))


def _principal(unit: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Loadings of probabilistic PCA, for rows with the covariance ``unit.mT @ unit``.

    Power iteration on a random subspace. At least one direction is left to the noise.
    """
    p = unit.shape[1]
    n_found, n_axes = min(k, p - 1), min(k + _SPARE, p)
    axes = torch.randn((p, n_axes), generator=generator, dtype=unit.dtype)
    for _ in range(_POWERS):
        axes = torch.linalg.qr(unit.mT @ (unit @ axes)).Q
    _, singular, turn = torch.linalg.svd(unit @ axes, full_matrices=False)
    n_found = min(n_found, len(singular))
    variance = singular[:n_found] ** 2
    noise = ((unit**2).sum() - variance.sum()).clamp(min=_LEAST_NOISE * p) / (p - n_found)
    loadings = torch.zeros((p, k), dtype=unit.dtype)
    loadings[:, :n_found] = axes @ turn[:n_found].mT * (variance - noise).clamp(min=0).sqrt()
    return loadings


def factor_model(vae: VAE, table: Table, training: Codes, generator: torch.Generator) -> VAE:
    """Copy the networks, with weights that make them the factor model of the rows.

    Their hidden layers contribute nothing.
    """
    vae, u, weight = copy.deepcopy(vae), training.u, training.weight
    features, k = vae.decoder.features(u), vae.n_components
    factors = in_region(lambda region: Factors.of(features, weight, k, generator))
    noise = vae.decoder.noise_of(u, factors)
    blocks = zip(vae.decoder.heads, table.slices, table.blocks, strict=True)
    outputs = [head.bind(noise[:, where], weight, units) for head, where, units in blocks]
    vae.encoder.become(factors)
    vae.decoder.become(factors, torch.cat(outputs))
    return vae
