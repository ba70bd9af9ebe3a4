"""Models p(x, z) that ``VariationalEM`` fits."""

from skemvae.models.base import Fit, Model
from skemvae.models.bayesian_mixture import BayesianMixture

MODELS: dict[str, type[Model]] = {"bayesian_mixture": BayesianMixture}

__all__ = ["MODELS", "BayesianMixture", "Fit", "Model"]
