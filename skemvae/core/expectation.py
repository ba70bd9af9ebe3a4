"""The E step: expected sufficient statistics of a table under a mixture, and the bound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

from skemvae.core.arrays import Array
from skemvae.core.moments import Moments
from skemvae.core.rows import Rows
from skemvae.core.scan import Metric, Scan
from skemvae.core.table import Table


class ScoringModel(Protocol):
    """A model p(x, z) with enumerable z that can score rows."""

    @property
    def log_normaliser(self) -> Array:
        """The part of log p(x, z=k) that does not depend on x, shape (K,)."""

    def scan(self) -> Metric:
        """The arithmetic of a pass over rows."""


class MixtureModel(ScoringModel, Protocol):
    """What the E step needs of a mixture."""

    def scan(self) -> Scan:
        """The arithmetic of a pass over rows, with second moments."""


@dataclass(frozen=True)
class Expectation:
    """The result of an E step.

    Attributes
    ----------
    moments : Moments
    evidence : float
        The weighted sum of log p(x) in the rows' frame, nats.
    total : float
        The sum of the weights.
    """

    moments: Moments
    evidence: float
    total: float

    def __add__(self, other: Expectation) -> Expectation:
        return Expectation(
            self.moments + other.moments,
            self.evidence + other.evidence,
            self.total + other.total,
        )

    @property
    def bound(self) -> float:
        """The bound in nats per sample, in the rows' frame."""
        return self.evidence / self.total


class Pass(Protocol):
    """A way to compute a pass over rows under given components."""

    def expectation(self, rows: Rows) -> Expectation:
        """The E step on some rows."""


class PassChoice(Protocol):
    """Chooses how to compute a pass over some rows; must be picklable."""

    def __call__(self, log_normaliser: Array, scan: Scan, second_scan: Scan, rows: Rows) -> Pass:
        """Choose a pass; ``scan`` gives responsibilities, ``second_scan`` second moments."""


def expectation(model: MixtureModel, table: Table, choose: PassChoice) -> Expectation:
    """Take the E step on a table; ``choose`` chooses a pass for each of its parts."""
    scan, log_normaliser = model.scan(), model.log_normaliser
    expected = table.fold(partial(_of_part, log_normaliser, scan, scan, choose))
    # Decide on the whole table: one part may have too few rows of a component.
    sharper = scan.sharper(expected.moments)
    if sharper is not None:  # repeat the pass, about the new means
        expected = table.fold(partial(_of_part, log_normaliser, scan, sharper, choose))
    return expected


def _of_part(
    log_normaliser: Array, scan: Scan, second_scan: Scan, choose: PassChoice, rows: Rows
) -> Expectation:
    return choose(log_normaliser, scan, second_scan, rows).expectation(rows)
