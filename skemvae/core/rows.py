"""A table of rows, read block by block in coordinates that are safe for floating point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from skemvae.core.arrays import EPS, TINY, AnyArray, Array, power_of_two
from skemvae.core.workspace import Workspace

# Beyond this a square overflows: the density of such a row is 0 in float64.
FAR = 1e160
# A feature that varies by less than this many units in the last place of its
# largest value holds rounding errors, not information.
_FLOOR_ULPS = 4096.0
# A constant smaller than this is called zero: its square is close to underflow.
_NOTHING = 1e-130
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Frame:
    """Affine coordinates z = (x - origin) / scale, with powers of two as scales.

    Dividing by a power of two is exact, and the origin takes away any common
    offset, so what is computed in a frame keeps its digits whatever the units
    of x are.

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

    @property
    def log_volume(self) -> float:
        """log |dx/dz|, nats: subtract it from log p(z) to get log p(x)."""
        return float(np.log(self.scale).sum())

    def columns(self, columns: AnyArray) -> Frame:
        """The frame of some of the features."""
        return Frame(self.origin[columns], self.scale[columns])

    def apply(self, X: AnyArray, workspace: Workspace) -> Array:
        """Return z of shape (d + 1, n), feature by feature; the last row holds ones.

        Feature by feature, because arithmetic then runs along the rows of the
        table, which are many; ones, because constants and counts then come
        out of the same matrix products as everything else.
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
    """Some consecutive rows: where they stand, their coordinates and weights."""

    where: slice
    z: Array
    weight: Array | None


@dataclass(frozen=True)
class Rows:
    """A table, the weights of its rows, and the frame to read it in.

    Attributes
    ----------
    X : array of shape (n, d)
        Anything that slices by rows: an array of any real type, a memmap.
    weight : array of shape (n,) or None
    frame : Frame
    """

    X: AnyArray
    weight: Array | None
    frame: Frame

    @property
    def n_rows(self) -> int:
        """The number of rows, zero weights included."""
        return int(self.X.shape[0])

    @cached_property
    def total(self) -> float:
        """The sum of the weights."""
        return float(self.n_rows if self.weight is None else self.weight.sum())

    def blocks(
        self, starts: range | None = None, workspace: Workspace | None = None
    ) -> Iterator[Block]:
        """Yield blocks of rows that begin at ``starts`` and reach to the next of them.

        The coordinates of a block live in the workspace until the next block.
        """
        starts = range(0, self.n_rows, _BLOCK_ROWS) if starts is None else starts
        workspace = Workspace() if workspace is None else workspace
        for start in starts:
            where = slice(start, min(start + starts.step, self.n_rows))
            z = self.frame.apply(np.asarray(self.X[where]), workspace)
            weight = None if self.weight is None else self.weight[where]
            if weight is not None and weight.min() == 0:
                # A row that does not count must not overflow either: 0 * inf is no number.
                z[:-1, weight == 0] = 0.0
            yield Block(where, z, weight)


@dataclass(frozen=True)
class Summary:
    """What one needs to know of each feature before a fit, in the units of X.

    Attributes
    ----------
    centre, shift : arrays of shape (d,)
        The middle of the range, and how far from it the mean is: their sum is
        the mean, but apart they keep the digits that a large offset takes.
    spread : array of shape (d,)
        Weighted standard deviation; rows of weight 0 do not exist.
    floor : array of shape (d,)
        The standard deviation below which a feature is called constant: 4096
        units in the last place of its largest absolute value (of 1 for a
        feature that is zero everywhere).
    largest : array of shape (d,)
        The largest absolute value.
    """

    centre: Array
    shift: Array
    spread: Array
    floor: Array
    largest: Array

    @classmethod
    def of(cls, X: AnyArray, weight: Array | None) -> Summary:
        """Summarise a table in two passes and bounded memory."""
        d = X.shape[1]
        low, high = np.full(d, np.inf), np.full(d, -np.inf)
        for start in range(0, X.shape[0], _BLOCK_ROWS):
            where = slice(start, start + _BLOCK_ROWS)
            block = np.asarray(X[where])
            if weight is not None:
                block = block[weight[where] > 0]
            if len(block):
                low = np.minimum(low, block.min(0))
                high = np.maximum(high, block.max(0))
        span = high / 2 - low / 2
        largest = np.maximum(np.abs(low), np.abs(high))
        is_zero = (span == 0) & (largest < _NOTHING)
        floor = _FLOOR_ULPS * EPS * np.maximum(np.where(is_zero, 1.0, largest), TINY / EPS)

        frame = Frame(low / 2 + high / 2, power_of_two(np.maximum(span, floor)))
        count, mean, square = 0.0, np.zeros(d), np.zeros(d)
        for _, z, w in Rows(X, weight, frame).blocks():
            z = z[:d]
            n = float(z.shape[1] if w is None else w.sum())
            if n == 0:
                continue
            # Each block about its own mean, then merged: no cancellation.
            block_mean = (z.sum(1) if w is None else z @ w) / n
            z -= block_mean[:, None]
            z *= z
            block_square = z.sum(1) if w is None else z @ w
            shift = block_mean - mean
            square += block_square + shift**2 * (count * n / (count + n))
            mean += shift * (n / (count + n))
            count += n
        return cls(
            frame.origin,
            frame.scale * mean,
            frame.scale * np.sqrt(square / count),
            floor,
            largest,
        )

    @property
    def mean(self) -> Array:
        """Weighted mean."""
        return self.centre + self.shift

    @property
    def orientation(self) -> Array:
        """-1 where the mean lies below the middle of the range, else 1.

        It turns with a feature that changes its sign.
        """
        return np.where(self.shift < 0, -1.0, 1.0)

    @property
    def scale(self) -> Array:
        """The spread of each feature, or the floor where that is larger."""
        return np.maximum(self.spread, self.floor)

    def noise(self, regularisation: float) -> Array:
        """The variance that regularises each feature, shape (d,), squared units of X."""
        return np.maximum(regularisation * self.spread**2, self.floor**2)
