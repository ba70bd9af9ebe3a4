"""How much a mixture is regularised: by what the user says, or by how many rows are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.covariance import Covariance
from skemvae.engine.samples.grain import Grain
from skemvae.engine.samples.summary import Summary

# The default, where rows determine all covariances.
LITTLE = 1e-6


@dataclass(frozen=True)
class Regularisation:
    """What ``reg_covar`` asks for.

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
        """That of an estimator of valid parameters."""
        return cls(estimator.reg_covar, structure, int(estimator.n_components))

    def share(self, grain: Grain) -> float:
        """``reg_covar`` as a number; "auto" stands in for the rows that are missing."""
        if isinstance(self.reg_covar, str):
            return max(LITTLE, self.missing(grain))
        return float(self.reg_covar)

    def noise(self, summary: Summary, grain: Grain) -> Array:
        """The variance that regularises each feature, shape (d,), squared units of X."""
        least = self.structure.least_ridge * summary.spread**2
        return np.maximum(summary.noise(self.share(grain), grain), least)

    def missing(self, grain: Grain) -> float:
        """Which part of their squares covariances lack, if all components have as many rows.

        One row goes to the mean.
        """
        own = np.full(self.n_components, grain.n_rows / self.n_components - 1)
        return self.structure.missing(own, len(grain.width))
