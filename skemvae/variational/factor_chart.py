"""Coordinates of factor models near a given one, in which the M step is a gradient step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skemvae.core.arrays import Array
from skemvae.posteriors.gaussians import FullGaussian
from skemvae.variational.factor_parameters import Factors

# Least eigenvalue of an information matrix, as a share of its largest.
_LEAST_SHARE = 1e-10


@dataclass(frozen=True)
class Place:
    """Parameters, and a q of each row to start the E step from.

    Attributes
    ----------
    factors : Factors
    q : FullGaussian
    """

    factors: Factors
    q: FullGaussian


class FactorChart:
    """Coordinates around given parameters: a root of the information times the difference.

    The information is what the M step divides the gradient by, per row. To
    first order the M step is then the gradient of the bound, and half of a
    squared length is in nats per row.

    Parameters
    ----------
    factors : Factors
        The origin.
    of_predictors : sequence of Tensor of shape (o, k + 1, k + 1)
        The information on (W_j, b_j) in each block.
    of_heads : sequence of Tensor
        The information on each parameter of the likelihoods.
    """

    def __init__(self, factors: Factors, of_predictors: list[Tensor], of_heads: list[Tensor]):
        self._factors = factors
        self._roots = []
        for information in of_predictors:
            values, vectors = torch.linalg.eigh(information)
            least = _LEAST_SHARE * values.amax(-1, keepdim=True)
            size = torch.maximum(values, least).clamp(min=1e-100).sqrt()
            self._roots.append((vectors, size))
        self._scales = [each.sqrt() for each in of_heads]

    @property
    def n_parameters(self) -> int:
        """The number of free parameters."""
        return self._factors.n_parameters

    def coordinates(self, place: Any) -> Array:
        """The coordinates of a place, as a vector."""
        parts = [
            ((new - old)[:, None] @ vectors)[:, 0] * size
            for new, old, (vectors, size) in zip(
                _predictors(place.factors), _predictors(self._factors), self._roots, strict=True
            )
        ]
        parts += [
            (new - old) * scale
            for new, old, scale in zip(
                place.factors.heads.parameters(),
                self._factors.heads.parameters(),
                self._scales,
                strict=True,
            )
        ]
        return torch.cat([part.flatten() for part in parts]).numpy()

    def model(self, coordinates: Array, near: Any) -> Place | None:
        """The place with these coordinates, or None if a parameter is not finite."""
        factors = copy.deepcopy(self._factors)
        rest = torch.from_numpy(coordinates)
        for block, (vectors, size) in zip(factors.blocks, self._roots, strict=True):
            part, rest = rest[: size.numel()], rest[size.numel() :]
            step = (vectors @ (part.reshape(size.shape) / size)[..., None])[..., 0]
            block.move(step)
        for parameter, scale in zip(factors.heads.parameters(), self._scales, strict=True):
            part, rest = rest[: scale.numel()], rest[scale.numel() :]
            parameter.add_(part.reshape(scale.shape) / scale)
        finite = all(bool(each.isfinite().all()) for each in factors.parameters())
        return Place(factors, near.q) if finite else None


def _predictors(factors: Factors) -> Iterator[Tensor]:
    """(W_j, b_j) of each block, of shape (o, k + 1)."""
    for block in factors.blocks:
        yield torch.cat([block.loadings, block.intercept[:, None]], 1)
