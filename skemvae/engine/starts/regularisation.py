"""The ridge of a mixture, as the user sets it or as the number of rows requires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.covariance import Covariance
from skemvae.engine.samples.grain import Grain
from skemvae.engine.samples.summary import Summary

# The default if the rows determine all covariances.
LITTLE = 1e-6


@dataclass(frozen=True)
class Regularisation:
    """The regularisation that ``reg_covar`` asks for.

    Attributes
    ----------
    reg_covar : float or "auto"
    structure : type of Covariance
    n_components : int
    """

    reg_covar: float | str
    structure: type[Covariance]
    n_components: int

    @classmethod
    def of(cls, estimator: Any, structure: type[Covariance]) -> Regularisation:
        """The regularisation of an estimator with valid parameters."""
        return cls(estimator.reg_covar, structure, int(estimator.n_components))

    def share(self, grain: Grain) -> float:
        """``reg_covar`` as a number; "auto" compensates for missing rows."""
        if isinstance(self.reg_covar, str):
            return max(LITTLE, self.missing(grain))
        return float(self.reg_covar)

    def noise(self, summary: Summary, grain: Grain) -> Array:
        """The ridge of each feature, shape (d,), in squared units of X."""
        least = self.structure.least_ridge * summary.spread**2
        return np.maximum(summary.noise(self.share(grain), grain), least)

    def missing(self, grain: Grain) -> float:
        """The undetermined share of the covariances, if all components have equally many rows.

        The mean uses up one row of each component.
        """
        own = np.full(self.n_components, grain.n_rows / self.n_components - 1)
        return self.structure.missing(own, len(grain.width))
