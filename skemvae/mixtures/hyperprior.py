"""What the prior of all components may become, where it is fitted with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.moments import Moments
from skemvae.core.rows import Frame
from skemvae.mixtures.normal_wishart import NormalWishart

# The table as a whole counts as so many components.
_WEIGHT = 2.0


@dataclass(frozen=True)
class Hyperprior:
    """A density of priors, highest at the one of a component that is like the whole table.

    Components share a prior: how wide a component is as a rule, and how far apart the means are.
    It is fitted with them (empirical Bayes). Its log density is, in nats and but for a constant,

        a / 2 (nu (log |R| - tr R) + d (log r - r)) - tr(scatter E[L]) / 2

    for a prior whose expected precision is E[L], with nu degrees of freedom; R and r are E[L]^-1
    and the mean precision as multiples of those of the table. So the table counts as a
    components whose parameters are known. The last term keeps the prior from becoming a
    point where all rows of each component agree in a feature.

    Attributes
    ----------
    centre : NormalWishart
        The most probable prior.
    scatter : array of shape (d,)
        Of the rounding errors of all rows together.
    fits_covariance, fits_mean_precision : bool
        What is fitted; the other is that of the centre.

    References
    ----------
    Hunter and Lange (2004), "A tutorial on MM algorithms": a step maximises a function that lies
    below the objective and touches it, so the objective rises.
    """

    centre: NormalWishart
    scatter: Array
    fits_covariance: bool
    fits_mean_precision: bool

    def penalty(self, prior: NormalWishart) -> float:
        """By how much the log density of a prior is below the highest, nats."""
        centre, d, total = self.centre, len(self.scatter), 0.0
        if self.fits_covariance:
            one = type(prior.covariance)(prior.covariance.values[:1])
            likely = type(one)(centre.covariance.values[:1])
            log_dets = one.block_log_dets - likely.block_log_dets
            far = float((likely.block_traces(one.values) - log_dets - one.block_size).sum())
            rounding = float(one.trace_precision(self.scatter)[0])
            total += (_WEIGHT * float(centre.dof[0]) * far + rounding) / one.copies
        if self.fits_mean_precision:
            ratio = float(prior.mean_precision[0] / centre.mean_precision[0])
            total += _WEIGHT * d * (ratio - np.log(ratio) - 1)
        return float(total) / 2

    def better(self, prior: NormalWishart, moments: Moments) -> NormalWishart:
        """A prior that is no less probable, together with rows that have such moments."""
        if self.fits_covariance:
            prior = self._with_covariance(prior, prior.posterior(moments))
        if self.fits_mean_precision:
            prior = self._with_mean_precision(prior, prior.posterior(moments), moments)
        return prior

    def _with_covariance(self, prior: NormalWishart, posterior: NormalWishart) -> NormalWishart:
        """One step of E[L].

        A component of n rows has n / (n + nu) of its precision from them. Of what it says of
        the prior such a share is taken given its precision, as in EM, and the rest given the
        prior: so one without rows follows at once, and says nothing.
        """
        structure = type(prior.covariance)
        values, precisions = prior.covariance.values[:1], posterior.covariance.precisions
        # Parameters that components share count once.
        copies = prior.covariance.copies / structure(values).copies
        share = (1 - prior.dof / posterior.dof).reshape(-1, *(1,) * (values.ndim - 1))
        linear = (share * (2 - share) * precisions).sum(0) / copies
        apart = values - (1 - share) * posterior.covariance.sandwich(values)
        inverse = ((1 - share) * apart).sum(0) / copies
        rounding = structure.pool(self.scatter[None], np.ones(1))[0] / float(prior.dof[0])
        new = structure.balance(
            linear + _WEIGHT * self.centre.covariance.precisions[0],
            inverse + (rounding if values.ndim == 2 else np.diag(rounding)),
            float(share.sum()) / copies + _WEIGHT,
        )
        return replace(
            prior, covariance=structure(np.broadcast_to(new, prior.covariance.values.shape))
        )

    def _with_mean_precision(
        self, prior: NormalWishart, posterior: NormalWishart, moments: Moments
    ) -> NormalWishart:
        """One step of the mean precision, in the same manner."""
        d, before = len(self.scatter), prior.mean_precision
        share = moments.count / posterior.mean_precision
        lengths = posterior.covariance.squared_lengths(moments.means - prior.mean)
        linear = float((share**2 * lengths + share * d / posterior.mean_precision).sum())
        linear += _WEIGHT * d / float(self.centre.mean_precision[0])
        inverse = float(((1 - share) * share * before).sum()) * d
        log = (float(share.sum()) + _WEIGHT) * d
        new = (log + np.sqrt(log**2 + 4 * linear * inverse)) / (2 * linear)
        return replace(prior, mean_precision=np.full_like(before, new))

    # Change of coordinates.

    def into(self, frame: Frame) -> Self:
        """The same density in the coordinates z of a frame."""
        scatter = self.scatter / frame.scale**2
        return replace(self, centre=self.centre.into(frame), scatter=scatter)

    def out_of(self, frame: Frame) -> Self:
        """The density for x, from that for the coordinates z of a frame."""
        scatter = self.scatter * frame.scale**2
        return replace(self, centre=self.centre.out_of(frame), scatter=scatter)
