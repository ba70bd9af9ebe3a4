"""Models that are nowhere in the library, as a user would write them."""

import numpy as np
import torch

from skemvae.models import LatentVariableModel


class GaussianPair(LatentVariableModel):
    """A mixture of two spherical Gaussians by enumeration: to compare with exact EM."""

    posterior = "enumerated"

    def __init__(self, n_components=2):
        self.n_components = n_components

    @property
    def n_latent(self):
        return self.n_components

    def initial_parameters(self, X, rng):
        k = self.n_components
        centres = X[rng.choice(len(X), k, replace=len(X) < k)]
        return {
            "logits": np.zeros(k),
            "means": centres + 1e-3 * np.std(X, 0) * rng.normal(size=centres.shape),
            "log_scale": np.full(k, np.log(np.std(X) + 1e-6)),
        }

    def log_joint(self, X, Z, parameters):
        logits, means, log_scale = parameters.values()
        squares = ((X - means) ** 2).sum(-1) * torch.exp(-2 * log_scale)
        d = X.shape[-1]
        log_p = -0.5 * squares - d * (log_scale + 0.5 * np.log(2 * np.pi))
        return torch.log_softmax(logits, 0) + log_p

    def log_prior(self, Z, parameters):
        return torch.log_softmax(parameters["logits"], 0)[Z]

    def sample(self, n, parameters, rng):
        logits, means, log_scale = parameters.values()
        weights = np.exp(logits - logits.max())
        Z = rng.choice(len(logits), n, p=weights / weights.sum())
        noise = rng.normal(size=(n, means.shape[1]))
        return means[Z] + np.exp(log_scale[Z])[:, None] * noise, Z

    def mean(self, Z, parameters):
        return Z @ parameters["means"]


class LinearGaussian(LatentVariableModel):
    """Factor analysis, written out: the posterior is normal, so the bound is log p(x)."""

    def __init__(self, n_components=1, posterior="full"):
        self.n_components = n_components
        self.posterior = posterior

    @property
    def n_latent(self):
        return self.n_components

    def initial_parameters(self, X, rng):
        scale = np.std(X, 0) + 1e-6
        return {
            "loadings": 0.7 * scale * rng.normal(size=(self.n_components, X.shape[1])),
            "intercept": X.mean(0),
            "log_scale": np.log(scale) - 0.3,
        }

    def log_joint(self, X, Z, parameters):
        loadings, intercept, log_scale = parameters.values()
        noise = torch.distributions.Normal(Z @ loadings + intercept, log_scale.exp())
        prior = torch.distributions.Normal(0.0, 1.0)
        return noise.log_prob(X).sum(-1) + prior.log_prob(Z).sum(-1)

    def log_prior(self, Z, parameters):
        return torch.distributions.Normal(0.0, 1.0).log_prob(Z).sum(-1)

    def sample(self, n, parameters, rng):
        loadings, intercept, log_scale = parameters.values()
        Z = rng.normal(size=(n, self.n_components))
        noise = rng.normal(size=(n, len(intercept)))
        return Z @ loadings + intercept + np.exp(log_scale) * noise, Z

    def mean(self, Z, parameters):
        return Z @ parameters["loadings"] + parameters["intercept"]
