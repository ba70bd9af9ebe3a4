"""Statistics of each feature that a fit needs first, from two passes in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import NamedTuple

import numpy as np

from skemvae.core.arrays import EPS, TINY, AnyArray, Array, power_of_two
from skemvae.core.expectation import expectation
from skemvae.core.rows import Frame, Rows
from skemvae.core.scan import Scan
from skemvae.core.table import Table
from skemvae.engine.passes.choice import fastest_pass
from skemvae.engine.passes.threads import in_region
from skemvae.engine.samples.grain import Grain
from skemvae.engine.samples.sketch import Sketch
from skemvae.structures.axis_scan import ExpandedScan

# A feature whose standard deviation is below this many units in the last place of
# its largest value holds only rounding errors.
_FLOOR_ULPS = 4096.0
# A smaller constant counts as zero, since its square is close to underflow.
_NOTHING = 1e-130
# Means count as different if they differ by more than this many standard deviations.
_RESOLVED = 1e-10
# How many numbers justify a thread, fit a core's own cache, and form one long row (measured).
_WORTH_A_THREAD, _BLOCK, _SIDE_BY_SIDE = 2**17, 2**16, 2**10


def _extremes(X: AnyArray) -> tuple[AnyArray, AnyArray]:
    """The smallest and the largest value of each feature."""
    n, d = X.shape
    together = max(1, _SIDE_BY_SIDE // d)
    if n <= together:
        return np.minimum.reduce(X, axis=0), np.maximum.reduce(X, axis=0)
    # Put several rows side by side, since arithmetic along long axes is fast.
    whole = n - n % together
    wide = np.ascontiguousarray(X[:whole]).reshape(-1, together * d)
    low, high = (
        extreme.reduce(np.vstack([extreme.reduce(wide, axis=0).reshape(-1, d), X[whole:]]), axis=0)
        for extreme in (np.minimum, np.maximum)
    )
    return low, high


class Cell(NamedTuple):
    """A value of a table, and its position."""

    row: int
    column: int
    value: float


@dataclass(frozen=True)
class Extent:
    """The result of the first pass: the number, weights and range of the rows.

    Attributes
    ----------
    low, high : arrays of shape (d,)
        The range of the rows with positive weight.
    n_rows, n_counting : int
        The number of rows, and the number of those with positive weight.
    heaviest, total : float
        The largest weight, and the sum of all weights.
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
        d = rows.X.shape[1]

        def of_run(run: range) -> Extent:
            extent = cls(*_no_range(d), 0, 0, 0.0, 0.0)
            for start in run:
                where = slice(start, min(start + run.step, run.stop))
                weight = None if rows.weight is None else rows.weight[where]
                extent = extent + cls._of_block(np.asarray(rows.X[where]), weight)
            return extent

        runs = rows.runs(_WORTH_A_THREAD // d + 1, _BLOCK // d + 1)
        return reduce(add, in_region(lambda region: region.map(of_run, runs)))

    @classmethod
    def _of_block(cls, X: AnyArray, weight: Array | None) -> Extent:
        low, high = _extremes(X)
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
            low, high = _extremes(X[counting])
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
class _OneComponent:
    """A mixture of one component, whose moments are those of the table."""

    n_features: int

    @property
    def log_normaliser(self) -> Array:
        return np.zeros(1)

    def scan(self) -> Scan:
        shape = 1, self.n_features
        return ExpandedScan(np.zeros(shape), np.ones(shape))


def _floor(largest: Array, constant: AnyArray) -> Array:
    """The standard deviation below which a feature with these values counts as constant."""
    is_zero = constant & (largest < _NOTHING)
    floor: Array = _FLOOR_ULPS * EPS * np.maximum(np.where(is_zero, 1.0, largest), TINY / EPS)
    return floor


@dataclass(frozen=True)
class Summary:
    """Statistics of each feature that a fit needs first, in the units of X.

    Attributes
    ----------
    centre, shift : arrays of shape (d,)
        The middle of the range, and the mean relative to it. Their sum is the
        mean; stored separately, they keep precision despite a large offset.
    spread : array of shape (d,)
        The weighted standard deviation; rows of weight 0 do not count.
    floor : array of shape (d,)
        The standard deviation below which a feature counts as constant: 4096
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
        """Summarise a table of finite values; pass its ``extent`` if it is known."""
        extent = table.fold(Extent.of) if extent is None else extent
        low, high = extent.low, extent.high
        span = high / 2 - low / 2
        largest = np.maximum(np.abs(low), np.abs(high))
        floor = _floor(largest, span == 0)
        frame = Frame(low / 2 + high / 2, power_of_two(np.maximum(span, floor)))
        moments = expectation(_OneComponent(len(low)), table.framed(frame), fastest_pass).moments
        return cls(
            frame.origin,
            frame.scale * moments.means[0],
            frame.scale * np.sqrt(np.maximum(moments.variances[0], 0.0)),
            floor,
            largest,
        )

    def blend(self, other: Summary, share: float) -> Summary:
        """The summary of both tables, in which the other one has weight ``share``.

        The largest value is at least that of the other table; that of this table
        is forgotten as fast as its other statistics.
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
        """The weighted mean."""
        return self.centre + self.shift

    @property
    def orientation(self) -> Array:
        """-1 where the mean is below the middle of the range, else 1.

        It changes sign together with the feature, but not through rounding errors.
        """
        return np.where(self.shift < -_RESOLVED * self.spread, -1.0, 1.0)

    @property
    def scale(self) -> Array:
        """The spread of each feature, or its floor where that is larger."""
        return np.maximum(self.spread, self.floor)

    def sketch(self, table: Table, size: int) -> Sketch:
        """Sample at most ``size`` distinct rows of the summarised table, in its frame."""
        frame = table.frame
        origin = (self.centre - frame.origin + self.shift) / frame.scale
        scale = self.orientation * self.scale / frame.scale
        return table.fold(partial(Sketch.of, origin=origin, scale=scale, size=size))

    def grain(self, sketch: Sketch, frame: Frame) -> Grain:
        """The grain of a table in the units of X, given its sketch in a frame.

        Values that differ no more than those of a constant feature count as equal.
        """
        rounding = 2 * self.floor / frame.scale
        return Grain.of(sketch.rows.X, rounding, sketch.n_observations).scaled(frame.scale)

    def noise(self, regularisation: float, grain: Grain) -> Array:
        """The ridge of each feature, shape (d,), in squared units of X.

        It is relative to the variance of the feature, or to the square of its grain's width if
        that is smaller, so that distances between groups do not blur close values.
        """
        width = np.where(grain.n_gaps > 0, np.minimum(self.spread, grain.width), self.spread)
        return np.maximum(regularisation * width**2, self.floor**2)
