"""On-line EM: the moments of one batch after the other, averaged twice.

E steps are taken at parameters that climb: their moments move by large steps, for directions in
which EM is slow need many. So they know the last batches only, and what chance adds stays large.
The same expected moments are averaged by smaller steps, too, over many more rows: these give the
parameters that are returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from skemvae.core.arrays import Array
from skemvae.core.expectation import Expectation
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.engine.samples.grain import Grain
from skemvae.engine.samples.summary import Extent, Summary

# A batch that holds a share of all rows so far moves the average by so many times share^decay: the
# t-th of equal batches by 3 / t, so that what came early, under worse parameters, is soon gone.
_AVERAGE = 3.0
# It moves what climbs by so many times share^(decay / 2), ever larger steps beside the others:
# the noise of the climb averages out (Polyak and Juditsky 1992).
_CLIMB = 5.0
# Moments hold at least so many rows for each free parameter, or all rows so far: with r rows for
# each, chance costs 1 / (4 r) nats per sample.
_ROWS_PER_PARAMETER = 5.0


class StepSizes(NamedTuple):
    """How far a batch moves moments towards its own, between 0 and 1.

    Attributes
    ----------
    climb : float
        Those of the parameters that the next E step is taken at.
    average : float
        Those of the parameters that are returned; never more.
    """

    climb: float
    average: float


@dataclass(frozen=True)
class Stream:
    """What is remembered of rows that are gone, beside the parameters that they led to.

    Their moments need not be: parameters and moments determine each other.

    Attributes
    ----------
    summary : Summary
        Averaged as the moments are.
    grain : Grain
        Averaged, too.
    noise : array of shape (d,)
        What the parameters were maximised with, in squared units of the rows.
    weight : float
        The sum of the weights.
    n_rows : int
        How many rows have counted.
    climbing : GaussianMixture, optional
        Where the next E step is taken, in the units of the rows; None for the parameters that
        the estimator has.
    """

    summary: Summary
    grain: Grain
    noise: Array
    weight: float
    n_rows: int
    climbing: GaussianMixture | None = None

    @classmethod
    def of(cls, extent: Extent, summary: Summary, grain: Grain, noise: Array) -> Self:
        """Remember a table."""
        return cls(summary, grain, noise, extent.total, extent.n_counting)

    @property
    def unseen(self) -> Self:
        """Nothing but what such rows are like: these are yet to come."""
        grain = replace(self.grain, n_rows=0)
        return replace(self, grain=grain, weight=0.0, n_rows=0, climbing=None)

    def step_sizes(self, batch: Self, decay: float, n_parameters: int) -> StepSizes:
        """How far a batch moves the moments, by its share of all that was seen by then.

        For the t-th of equal batches the share is 1 / t. A small batch is held
        back: were more rows forgotten, the others could not tell the parameters.
        """
        share = batch.weight / (self.weight + batch.weight)
        enough = batch.n_rows / (_ROWS_PER_PARAMETER * n_parameters)
        most = min(1.0, max(share, enough))
        return StepSizes(
            climb=float(min(most, _CLIMB * share ** (decay / 2))),
            average=float(min(most, _AVERAGE * share**decay)),
        )

    def followed_by(
        self, batch: Self, share: float, noise: Callable[[Summary, Grain], Array]
    ) -> Self:
        """Remember a batch, too, with such a share in what all rows are like.

        ``noise`` says what regularises such rows.
        """
        summary = self.summary.blend(batch.summary, share)
        grain = self.grain.blend(batch.grain, share)
        return type(self)(
            summary,
            grain,
            noise(summary, grain),
            self.weight + batch.weight,
            self.n_rows + batch.n_rows,
        )


def online_step(model: GaussianMixture, batch: Expectation, step_size: float) -> GaussianMixture:
    """The M step, given the moments of a batch averaged with those before it.

    Parameters
    ----------
    model : GaussianMixture
        The M step of the moments before.
    batch : Expectation
        The E step of the batch, taken at any parameters.
    step_size : float
        How much the batch counts, between 0 and 1.

    References
    ----------
    Cappé and Moulines (2009), "On-line expectation-maximization algorithm for
    latent data models", equation (9).
    """
    moments = (step_size / batch.total) * batch.moments
    return model.maximise(moments + (1 - step_size) * model.moments)
