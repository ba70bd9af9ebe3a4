"""Sums over rows, which a pass computes and turns into moments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial

from skemvae.core.arrays import Array
from skemvae.core.expectation import Expectation
from skemvae.core.moments import Moments
from skemvae.core.rows import Rows
from skemvae.engine.passes.threads import Region, in_region


@dataclass(frozen=True)
class Sums:
    """The sums that a pass computes; only the pass knows what its arrays mean.

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


class SummingPass(ABC):
    """A pass that computes sums over rows on the threads of a region."""

    @abstractmethod
    def sums(self, rows: Rows, region: Region) -> Sums:
        """Compute the sums over all rows."""

    @abstractmethod
    def moments(self, sums: Sums) -> Moments:
        """Turn sums into moments."""

    def expectation(self, rows: Rows) -> Expectation:
        """Take the E step on some rows."""
        sums = in_region(partial(self.sums, rows))
        return Expectation(self.moments(sums), sums.evidence, rows.total)
