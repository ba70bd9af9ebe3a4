"""EM for mixtures: an M step, then an E step, so that every state carries its own bound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from skemvae.core.chart import Charted, Movable
from skemvae.core.expectation import (
    Expectation,
    MixtureModel,
    PassChoice,
    expectation,
    fastest_pass,
)
from skemvae.core.moments import Moments
from skemvae.core.rows import Rows
from skemvae.core.sketch import Sketch
from skemvae.core.table import Table

# A sample is worth it, if it holds less than such a part of the rows; and memory stays bounded,
# if it holds at most so many numbers: 16 MiB.
_WORTH_SAMPLING, _MOST_NUMBERS = 1 / 8, 2**21


class Maximisable(MixtureModel, Charted, Movable, Protocol):
    """A mixture whose M step is in closed form."""

    def maximise(self, moments: Moments) -> Self:
        """The parameters, or their q, that maximise the bound, given the moments."""

    @property
    def divergence(self) -> float:
        """KL(q || p) of the parameters, nats in total; 0 where they are points."""


M = TypeVar("M", bound=Maximisable)
M_co = TypeVar("M_co", bound=Maximisable, covariant=True)


class EMState(Protocol[M_co]):
    """Parameters, with the E step taken at them."""

    @property
    def model(self) -> M_co:
        """The parameters, in the frame of the table."""

    @property
    def bound(self) -> float:
        """The objective at ``model``, nats per sample, in the units of the data."""

    @property
    def expectation(self) -> Expectation:
        """The E step."""

    @property
    def maximised(self) -> M_co:
        """The parameters after the M step."""


@dataclass(frozen=True)
class Expected(Generic[M]):
    """The state whose M step follows when it is asked for."""

    model: M
    expectation: Expectation
    bound: float

    @cached_property
    def maximised(self) -> M:
        """The parameters after the M step."""
        return self.model.maximise(self.expectation.moments)


@dataclass(frozen=True)
class MixtureEM:
    """The EM algorithm on a table, whose passes ``choose`` chooses."""

    table: Table
    choose: PassChoice = fastest_pass

    def start(self, model: M) -> EMState[M]:
        """The E step at given parameters."""
        expected = expectation(model, self.table, self.choose)
        divergence = model.divergence / expected.total
        return Expected(model, expected, expected.bound - divergence - self.table.frame.log_volume)

    def step(self, state: EMState[M]) -> EMState[M]:
        """One iteration."""
        return self.start(state.maximised)

    def sampled(self, size: int) -> MixtureEM | None:
        """The same on so many rows that stand for all of them; None if that saves little.

        Neither the order of the rows nor how the table is cut into parts matters.
        """
        d = len(self.table.frame.origin)
        if size * d > _MOST_NUMBERS:
            return None
        if isinstance(self.table, Rows) and self.table.n_rows < size / _WORTH_SAMPLING:
            return None
        sketch = self.table.fold(
            partial(Sketch.of, origin=np.zeros(d), scale=np.ones(d), size=size)
        )
        if sketch.fraction > _WORTH_SAMPLING:
            return None
        return replace(self, table=sketch.sample)
