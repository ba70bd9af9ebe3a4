"""Likelihoods p(x_j | η_j) of columns, one class for each kind. Importing them imports torch."""

from skemvae.optional import require

require("torch", purpose="skemvae.likelihoods")

from skemvae.likelihoods.base import Likelihood
from skemvae.likelihoods.columns import LIKELIHOODS
from skemvae.likelihoods.continuous import Gaussian, LogNormal, StudentT
from skemvae.likelihoods.discrete import Bernoulli, Categorical, NegativeBinomial, Poisson

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "Likelihood",
    "LogNormal",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
]
