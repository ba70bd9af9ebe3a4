"""The rows of a table as tensors, with their weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Codes:
    """Rows to train or to validate on.

    Attributes
    ----------
    u : Tensor of shape (n, d)
    weight : Tensor of shape (n,)
        Mean 1.
    """

    u: Tensor
    weight: Tensor

    @classmethod
    def of(cls, codes: Any, weight: Any) -> Self:
        """Wrap arrays, with the weights scaled to mean 1."""
        scaled = (weight / weight.mean()).astype(np.float32)
        return cls(torch.from_numpy(codes), torch.from_numpy(scaled))

    def __len__(self) -> int:
        return len(self.u)

    def to(self, device: torch.device) -> Codes:
        """The same rows on a device."""
        return Codes(self.u.to(device), self.weight.to(device))

    def split(self, n: int, generator: torch.Generator) -> tuple[Codes, Codes]:
        """Split at random into ``n`` rows and the others."""
        order = torch.randperm(len(self), generator=generator).to(self.u.device)
        some, others = (Codes(self.u[i], self.weight[i]) for i in order.tensor_split([n]))
        return some, others

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Codes]:
        """Iterate over random batches of nearly equal size."""
        order = torch.randperm(len(self), generator=generator, device=self.u.device)
        for rows in order.tensor_split(math.ceil(len(self) / size)):
            yield Codes(self.u.index_select(0, rows), self.weight[rows])

    def parts(self, n: int) -> list[Codes]:
        """Split into ``n`` consecutive parts of nearly equal size."""
        split = zip(self.u.tensor_split(n), self.weight.tensor_split(n), strict=True)
        return [Codes(u, weight) for u, weight in split]

    def blocks(self) -> Iterator[Codes]:
        """Iterate over blocks of consecutive rows."""
        for rows in torch.arange(len(self), device=self.u.device).split(_BLOCK_ROWS):
            yield Codes(self.u[rows], self.weight[rows])
