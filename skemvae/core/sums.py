"""Sums over rows, as a pass makes them."""

from __future__ import annotations

from dataclasses import dataclass

from skemvae.core.arrays import Array


@dataclass(frozen=True)
class Sums:
    """What a pass adds up; only the pass knows what its arrays mean.

    Attributes
    ----------
    arrays : tuple of arrays
    evidence : float
        The weighted sum of log p(x) in the rows' frame, nats.
    """

    arrays: tuple[Array, ...]
    evidence: float

    def __add__(self, other: Sums) -> Sums:
        arrays = (a + b for a, b in zip(self.arrays, other.arrays, strict=True))
        return Sums(tuple(arrays), self.evidence + other.evidence)
