"""Latent-variable density models on one likelihood scale, as scikit-learn estimators."""

from skemvae._version import __version__
from skemvae.base import VersionMismatchWarning
from skemvae.core.decomposition import BoundDecomposition, decompose_bound
from skemvae.em_gaussian_mixture import EMGaussianMixture
from skemvae.onnx import to_onnx
from skemvae.vae import VAEEstimator
from skemvae.variational_em import VariationalEM

__all__ = [
    "BoundDecomposition",
    "EMGaussianMixture",
    "VAEEstimator",
    "VariationalEM",
    "VersionMismatchWarning",
    "__version__",
    "decompose_bound",
    "to_onnx",
]
