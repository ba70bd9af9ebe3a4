"""Models p(x, z) that ``VariationalEM`` fits."""

from skemvae.models.base import Model
from skemvae.models.bayesian_mixture import BayesianMixture
from skemvae.models.factor_model import FactorModel
from skemvae.models.latent_variable_model import LatentVariableModel

#: The models that ``VariationalEM(model="name")`` knows.
MODELS: dict[str, type[Model]] = {
    "bayesian_mixture": BayesianMixture,
    "factor_model": FactorModel,
}

__all__ = ["MODELS", "BayesianMixture", "FactorModel", "LatentVariableModel", "Model"]
