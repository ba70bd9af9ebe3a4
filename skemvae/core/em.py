"""EM for mixtures: an M step, then an E step, so that every state has its own bound."""

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
        """The parameters, or the q of the parameters, that maximise the bound."""

    @property
    def divergence(self) -> float:
        """KL(q || p) of the parameters, nats in total; 0 for point estimates."""


M = TypeVar("M", bound=Maximisable)
M_co = TypeVar("M_co", bound=Maximisable, covariant=True)


class EMState(Protocol[M_co]):
    """Parameters, and the result of the E step at them."""

    @property
    def model(self) -> M_co:
        """The parameters, in the frame of the table."""

    @property
    def bound(self) -> float:
        """The bound at ``model``, nats per sample, in the units of the data."""

    @property
    def expectation(self) -> Expectation:
        """The result of the E step."""

    @property
    def maximised(self) -> M_co:
        """The parameters after the M step."""


@dataclass(frozen=True)
class Expected(Generic[M]):
    """A state that takes its M step when ``maximised`` is first read."""

    model: M
    expectation: Expectation
    bound: float

    @cached_property
    def maximised(self) -> M:
        """The parameters after the M step."""
        return self.model.maximise(self.expectation.moments)


@dataclass(frozen=True)
class MixtureEM:
    """The EM algorithm on a table; ``choose`` chooses how to compute each pass."""

    table: Table
    choose: PassChoice

    def start(self, model: M) -> EMState[M]:
        """Take the E step at given parameters."""
        expected = expectation(model, self.table, self.choose)
        divergence = model.divergence / expected.total
        return Expected(model, expected, expected.bound - divergence - self.table.frame.log_volume)

    def step(self, state: EMState[M]) -> EMState[M]:
        """Take one iteration."""
        return self.start(state.maximised)
