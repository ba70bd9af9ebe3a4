"""A bounded sample of the distinct rows of a table, in pseudo-random order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from skemvae.core.arrays import Array, power_of_two
from skemvae.core.rows import Rows
from skemvae.core.workspace import Workspace
from skemvae.engine.passes.compiled_pass import compiled_keys
from skemvae.kernel import native

# Projections are multiplied by this before folding, so neighbouring rows get unrelated keys.
_FOLDS = 2.0**16
# The number of values to read at a time.
_BLOCK = 2**17
# A margin for chance, in standard deviations.
_CHANCE = 4.0
# Weights above this multiple of the smallest unit do not count as integers.
_MOST_COUNTED = 2.0**20
# Rows with a smaller responsibility do not belong to a component.
_LEAST_SHARE = 1e-3
# The size of the moves that break ties: far above rounding, far below what matters to a start.
_MOVE = 1e-6


class Kept(NamedTuple):
    """Distinct rows in the order of their keys."""

    keys: Array
    X: Array
    weights: Array

    @classmethod
    def of(cls, parts: Iterable[Kept], size: int) -> Kept:
        """The distinct rows with the ``size`` smallest keys, and the sums of their weights."""
        keys, X, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
        order = np.argsort(keys)
        keys = keys[order]
        first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
        together = np.add.reduceat(weights[order], first) if len(first) else weights
        return cls(keys[first[:size]], X.take(order[first[:size]], axis=0), together[:size])


def _keys(rows: Rows, origin: Array, slope: Array) -> Array:
    """The key of each row, a number in [0, 1); equal rows have equal keys on any machine."""
    slope, shift = _FOLDS * slope, -_FOLDS * float(slope @ origin)
    if native.level is not None:
        return compiled_keys(native.level, rows, slope, shift)
    ((_, z, _),) = rows.blocks(range(0, rows.n_rows, rows.n_rows))
    projection = np.full(rows.n_rows, shift)
    for j in range(len(origin)):  # feature by feature, so that equal rows get equal keys
        projection += slope[j] * z[j]
    keys: Array = projection - np.floor(projection)
    return keys


def _kept(rows: Rows, blocks: range, origin: Array, slope: Array, size: int, limit: float) -> Kept:
    """The rows with the ``size`` smallest keys among those up to ``limit``."""
    d = len(origin)
    kept, waiting, n_waiting = Kept(np.empty(0), np.empty((0, d)), np.empty(0)), [], 0
    for start in blocks:
        part = rows.part(slice(start, start + blocks.step))
        keys = _keys(part, origin, slope)
        present = keys <= limit
        if part.weight is not None:
            present &= part.weight > 0
        (chosen,) = np.nonzero(present)
        weights = np.ones(len(chosen)) if part.weight is None else part.weight[chosen]
        chosen_rows = np.ascontiguousarray(rows.frame.apply(part.X[chosen], Workspace())[:d].T)
        waiting.append(Kept(keys[chosen], chosen_rows, weights))
        n_waiting += len(chosen)
        if n_waiting >= size:  # sort rarely, since sorting costs more than reading
            kept, waiting, n_waiting = Kept.of([kept, *waiting], size), [], 0
            limit = kept.keys[-1] if len(kept.keys) == size else limit
    return Kept.of([kept, *waiting], size)


@dataclass(frozen=True)
class Sketch:
    """Distinct rows of a table, their total weights, and the scale of each feature.

    A pseudo-random key, computed from the features of a row, decides which rows
    are kept, and their order. So a sketch, and all that is computed from it,
    does not depend on the order of the table, on repetition or weights of rows,
    or on the units of the features.

    Attributes
    ----------
    rows : Rows
        The kept rows, already in the frame of the table.
    keys : array of shape (m,)
        In [0, 1), ascending.
    size : int
        The largest number of rows to keep.
    origin, scale : arrays of shape (d,)
        Mean and standard deviation of the table, in its frame; the scale is
        negative where the sign of a feature is flipped.
    """

    rows: Rows
    keys: Array
    size: int
    origin: Array
    scale: Array

    @classmethod
    def of(cls, rows: Rows, origin: Array, scale: Array, size: int) -> Sketch:
        """Keep at most ``size`` distinct rows, in one pass and bounded memory.

        ``origin`` and ``scale`` standardise the table in its frame; a negative
        scale flips the sign of a feature.
        """
        d = len(origin)
        # Sines of integers are linearly independent over the rational numbers (Lindemann and
        # Weierstrass), so different rows of a lattice have different projections.
        direction = np.sin(np.arange(1, d + 1))
        blocks = range(0, rows.n_rows, _BLOCK // d + 1)
        kept_up_to = partial(_kept, rows, blocks, origin, direction / scale, size)
        # Apart from chance and repetition, enough rows have keys below this.
        likely = (size + _CHANCE * np.sqrt(size)) / rows.n_rows
        kept = kept_up_to(min(likely, 1.0))
        if likely < 1 and len(kept.keys) < size:
            kept = kept_up_to(1.0)
        return cls(Rows.of(kept.X, kept.weights), kept.keys, size, origin, scale)

    def __add__(self, other: Sketch) -> Sketch:
        """The sketch of both tables, which keeps only rows that one of the two has kept."""
        parts = (Kept(part.keys, part.rows.X, part.weights) for part in (self, other))
        kept = Kept.of(parts, self.size)
        return replace(self, rows=Rows.of(kept.X, kept.weights), keys=kept.keys)

    @property
    def sample(self) -> Rows:
        """The rows, with weights that add up to about those of the table."""
        return Rows.of(self.rows.X, self.weights / self.fraction)

    @property
    def weights(self) -> Array:
        """The total weight of each distinct row."""
        weights: Array = self.rows.weight  # type: ignore[assignment]
        return weights

    @property
    def fraction(self) -> float:
        """About which fraction of the distinct rows was kept."""
        # Keys are uniform on [0, 1), and the smallest of them were kept.
        return float(self.keys[-1]) if self.n_rows == self.size else 1.0

    @cached_property
    def standardised(self) -> Array:
        """The rows with mean 0 and unit scale, shape (m, d), slightly moved.

        Its key moves each row, so that rounding does not decide comparisons of
        equal distances, such as those between integers.
        """
        d = len(self.origin)
        # The square, since a linear function of the row would keep the ties of a lattice; a
        # continuous (triangle) wave of it, so that rounding a key does not make a row jump.
        moved = np.abs((self.keys[:, None] ** 2 * (1e4 + np.arange(d))) % 2.0 - 1.0) - 0.5
        standardised: Array = (self.rows.X - self.origin) / self.scale + _MOVE * moved
        return standardised

    def leading_axes(self, n_axes: int) -> Array:
        """The leading principal axes of the standardised rows, shape (d, n_axes)."""
        root = self.standardised * np.sqrt(self.weights / self.weights.sum())[:, None]
        few_rows = root.shape[0] < root.shape[1]
        axes = np.linalg.eigh(root @ root.T if few_rows else root.T @ root).eigenvectors
        axes = axes[:, : -n_axes - 1 : -1]
        if few_rows:
            axes = root.T @ axes
            axes /= np.sqrt((axes**2).sum(0))
        # The signs of axes are arbitrary, so fix them.
        largest = np.take_along_axis(axes, np.abs(axes).argmax(0)[None], axis=0)
        leading: Array = axes * np.sign(largest)
        return leading

    def along(self, axes: Array) -> Sketch:
        """The sketch whose features are the standardised rows along axes of shape (d, r)."""
        rows = Rows.of(self.standardised @ axes, self.weights)
        return replace(
            self, rows=rows, origin=np.zeros(axes.shape[1]), scale=np.ones(axes.shape[1])
        )

    @property
    def n_rows(self) -> int:
        """The number of kept rows, which are distinct."""
        return self.rows.n_rows

    @property
    def n_numbers(self) -> int:
        """The number of values in all kept rows."""
        return int(self.rows.X.size)

    @property
    def n_observations(self) -> int:
        """The number of observations of these rows, ignoring repetition of the whole table.

        Weights that are integers, in a unit that is a power of two, are counts, up to a common
        factor: writing a table twice adds no rows, but a repeated row does. With other weights,
        each distinct row counts once.
        """
        weights = _MOST_COUNTED * self.weights / power_of_two(self.weights.max(keepdims=True))
        counts = weights.astype(np.int64)
        if (counts != weights).any():
            return self.n_rows
        return int(counts.sum() // np.gcd.reduce(counts))

    def share(self, share: Array, origin: Array, scale: Array) -> Sketch:
        """The sketch with weights multiplied by ``share``, shape (m,), and a new standardisation.

        Rows of almost no share are left out.
        """
        (own,) = np.nonzero(share > _LEAST_SHARE)
        rows = Rows.of(self.rows.X[own], self.weights[own] * share[own])
        scale = np.copysign(scale, self.scale)
        return replace(self, rows=rows, keys=self.keys[own], origin=origin, scale=scale)

    def part(self, n_rows: int) -> Sketch:
        """The smaller sketch of only the first ``n_rows`` rows."""
        if n_rows >= self.n_rows:
            return self
        rows = Rows.of(self.rows.X[:n_rows], self.weights[:n_rows])
        return replace(self, rows=rows, keys=self.keys[:n_rows], size=n_rows)

    def effective_rows(self, responsibilities: Array) -> Array:
        """The effective number of distinct rows of each component, shape (K,).

        It is (sum r)^2 / sum r^2, which ignores how often each row occurs.
        """
        total = responsibilities.sum(0)
        squares = (responsibilities**2).sum(0)
        rows: Array = np.where(total > 0, total**2 / np.where(squares > 0, squares, 1.0), 0.0)
        return rows
