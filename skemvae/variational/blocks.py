"""Passes over rows in blocks of bounded size, on several threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor

from skemvae.posteriors.ascent import Family, climb, full
from skemvae.posteriors.expectations import Expectation, Expected
from skemvae.posteriors.gaussians import FullGaussian
from skemvae.posteriors.threads import in_region
from skemvae.variational.maximise import maximise

# Numbers in the widest intermediate array of a block.
_BLOCK_NUMBERS = 2**19

T = TypeVar("T")


@dataclass(frozen=True)
class Blocks:
    """The rows of a table, a block at a time.

    Attributes
    ----------
    n_rows : int
    width : int
        Numbers that the widest intermediate array holds for one row.
    """

    n_rows: int
    width: int

    def map(self, function: Callable[[slice], T]) -> list[T]:
        """Apply a function to each block, without an autograd graph."""
        size = max(1, _BLOCK_NUMBERS // self.width)
        slices = [slice(i, i + size) for i in range(0, self.n_rows, size)]

        def without_graph(rows: slice) -> Any:
            with torch.no_grad():  # each thread has its own setting
                return function(rows)

        return in_region(lambda region: region.map(without_graph, slices))

    def sums(self, function: Callable[[slice], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Sum the results of a function over the blocks."""
        return tuple(reduce(torch.add, part) for part in zip(*self.map(function), strict=True))

    def climb(
        self,
        expectation: Expectation,
        q: FullGaussian,
        family: Family = full,
        n_steps: int = 1,
    ) -> tuple[FullGaussian, Expected]:
        """Take ``n_steps`` steps towards the best q, for all rows."""

        def climb_block(rows: slice) -> tuple[FullGaussian, Expected]:
            block, start = expectation.rows(rows), q.rows(rows)
            return climb(block, start, block(start), family, n_steps)

        parts = self.map(climb_block)
        return (
            FullGaussian.of_blocks([q for q, _ in parts]),
            Expected(
                torch.cat([expected.value for _, expected in parts]),
                torch.cat([expected.gradient for _, expected in parts]),
                torch.cat([expected.curvature for _, expected in parts]),
            ),
        )

    def climb_parameters(
        self,
        parameters: list[Tensor],
        value: Callable[[slice], Tensor],
        n_iter: int,
    ) -> None:
        """Improve parameters in place; ``value(rows)`` must be differentiable in them."""

        def of_rows(rows: slice) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                total = value(rows)
                gradients = torch.autograd.grad(
                    total, parameters, allow_unused=True, materialize_grads=True
                )
                return (total.detach(), *gradients)

        def value_and_gradients(values: list[Tensor]) -> tuple[float, list[Tensor]]:
            with torch.no_grad():
                for parameter, new in zip(parameters, values, strict=True):
                    parameter.copy_(new)
            total, *gradients = self.sums(of_rows)
            return float(total), gradients

        for parameter in parameters:
            parameter.requires_grad_(True)
        start = [parameter.detach().clone() for parameter in parameters]
        best = maximise(start, value_and_gradients, n_iter)
        for parameter, new in zip(parameters, best, strict=True):
            parameter.requires_grad_(False)
            parameter.copy_(new)
