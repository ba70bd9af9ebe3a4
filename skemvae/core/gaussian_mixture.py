"""The Gaussian mixture p(x, z): z is the component, x is Gaussian given z."""

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
    """A frame in which a mixture as a whole has mean 0 and unit scale."""
    mean = weights @ means
    variances = covariance.variances + (means - mean) ** 2
    return Frame(mean, covariance.units(np.sqrt(weights @ variances)))


@dataclass(frozen=True)
class GaussianMixture:
    """Parameters of a Gaussian mixture, with the objective that fits them.

    The joint density of a component is scored as
    ``log w + log N(x | mean, C) - tr(diag(noise) C^-1) / 2``: the expected log
    density of x with noise of that variance. Because the same expression
    stands in the E and the M step, ``C = scatter + diag(noise)`` maximises it
    exactly and the objective never falls. With ``noise`` 0 it is the density.

    Attributes
    ----------
    weights : array of shape (K,)
    means : array of shape (K, d)
    covariance : Covariance
    noise : array of shape (d,)
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

        They are log p(x, z=k), less the penalty if there is ``noise``.
        """
        scan, workspace = self.scan(), Workspace()
        features = scan.features(Frame.identity(X.shape[1]).apply(X, workspace), workspace)
        return scan.log_joint(features, self.log_normaliser, workspace).T.copy()

    def maximise(self, moments: Moments) -> Self:
        """The M step, in closed form; a component without weight stays where it was."""
        return replace(
            self,
            weights=moments.shares / moments.shares.sum(),
            means=moments.where_counted(moments.means, lambda: self.means),
            covariance=self.covariance.maximise(moments, self.noise),
        )

    @property
    def moments(self) -> Moments:
        """The moments, for a total weight of 1, of which these parameters are the M step.

        The complete-data likelihood is an exponential family: parameters and
        expected sufficient statistics are two coordinates of one thing.
        """
        scatter = self.covariance.scatter(self.noise)
        second = self.weights.reshape(-1, *(1,) * (scatter.ndim - 1)) * scatter
        return Moments(self.weights, self.means, np.zeros_like(self.means), second)

    def regularised(self, noise: Array) -> Self:
        """What the same moments give with other noise."""
        return replace(self, noise=noise).maximise(self.moments)

    @property
    def point(self) -> Point:
        """Where it is."""
        return Point(self.weights, self.means, self.covariance)

    def at(self, point: Point) -> Self:
        """The same mixture elsewhere."""
        weights, means, covariance = point
        return replace(
            self,
            weights=weights / weights.sum(),
            means=means,
            covariance=covariance.above(self.noise),
        )

    def chart(self) -> Chart[Self]:
        """Coordinates around it."""
        return Chart(self)

    @property
    def bare(self) -> Self:
        """The same, without the memory of what has been computed of it: factors, say."""
        return replace(self, covariance=type(self.covariance)(self.covariance.values))

    def sample(self, n: int, rng: Any) -> tuple[Array, AnyArray]:
        """Draw n rows and the components they come from, in random order."""
        labels = rng.choice(len(self.weights), size=n, p=self.weights)
        return self.means[labels] + self.covariance.draw(labels, rng), labels

    @property
    def divergence(self) -> float:
        """0: its parameters are points."""
        return 0.0

    @property
    def n_parameters(self) -> int:
        """The number of free parameters."""
        return self.point.n_parameters

    @property
    def total_covariance(self) -> Array:
        """That of the whole density, shape (d, d)."""
        away = self.means - self.weights @ self.means
        within = np.tensordot(self.weights, self.covariance.dense(), 1)
        total: Array = within + (self.weights * away.T) @ away
        return total

    # Change of coordinates.

    def frame(self) -> Frame:
        """A frame in which the mixture as a whole has mean 0 and unit scale."""
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
        """The mixture of x, from that of the coordinates z of a frame."""
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
        """The mixture of the other features, where those in ``given`` have these values."""
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
