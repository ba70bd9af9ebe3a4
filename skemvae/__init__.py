"""Latent-variable density models on one likelihood scale, as scikit-learn estimators."""

from skemvae._version import __version__
from skemvae.base import VersionMismatchWarning
from skemvae.bound_monitor import BoundLog, BoundMonitor
from skemvae.comparison.compare import Comparison, IncomparableDensitiesWarning, compare
from skemvae.core.decomposition import BoundDecomposition, decompose_bound
from skemvae.doubts import DoubtfulFitWarning
from skemvae.em_gaussian_mixture import EMGaussianMixture
from skemvae.onnx.export import to_onnx
from skemvae.outliers import DensityOutlierDetector
from skemvae.persistence.files import load, save
from skemvae.tables.batches import from_batches
from skemvae.transformed.estimator import TransformedDensity
from skemvae.vae import VAEEstimator
from skemvae.variational_em import VariationalEM
from skemvae.versions import show_versions

__all__ = [
    "BoundDecomposition",
    "BoundLog",
    "BoundMonitor",
    "Comparison",
    "DensityOutlierDetector",
    "DoubtfulFitWarning",
    "EMGaussianMixture",
    "IncomparableDensitiesWarning",
    "TransformedDensity",
    "VAEEstimator",
    "VariationalEM",
    "VersionMismatchWarning",
    "__version__",
    "compare",
    "decompose_bound",
    "from_batches",
    "load",
    "save",
    "show_versions",
    "to_onnx",
]
