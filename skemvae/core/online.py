"""On-line EM: the moments of one batch after the other, averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from skemvae.core.arrays import Array
from skemvae.core.em import EMState
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.summary import Extent, Summary

# Steps are so many times share^decay: moments under parameters that were far off are soon gone.
_FACTOR = 3.0
# Moments hold at least so many rows for each free parameter, or all rows so far: with r rows for
# each, chance costs 1 / (4 r) nats per sample.
_ROWS_PER_PARAMETER = 5.0


@dataclass(frozen=True)
class Stream:
    """What is remembered of rows that are gone, beside the parameters that they led to.

    Their moments need not be: parameters and moments determine each other.

    Attributes
    ----------
    summary : Summary
        Averaged as the moments are.
    noise : array of shape (d,)
        What the parameters were maximised with, in squared units of the rows.
    weight : float
        The sum of the weights.
    n_rows : int
        How many rows have counted.
    """

    summary: Summary
    noise: Array
    weight: float
    n_rows: int

    @classmethod
    def of(cls, extent: Extent, summary: Summary, noise: Array) -> Self:
        """Remember a table."""
        return cls(summary, noise, extent.total, extent.n_counting)

    @classmethod
    def empty(cls, summary: Summary, noise: Array) -> Self:
        """Nothing was seen yet; ``summary`` and ``noise`` are those of what comes next."""
        return cls(summary, noise, 0.0, 0)

    def step_size(self, batch: Self, decay: float, n_parameters: int) -> float:
        """How far a batch moves the moments, by its share of all that was seen by then.

        For the t-th of equal batches the share is 1 / t. A small batch is held
        back: were more rows forgotten, the others could not tell the parameters.
        """
        share = batch.weight / (self.weight + batch.weight)
        enough = batch.n_rows / (_ROWS_PER_PARAMETER * n_parameters)
        return float(min(1.0, _FACTOR * share**decay, max(share, enough)))

    def followed_by(self, batch: Self, summary: Summary, noise: Array) -> Self:
        """Remember a batch, too, given the summary of all."""
        weight, n_rows = self.weight + batch.weight, self.n_rows + batch.n_rows
        return type(self)(summary, noise, weight, n_rows)


def online_step(state: EMState[GaussianMixture], step_size: float) -> GaussianMixture:
    """The M step, given the moments of a batch averaged with those before it.

    Parameters
    ----------
    state : EMState
        The E step of the batch.
    step_size : float
        How much the batch counts, between 0 and 1.

    References
    ----------
    Cappé and Moulines (2009), "On-line expectation-maximization algorithm for
    latent data models", equation (9).
    """
    batch = (step_size / state.expectation.total) * state.expectation.moments
    return state.model.maximise(batch + (1 - step_size) * state.model.moments)
