"""The density of the prior that all components share, if the prior is fitted with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.moments import Moments
from skemvae.core.rows import Frame
from skemvae.mixtures.normal_wishart import NormalWishart

# The whole table counts as this many components.
_WEIGHT = 2.0


@dataclass(frozen=True)
class Hyperprior:
    """A density of priors, with its mode at a prior whose typical component is the whole table.

    Components share a prior, which says how wide components usually are and how far apart their
    means are. It is fitted with them (empirical Bayes). Its log density in nats is, up to a
    constant,

        a / 2 (nu (log |R| - tr R) + d (log r - r)) - tr(scatter E[L]) / 2

    for a prior whose expected precision is E[L], with nu degrees of freedom; R and r are E[L]^-1
    and the mean precision as multiples of those of the table. So the table counts as ``a``
    components with known parameters. The last term keeps the prior from degenerating if all
    rows of each component agree in a feature.

    Attributes
    ----------
    centre : NormalWishart
        The most probable prior.
    scatter : array of shape (d,)
        The scatter of the rounding errors of all rows together.
    fits_covariance, fits_mean_precision : bool
        Which of the two is fitted; one that is not keeps its value in ``centre``.

    References
    ----------
    Hunter and Lange (2004), "A tutorial on MM algorithms": a step maximises a function that lies
    below the bound and touches it, so the bound rises.
    """

    centre: NormalWishart
    scatter: Array
    fits_covariance: bool
    fits_mean_precision: bool

    def penalty(self, prior: NormalWishart) -> float:
        """How far the log density of a prior is below the maximum, nats."""
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
        """A prior that is at least as probable, given rows with these moments."""
        if self.fits_covariance:
            prior = self._with_covariance(prior, prior.posterior(moments))
        if self.fits_mean_precision:
            prior = self._with_mean_precision(prior, prior.posterior(moments), moments)
        return prior

    def _with_covariance(self, prior: NormalWishart, posterior: NormalWishart) -> NormalWishart:
        """Take one step of E[L].

        A component of n rows owes the share n / (n + nu) of its precision to them. That share of
        its information about the prior is taken given its precision, as in EM, the rest given
        the prior. So a component without rows follows the prior at once and does not change it.
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
        """Take one step of the mean precision, in the same way."""
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
        """The density for x, if this one is for the coordinates z of a frame."""
        scatter = self.scatter * frame.scale**2
        return replace(self, centre=self.centre.out_of(frame), scatter=scatter)
