"""What one needs to know of each feature before a fit: two passes, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np

from skemvae.core.arrays import EPS, TINY, AnyArray, Array, power_of_two
from skemvae.core.rows import BLOCK_ROWS, Block, Frame, Rows
from skemvae.core.table import Table

# A feature that varies by less than this many units in the last place of its
# largest value holds rounding errors, not information.
_FLOOR_ULPS = 4096.0
# A constant smaller than this is called zero: its square is close to underflow.
_NOTHING = 1e-130


class Cell(NamedTuple):
    """A value of a table, and where it stands."""

    row: int
    column: int
    value: float


@dataclass(frozen=True)
class Extent:
    """What the first pass tells: how many rows there are, and how far they reach.

    Attributes
    ----------
    low, high : arrays of shape (d,)
        The range of the rows of positive weight.
    n_rows, n_counting : int
        The number of rows, and of those of positive weight.
    heaviest, total : float
        The largest weight, and the sum of all.
    not_finite : Cell or None
        The first value that is NaN or infinite, whatever its weight.
    """

    low: Array
    high: Array
    n_rows: int
    n_counting: int
    heaviest: float
    total: float
    not_finite: Cell | None = None

    @classmethod
    def of(cls, rows: Rows) -> Extent:
        """The extent of one part."""
        n = rows.n_rows
        extent = cls(*_no_range(rows.X.shape[1]), 0, 0, 0.0, 0.0)
        for start in range(0, n, BLOCK_ROWS):
            where = slice(start, min(start + BLOCK_ROWS, n))
            weight = None if rows.weight is None else rows.weight[where]
            extent = extent + cls._of_block(np.asarray(rows.X[where]), weight)
        return extent

    @classmethod
    def _of_block(cls, X: AnyArray, weight: Array | None) -> Extent:
        features = np.ascontiguousarray(X.T)  # long axes are fast
        low, high = features.min(1), features.max(1)
        not_finite = None
        if not (np.isfinite(low) & np.isfinite(high)).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(X))[0])
            not_finite = Cell(row, column, float(X[row, column]))
        if weight is None:
            return cls(low, high, len(X), len(X), 1.0, float(len(X)), not_finite)
        counting = weight > 0
        n_counting = int(counting.sum())
        if n_counting == 0:
            low, high = _no_range(X.shape[1])
        elif n_counting < len(X):
            low, high = features[:, counting].min(1), features[:, counting].max(1)
        with np.errstate(over="ignore"):
            total = float(weight.sum())
        return cls(low, high, len(X), n_counting, float(weight.max()), total, not_finite)

    def __add__(self, other: Extent) -> Extent:
        not_finite = self.not_finite
        if not_finite is None and other.not_finite is not None:
            not_finite = other.not_finite._replace(row=self.n_rows + other.not_finite.row)
        return Extent(
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.n_rows + other.n_rows,
            self.n_counting + other.n_counting,
            max(self.heaviest, other.heaviest),
            self.total + other.total,
            not_finite,
        )


def _no_range(n_features: int) -> tuple[Array, Array]:
    return np.full(n_features, np.inf), np.full(n_features, -np.inf)


@dataclass(frozen=True)
class Scatter:
    """Mean and sum of squared deviations of each feature, in the frame of the rows.

    Each part about its own mean, then merged: no cancellation.

    Attributes
    ----------
    count : float
        The sum of the weights.
    mean, square : arrays of shape (d,)

    References
    ----------
    Chan, Golub and LeVeque (1983), "Algorithms for computing the sample
    variance".
    """

    count: float
    mean: Array
    square: Array

    @classmethod
    def of(cls, rows: Rows) -> Scatter:
        """The scatter of one part."""
        zeros = np.zeros(rows.X.shape[1])
        return reduce(add, map(cls._of_block, rows.blocks()), cls(0.0, zeros, zeros))

    @classmethod
    def _of_block(cls, block: Block) -> Scatter:
        z, weight = block.z[:-1], block.weight
        count = float(z.shape[1] if weight is None else weight.sum())
        if count == 0:
            return cls(0.0, np.zeros(len(z)), np.zeros(len(z)))
        mean = (z.sum(1) if weight is None else z @ weight) / count
        z -= mean[:, None]
        z *= z
        return cls(count, mean, z.sum(1) if weight is None else z @ weight)

    def __add__(self, other: Scatter) -> Scatter:
        if other.count == 0:
            return self
        count = self.count + other.count
        shift = other.mean - self.mean
        return Scatter(
            count,
            self.mean + shift * (other.count / count),
            self.square + (other.square + shift**2 * (self.count * other.count / count)),
        )


def _floor(largest: Array, constant: AnyArray) -> Array:
    """The standard deviation below which a feature of such values is called constant."""
    is_zero = constant & (largest < _NOTHING)
    floor: Array = _FLOOR_ULPS * EPS * np.maximum(np.where(is_zero, 1.0, largest), TINY / EPS)
    return floor


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
    def of(cls, table: Table, extent: Extent | None = None) -> Summary:
        """Summarise a table of finite values; ``extent`` is that of the table, if it is known."""
        extent = table.fold(Extent.of) if extent is None else extent
        low, high = extent.low, extent.high
        span = high / 2 - low / 2
        largest = np.maximum(np.abs(low), np.abs(high))
        floor = _floor(largest, span == 0)
        frame = Frame(low / 2 + high / 2, power_of_two(np.maximum(span, floor)))
        scatter = table.framed(frame).fold(Scatter.of)
        return cls(
            frame.origin,
            frame.scale * scatter.mean,
            frame.scale * np.sqrt(scatter.square / scatter.count),
            floor,
            largest,
        )

    def blend(self, other: Summary, share: float) -> Summary:
        """The summary of both tables, with ``share`` of the weight in the other one.

        The largest value is at least that of the other table, and is forgotten
        as fast as the rest of this one.
        """
        kept = 1 - share
        away = other.centre - self.centre + other.shift - self.shift
        variance = kept * self.spread**2 + share * (other.spread**2 + kept * away**2)
        largest = np.maximum(kept * self.largest + share * other.largest, other.largest)
        return Summary(
            self.centre,
            self.shift + share * away,
            np.sqrt(variance),
            _floor(largest, variance == 0),
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
