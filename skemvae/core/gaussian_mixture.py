"""The Gaussian mixture p(x, z): z is the component, and x given z is Gaussian."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from skemvae.core.arrays import AnyArray, Array, quietly
from skemvae.core.bound import Posterior
from skemvae.core.chart import Chart, Point
from skemvae.core.covariance import Covariance
from skemvae.core.moments import Moments
from skemvae.core.rows import Frame
from skemvae.core.scan import Scan
from skemvae.core.workspace import Workspace


def frame_of(weights: Array, means: Array, covariance: Covariance) -> Frame:
    """The frame in which a mixture as a whole has mean 0 and unit scale."""
    mean = weights @ means
    variances = covariance.variances + (means - mean) ** 2
    return Frame(mean, covariance.units(np.sqrt(weights @ variances)))


@dataclass(frozen=True)
class GaussianMixture:
    """Parameters of a Gaussian mixture, and the bound that a fit maximises.

    The score of a component is
    ``log w + log N(x | mean, C) - tr(diag(noise) C^-1) / 2``: the expected log
    density of x with added noise of that variance (the ridge). The E and the M
    step use the same expression, so ``C = scatter + diag(noise)`` maximises it
    exactly, and the bound never falls. If ``noise`` is 0, the score is the
    log joint density.

    Attributes
    ----------
    weights : array of shape (K,)
    means : array of shape (K, d)
    covariance : Covariance
    noise : array of shape (d,)
        The ridge.
    """

    weights: Array
    means: Array
    covariance: Covariance
    noise: Array

    @property
    def log_normaliser(self) -> Array:
        """The part of the log joint density that does not depend on x, shape (K,)."""
        log_weights = quietly(np.log, self.weights)
        d = self.means.shape[1]
        penalty = self.covariance.trace_precision(self.noise)
        normaliser: Array = log_weights - 0.5 * (
            d * np.log(2 * np.pi) + self.covariance.log_det + penalty
        )
        return normaliser

    def scan(self) -> Scan:
        """The arithmetic of a pass over rows."""
        return self.covariance.scan(self.means)

    def log_joint(self, X: AnyArray) -> Array:
        """The scores of all components, shape (n, K), nats, for a few rows X of shape (n, d).

        They are log p(x, z=k), minus the penalty of the ridge.
        """
        scan, workspace = self.scan(), Workspace()
        features = scan.features(Frame.identity(X.shape[1]).apply(X, workspace), workspace)
        return scan.log_joint(features, self.log_normaliser, workspace).T.copy()

    def maximise(self, moments: Moments) -> Self:
        """The M step, in closed form; components without weight keep mean and covariance."""
        return replace(
            self,
            weights=moments.shares / moments.shares.sum(),
            means=moments.where_counted(moments.means, lambda: self.means),
            covariance=self.covariance.maximise(moments, self.noise),
        )

    @property
    def moments(self) -> Moments:
        """The moments, of total weight 1, whose M step gives these parameters.

        They exist because the complete-data likelihood is an exponential family.
        """
        scatter = self.covariance.scatter(self.noise)
        second = self.weights.reshape(-1, *(1,) * (scatter.ndim - 1)) * scatter
        return Moments(self.weights, self.means, np.zeros_like(self.means), second)

    def regularised(self, noise: Array) -> Self:
        """The parameters that the same moments give with another ridge."""
        return replace(self, noise=noise).maximise(self.moments)

    @property
    def point(self) -> Point:
        """The free parameters."""
        return Point(self.weights, self.means, self.covariance)

    def at(self, point: Point) -> Self:
        """The same mixture with other free parameters."""
        weights, means, covariance = point
        return replace(
            self,
            weights=weights / weights.sum(),
            means=means,
            covariance=covariance.above(self.noise),
        )

    def chart(self) -> Chart[Self]:
        """Coordinates around this mixture."""
        return Chart(self)

    @property
    def bare(self) -> Self:
        """The same mixture without cached results, such as Cholesky factors."""
        return replace(self, covariance=type(self.covariance)(self.covariance.values))

    def sample(self, n: int, rng: Any) -> tuple[Array, AnyArray]:
        """Draw n rows and the components they come from, in random order."""
        labels = rng.choice(len(self.weights), size=n, p=self.weights)
        return self.means[labels] + self.covariance.draw(labels, rng), labels

    @property
    def divergence(self) -> float:
        """0, since the parameters are point estimates."""
        return 0.0

    @property
    def n_parameters(self) -> int:
        """The number of free parameters."""
        return self.point.n_parameters

    @property
    def total_covariance(self) -> Array:
        """The covariance of the whole density, shape (d, d)."""
        away = self.means - self.weights @ self.means
        within = np.tensordot(self.weights, self.covariance.dense(), 1)
        total: Array = within + (self.weights * away.T) @ away
        return total

    # Change of coordinates.

    def frame(self) -> Frame:
        """The frame in which the mixture as a whole has mean 0 and unit scale."""
        return frame_of(self.weights, self.means, self.covariance)

    def into(self, frame: Frame) -> Self:
        """The same mixture in the coordinates z of a frame."""
        return replace(
            self,
            means=(self.means - frame.origin) / frame.scale,
            covariance=self.covariance.scaled(1 / frame.scale),
            noise=self.noise / frame.scale**2,
        )

    def out_of(self, frame: Frame) -> Self:
        """The mixture of x, if this one is over the coordinates z of a frame."""
        return replace(
            self,
            means=frame.origin + frame.scale * self.means,
            covariance=self.covariance.scaled(frame.scale),
            noise=self.noise * frame.scale**2,
        )

    # Mixtures over fewer features.

    def marginal(self, columns: AnyArray) -> Self:
        """The mixture of some of the features."""
        return replace(
            self,
            means=self.means[:, columns],
            covariance=self.covariance.marginal(columns),
            noise=self.noise[columns],
        )

    def condition(self, given: AnyArray, values: Array) -> Self:
        """The mixture of the other features, given these values of the features ``given``."""
        free = np.setdiff1d(np.arange(self.means.shape[1]), given)
        weights = Posterior.exact(self.marginal(given).log_joint(values[None])).weight[0]
        gain, covariance = self.covariance.condition(free, given)
        differences = values - self.means[:, given]
        return replace(
            self,
            weights=weights,
            means=self.means[:, free] + (gain @ differences[:, :, None])[:, :, 0],
            covariance=covariance,
            noise=self.noise[free],
        )
