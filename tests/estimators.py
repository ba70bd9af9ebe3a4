"""One of each public estimator and model, all of them quick: of these is asked what all must do."""

from sklearn.preprocessing import StandardScaler

from skemvae import (
    DensityOutlierDetector,
    EMGaussianMixture,
    TransformedDensity,
    VAEEstimator,
    VariationalEM,
)
from skemvae.models import BayesianMixture, FactorModel

# A VAE of one epoch, which runs its course: no warning.
QUICK = {
    "max_iter": 1,
    "hidden_layer_sizes": (2,),
    "n_score_samples": 16,
    "kl_warmup": 0,
    "learning_rate": "cosine",
}
ESTIMATORS = {
    "EM": EMGaussianMixture(2, max_iter=2, random_state=0),
    "VAE": VAEEstimator(1, random_state=0, **QUICK),
    "VB": VariationalEM(max_iter=2, random_state=0),
    "detector": DensityOutlierDetector(cv=2),
    "scaled": TransformedDensity(StandardScaler(), EMGaussianMixture()),
}
# What VariationalEM takes.
MODELS = {"mixture": BayesianMixture(2), "factors": FactorModel(1)}
