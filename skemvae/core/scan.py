"""The arithmetic of one block of rows, under K fixed Gaussian components.

A scan holds what is constant during a pass over the data. For each block it
computes ``features``, which give both the squared Mahalanobis distances (E step)
and the second moments (M step); ``moments`` turns their sums over blocks into
data coordinates. The last axis of each array runs along the rows of the table;
the arrays stay valid until the next block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.moments import Moments
from skemvae.core.workspace import Workspace

# A mean this many standard deviations from the origin of its moments loses less
# than five of the sixteen digits of its variance. Below _NO_VARIANCE, a variance
# counts as zero, in a frame where the data have unit scale.
RESOLVED = 300.0
_NO_VARIANCE = 1e-26


class Metric(ABC):
    """Distances of rows from K components: the part of a pass that scoring needs."""

    @property
    @abstractmethod
    def width(self) -> int:
        """How many numbers ``features`` computes for one row; sets the block size."""

    @abstractmethod
    def features(self, z: Array, workspace: Workspace) -> Array:
        """What the structure needs to compute from a block ``z`` of shape (d + 1, n)."""

    @abstractmethod
    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        """-2 log density, up to a constant, shape (K, n)."""

    def log_joint(self, features: Array, log_normaliser: Array, workspace: Workspace) -> Array:
        """log p(x, z=k), shape (K, n); ``log_normaliser`` is the part that does not depend on x."""
        with np.errstate(over="ignore"):
            log_joint = self.squared_distances(features, workspace)
        log_joint *= -0.5
        log_joint += log_normaliser[:, None]
        return log_joint

    @abstractmethod
    def log_conditionals(self, features: Array) -> Array:
        """log p(x_j | all other features) under each component, shape (K, d, n)."""


@dataclass(frozen=True)
class Scan(Metric):
    """One pass over rows under K Gaussian components with given means.

    The squared distance is (x - mean)^T precision (x - mean).

    Attributes
    ----------
    means : array of shape (K, d)
    """

    # From this many features on, BLAS is faster than the compiled kernel (measured).
    WIDE: ClassVar[float] = np.inf

    means: Array

    @abstractmethod
    def residuals(self, features: Array) -> tuple[Array, Array]:
        """How far each feature is from its regression on all other features.

        Returns
        -------
        squares : array of shape (K, d, n)
            Squared residuals divided by the residual variance.
        variances : array of shape (K, d)
        """

    def log_conditionals(self, features: Array) -> Array:
        squares, variances = self.residuals(features)
        return -0.5 * (squares + np.log(2 * np.pi * variances)[:, :, None])

    def reweighted(self, features: Array, responsibility: Array) -> Array:
        """What each row counts in the first moments of each component, shape (K, n).

        Components that trust some of their rows less than others, such as Student's t, say so here.
        """
        return responsibility

    @abstractmethod
    def second(self, features: Array, weight: Array, workspace: Workspace) -> Array:
        """Weighted second moments in the scan's own coordinates; may overwrite ``features``.

        ``weight`` has shape (K, n).
        """

    @abstractmethod
    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        """Moments about the means, from the sums of r, of r x and of ``second``."""

    @property
    def origin(self) -> Array:
        """The points about which second moments are taken, shape (K, d)."""
        return self.means

    @abstractmethod
    def about(self, means: Array) -> Scan:
        """A scan of the same kind that takes second moments about other means, from differences."""

    def single(self) -> Scan | None:
        """The same scan in float32, where that is accurate enough and faster; else None."""
        return None

    def second_scan(self, n_rows: int) -> Scan:
        """The scan for the second moments of this many rows: this one, or a cheaper one."""
        return self

    def sharper(self, moments: Moments) -> Scan | None:
        """A scan that takes ``moments`` about the new means, if this one was too imprecise.

        Second moments lose precision if a variance is far smaller than the
        squared distance between the mean and the origin.
        """
        means = moments.means
        shift = means - self.origin
        lost = shift * shift > RESOLVED**2 * np.maximum(moments.variances, _NO_VARIANCE)
        if lost.any() and (lost & moments.counted[:, None]).any():
            return self.about(means)
        return None
