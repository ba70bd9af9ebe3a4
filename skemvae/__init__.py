"""Latent-variable density models on one likelihood scale, as scikit-learn estimators."""

from skemvae._version import __version__
from skemvae.base import VersionMismatchWarning
from skemvae.em_gaussian_mixture import EMGaussianMixture

__all__ = ["EMGaussianMixture", "VersionMismatchWarning", "__version__"]
