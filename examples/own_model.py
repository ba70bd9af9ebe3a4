"""
A model of your own: directions
===============================

The library has no mixture of von Mises distributions, which describes angles. Write it
as a model, and you get exact EM, scores, samples, a grid search and all the rest. z is
one of K states, so enumeration gives the exact posterior. The M step has no closed form
and needs none.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.model_selection import GridSearchCV

from skemvae import VariationalEM
from skemvae.models import LatentVariableModel


class VonMisesMixture(LatentVariableModel):
    """p(x) = sum_k w_k exp(kappa_k cos(x - mu_k)) / (2 pi I_0(kappa_k)), of angles."""

    posterior = "enumerated"

    def __init__(self, n_components=2):
        self.n_components = n_components

    @property
    def n_latent(self):
        return self.n_components

    def initial_parameters(self, X, rng):
        k = self.n_components
        return {
            "logits": np.zeros(k),
            "mu": rng.uniform(-np.pi, np.pi) + 2 * np.pi * np.arange(k) / k,
            "log_kappa": np.zeros(k),
        }

    def log_joint(self, X, Z, parameters):
        logits, mu, log_kappa = parameters.values()
        kappa = log_kappa.exp()
        log_i0 = torch.log(torch.special.i0e(kappa)) + kappa
        log_p_x = kappa * torch.cos(X[..., 0] - mu) - np.log(2 * np.pi) - log_i0
        return torch.log_softmax(logits, 0) + log_p_x

    def sample(self, n, parameters, rng):
        logits, mu, log_kappa = parameters.values()
        weights = np.exp(logits - logits.max())
        Z = rng.choice(len(logits), n, p=weights / weights.sum())
        return rng.vonmises(mu[Z], np.exp(log_kappa[Z]))[:, None], Z


# %%
# The wind comes mostly from two directions. One of them lies across the border at ±π,
# where a Gaussian mixture of the angle would see two clusters. The data are simulated,
# so we know the truth.

rng = np.random.RandomState(0)
X = np.concatenate([rng.vonmises(3.0, 4, 400), rng.vonmises(0.5, 8, 200)])
X = rng.permutation(X)[:, None]

em = VariationalEM(VonMisesMixture(), tol=1e-4, max_iter=1000, n_init=3, random_state=0)
search = GridSearchCV(em, {"model__n_components": [1, 2, 3]}, cv=3).fit(X)
for k, score in zip([1, 2, 3], search.cv_results_["mean_test_score"], strict=True):
    print(f"{k} components: {score:.3f} held-out nats")

# %%
# The fitted parameters have the names that the model gave them.

em = em.set_params(model__n_components=2).fit(X)
logits, mu, log_kappa = em.model_.parameters_.values()
for k in np.argsort(-logits):
    weight = np.exp(logits[k]) / np.exp(logits).sum()
    direction = np.angle(np.exp(1j * mu[k]))
    kappa = np.exp(log_kappa[k])
    print(f"weight {weight:.2f}, direction {direction:5.2f}, kappa {kappa:.1f}")

# %%
# The E step is exact, so the bound equals the log likelihood per sample, and never
# falls.

print(f"Smallest step of the bound: {np.diff(em.lower_bounds_).min():.1e}")
print(f"Bound {em.lower_bound_:.4f} = score {em.score(X):.4f}")

# %%
# Finally, the density over all directions.

angles = np.linspace(-np.pi, np.pi, 361)
density = np.exp(em.score_samples(angles[:, None]))
figure, axis = plt.subplots(
    figsize=(5, 5), subplot_kw={"projection": "polar"}, layout="constrained"
)
axis.hist(X[:, 0], bins=36, density=True, alpha=0.4, label="wind")
axis.plot(angles, density, label="p(x)")
axis.set(
    yticklabels=[],
    theta_zero_location="N",
    theta_direction=-1,
    title="Wind directions, and their fitted density",
)
axis.legend(loc="lower right", bbox_to_anchor=(1.1, -0.05))
plt.show()
