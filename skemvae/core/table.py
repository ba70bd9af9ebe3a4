"""A table is a sequence of parts, and all that a fit takes from it is a fold over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Protocol, Self, TypeVar

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.rows import Frame, Rows


class Summable(Protocol):
    """What parts of a table can be folded to."""

    def __add__(self, other: Self) -> Self: ...


T = TypeVar("T", bound=Summable)


class Table(Protocol):
    """Rows with weights, wherever they lie, and the frame to read them in.

    ``Rows`` are one part in memory; ``Parts`` are read one after the other;
    others may leave their parts where they are and send the function there.
    """

    @property
    def frame(self) -> Frame:
        """The coordinates in which rows are read."""

    def framed(self, frame: Frame, weight_unit: float = 1.0) -> Table:
        """The same table in another frame, its weights divided by ``weight_unit``."""

    def fold(self, function: Callable[[Rows], T]) -> T:
        """Apply ``function`` to each part, and add the results in the order of the parts.

        ``function`` must survive pickling, and must not keep the rows.
        """


@dataclass(frozen=True)
class Parts:
    """A table that is read again, part by part, for each pass.

    Attributes
    ----------
    read : callable
        Begins a pass: yields the rows of each part, an array of shape (m, d)
        with m > 0, and their weights, of shape (m,) or None.
    frame : Frame
    weight_unit : float
        What the weights are divided by.
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
