"""Online EM: two running averages of the moments of the batches.

The *climbing* parameters, at which E steps are taken, average moments with large steps, which
directions in which EM is slow need. So they depend on the last batches only, and their sampling
noise stays large. The returned parameters average the same expected moments with smaller steps,
over many more rows.
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

# The average moves by _AVERAGE * share^decay for a batch with this share of all rows so far: by
# 3 / t for the t-th equal batch, which soon forgets early moments under worse parameters.
_AVERAGE = 3.0
# The climb moves by _CLIMB * share^(decay / 2), relatively larger and larger steps, whose noise
# averages out (Polyak and Juditsky 1992).
_CLIMB = 5.0
# Moments average at least this many rows per free parameter, or all rows so far: with r rows per
# parameter, sampling noise costs 1 / (4 r) nats per sample.
_ROWS_PER_PARAMETER = 5.0


class StepSizes(NamedTuple):
    """How far a batch moves the averaged moments towards its own, between 0 and 1.

    Attributes
    ----------
    climb : float
        For the moments of the parameters at which the next E step is taken.
    average : float
        For the moments of the returned parameters; at most ``climb``.
    """

    climb: float
    average: float


@dataclass(frozen=True)
class Stream:
    """What a stream remembers of earlier rows, besides the fitted parameters.

    It does not store moments, since parameters and moments determine each other.

    Attributes
    ----------
    summary : Summary
        Averaged in the same way as the moments.
    grain : Grain
        Averaged in the same way.
    noise : array of shape (d,)
        The ridge of the last M step, in squared units of the rows.
    weight : float
        The sum of the weights.
    n_rows : int
        The number of rows with positive weight.
    climbing : GaussianMixture, optional
        The parameters at which the next E step is taken, in the units of the rows; None for
        those of the estimator.
    """

    summary: Summary
    grain: Grain
    noise: Array
    weight: float
    n_rows: int
    climbing: GaussianMixture | None = None

    @classmethod
    def of(cls, extent: Extent, summary: Summary, grain: Grain, noise: Array) -> Self:
        """Build the memory of a table."""
        return cls(summary, grain, noise, extent.total, extent.n_counting)

    @property
    def unseen(self) -> Self:
        """The same summary and grain, but with no rows counted yet."""
        grain = replace(self.grain, n_rows=0)
        return replace(self, grain=grain, weight=0.0, n_rows=0, climbing=None)

    def step_sizes(self, batch: Self, decay: float, n_parameters: int) -> StepSizes:
        """How far a batch moves the moments, from its share of all rows up to then.

        For the t-th of equal batches the share is 1 / t. The steps of small batches
        are limited, so that enough rows remain to determine the parameters.
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
        """The memory after a batch, which gets this share in the averages.

        ``noise`` computes the ridge from the averages.
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
    """Take the M step with the average of the moments of a batch and of earlier ones.

    Parameters
    ----------
    model : GaussianMixture
        The result of the M step with the earlier moments.
    batch : Expectation
        The E step of the batch, taken at any parameters.
    step_size : float
        The weight of the batch, between 0 and 1.

    References
    ----------
    Cappé and Moulines (2009), "On-line expectation-maximization algorithm for
    latent data models", equation (9).
    """
    moments = (step_size / batch.total) * batch.moments
    return model.maximise(moments + (1 - step_size) * model.moments)
