"""The registry of covariance structures, which maps each name to its class."""

from __future__ import annotations

from skemvae.core.covariance import Covariance
from skemvae.structures.axis import Diagonal, Spherical
from skemvae.structures.dense import Full, Tied
from skemvae.structures.factor_analytic import FactorAnalytic

STRUCTURES: dict[str, type[Covariance]] = {
    structure.name: structure for structure in (Full, Tied, Diagonal, Spherical, FactorAnalytic)
}
