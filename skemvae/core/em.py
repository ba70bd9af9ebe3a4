"""EM for mixtures: an M step, then an E step, so that every state carries its own bound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Protocol, Self, TypeVar

from skemvae.core.chart import Charted, Movable
from skemvae.core.expectation import (
    Expectation,
    MixtureModel,
    PassChoice,
    expectation,
)
from skemvae.core.moments import Moments
from skemvae.core.table import Table


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
    choose: PassChoice

    def start(self, model: M) -> EMState[M]:
        """The E step at given parameters."""
        expected = expectation(model, self.table, self.choose)
        divergence = model.divergence / expected.total
        return Expected(model, expected, expected.bound - divergence - self.table.frame.log_volume)

    def step(self, state: EMState[M]) -> EMState[M]:
        """One iteration."""
        return self.start(state.maximised)
