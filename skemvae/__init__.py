"""Latent-variable density models on one likelihood scale, as scikit-learn estimators."""

from skemvae._version import __version__
from skemvae.base import VersionMismatchWarning
from skemvae.bound_monitor import BoundLog, BoundMonitor
from skemvae.comparison import Comparison, IncomparableDensitiesWarning, compare
from skemvae.em_gaussian_mixture import EMGaussianMixture
from skemvae.vae import VAEEstimator
from skemvae.variational_em import VariationalEM

__all__ = [
    "BoundLog",
    "BoundMonitor",
    "Comparison",
    "EMGaussianMixture",
    "IncomparableDensitiesWarning",
    "VAEEstimator",
    "VariationalEM",
    "VersionMismatchWarning",
    "__version__",
    "compare",
]
