"""A table is a sequence of parts; a fit reads it only by folds (sums) over the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Protocol, Self, TypeVar

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.rows import Frame, Rows


class Summable(Protocol):
    """A result that can be added up over the parts of a table."""

    def __add__(self, other: Self) -> Self: ...


T = TypeVar("T", bound=Summable)


class Table(Protocol):
    """Weighted rows, wherever they are stored, and the frame to read them in.

    ``Rows`` are one part in memory; ``Parts`` are read one after the other.
    Other tables may send the function to where their parts are stored.
    """

    @property
    def frame(self) -> Frame:
        """The coordinates in which rows are read."""

    def framed(self, frame: Frame, weight_unit: float = 1.0) -> Table:
        """The same table in another frame, its weights divided by ``weight_unit``."""

    def fold(self, function: Callable[[Rows], T]) -> T:
        """Apply ``function`` to each part, and add the results in the order of the parts.

        ``function`` must be picklable, and must not keep the rows.
        """


@dataclass(frozen=True)
class Parts:
    """A table that is read anew, part by part, in each pass.

    Attributes
    ----------
    read : callable
        Starts a pass: yields the rows of each part, an array of shape (m, d)
        with m > 0, and their weights, of shape (m,) or None.
    frame : Frame
    weight_unit : float
        The weights are divided by it.
    """

    read: Callable[[], Iterator[tuple[AnyArray, Array | None]]]
    frame: Frame
    weight_unit: float = 1.0

    def framed(self, frame: Frame, weight_unit: float = 1.0) -> Parts:
        return replace(self, frame=frame, weight_unit=self.weight_unit * weight_unit)

    def fold(self, function: Callable[[Rows], T]) -> T:
        def of_part(part: tuple[AnyArray, Array | None]) -> T:
            return function(Rows(*part, self.frame).framed(self.frame, self.weight_unit))

        return reduce(add, map(of_part, self.read()))
