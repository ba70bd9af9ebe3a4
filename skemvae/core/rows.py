"""Rows, read block by block in coordinates that avoid loss of precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.workspace import Workspace

# Beyond this a square overflows; the density of such a row is 0 in float64.
FAR = 1e160
# Sums are taken over at most this many runs of blocks, whatever the number of
# threads, so the result is the same to the last bit.
_RUNS = 16
# Rows per block, by default.
_BLOCK_ROWS = 4096

T = TypeVar("T")


@dataclass(frozen=True)
class Frame:
    """Affine coordinates z = (x - origin) / scale, with powers of two as scales.

    Dividing by a power of two is exact, and subtracting the origin removes any
    common offset. So computations in a frame keep their precision whatever the
    units of x.

    Attributes
    ----------
    origin, scale : arrays of shape (d,)
    """

    origin: Array
    scale: Array

    @classmethod
    def identity(cls, n_features: int) -> Frame:
        """The frame in which z is x."""
        return cls(np.zeros(n_features), np.ones(n_features))

    @cached_property
    def log_volume(self) -> float:
        """log |dx/dz| in nats: subtract it from log p(z) to get log p(x)."""
        return float(np.log(self.scale).sum())

    def columns(self, columns: AnyArray) -> Frame:
        """The frame of some of the features."""
        return Frame(self.origin[columns], self.scale[columns])

    def apply(self, X: AnyArray, workspace: Workspace) -> Array:
        """Return z of shape (d + 1, n): one line per feature, then a line of ones.

        With features first, arithmetic runs along the rows of the table, the
        long axis. The ones make constants and counts come out of the same
        matrix products as everything else.
        """
        n, d = X.shape
        z = workspace.array("z", d + 1, n)
        z[d] = 1.0
        with np.errstate(over="ignore"):
            np.subtract(X.T, self.origin[:, None], out=z[:d])
            z[:d] *= 1 / self.scale[:, None]
        np.clip(z[:d], -FAR, FAR, out=z[:d])
        return z


class Block(NamedTuple):
    """Some consecutive rows: their positions, coordinates and weights."""

    where: slice
    z: Array
    weight: Array | None


@dataclass(frozen=True)
class Rows:
    """A table in memory, or one part of a table: rows, weights and the frame to read them in.

    Attributes
    ----------
    X : array of shape (n, d)
        Anything that can be sliced by rows: an array of any real type, a memmap.
    weight : array of shape (n,) or None
    frame : Frame
    """

    X: AnyArray
    weight: Array | None
    frame: Frame

    @classmethod
    def of(cls, X: AnyArray, weight: Array | None = None) -> Rows:
        """Build rows in their own units."""
        return cls(X, weight, Frame.identity(X.shape[1]))

    @property
    def n_rows(self) -> int:
        """The number of rows, including those of weight zero."""
        return int(self.X.shape[0])

    @cached_property
    def total(self) -> float:
        """The sum of the weights."""
        return float(self.n_rows if self.weight is None else self.weight.sum())

    def framed(self, frame: Frame, weight_unit: float = 1.0) -> Rows:
        """The same rows in another frame, their weights divided by ``weight_unit``."""
        if self.weight is None or weight_unit == 1.0:
            return replace(self, frame=frame)
        return Rows(self.X, self.weight / weight_unit, frame)

    def part(self, where: slice) -> Rows:
        """Some consecutive rows, as an array."""
        weight = None if self.weight is None else self.weight[where]
        return Rows(np.asarray(self.X[where]), weight, self.frame)

    def fold(self, function: Callable[[Rows], T]) -> T:
        """Apply ``function`` to the only part."""
        return function(self)

    def runs(self, fewest: int, block: int) -> list[range]:
        """Where the blocks begin, grouped into runs of consecutive blocks, one task each.

        The number of runs is at most a power of two, so that two, four or eight threads get
        equal shares. Runs have at least ``fewest`` rows.
        """
        count = min(max(self.n_rows // fewest, 1), _RUNS)
        length = -(-self.n_rows // 2 ** (count.bit_length() - 1))
        if length > block:
            length = -(-length // block) * block
        starts = range(0, self.n_rows, length)
        return [range(start, min(start + length, self.n_rows), block) for start in starts]

    def blocks(
        self, starts: range | None = None, workspace: Workspace | None = None
    ) -> Iterator[Block]:
        """Yield the blocks of rows that begin at ``starts``.

        The coordinates of a block stay valid until the next block.
        """
        starts = range(0, self.n_rows, _BLOCK_ROWS) if starts is None else starts
        workspace = Workspace() if workspace is None else workspace
        for start in starts:
            where = slice(start, min(start + starts.step, self.n_rows))
            z = self.frame.apply(np.asarray(self.X[where]), workspace)
            weight = None if self.weight is None else self.weight[where]
            if weight is not None and weight.min() == 0:
                # Rows of weight 0 must not overflow either: 0 * inf is NaN.
                z[:-1, weight == 0] = 0.0
            yield Block(where, z, weight)
