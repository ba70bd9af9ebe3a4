r"""
Exact, variational, amortised: three E steps
============================================

This example fits one model to the same (simulated) data with three E steps, and
compares them on one likelihood scale.

The data are counts in four columns that depend on one hidden rate :math:`z`:
:math:`x_j \sim \mathrm{Poisson}(\exp(W_j z + b_j))`, :math:`z \sim N(0, 1)`. Exact EM
is possible here, because a :math:`z` on a grid of 121 values has a posterior by Bayes'
rule. Variational EM gives each row the best normal :math:`q(z)`. A VAE has one network
for all rows.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import norm
from sklearn.model_selection import train_test_split

from skemvae import VAEEstimator, VariationalEM
from skemvae.models import FactorModel, LatentVariableModel

GRID = np.linspace(-5, 5, 121)


class PoissonOnAGrid(LatentVariableModel):
    """The model with z on a grid: a sum stands for the integral, and EM is exact."""

    posterior = "enumerated"
    n_latent = len(GRID)

    def initial_parameters(self, X, rng):
        return {"W": np.full(X.shape[1], 0.1), "b": np.log(X.mean(0))}

    def log_joint(self, X, Z, parameters):
        z = torch.from_numpy(GRID)[:, None]
        rate = z * parameters["W"] + parameters["b"]
        log_p_x = (X * rate - rate.exp() - torch.lgamma(X + 1)).sum(-1)
        return log_p_x + torch.log_softmax(-0.5 * z[:, 0] ** 2, 0)

    def sample(self, n, parameters, rng):
        z = rng.normal(size=(n, 1))
        rate = np.exp(z * parameters["W"] + parameters["b"])
        return rng.poisson(rate).astype(float), z


# %%
# The counts are small, so the posterior of a row is broad and not quite normal.

rng = np.random.RandomState(0)
W, b = np.array([1.0, 0.8, 1.2, -0.7]), np.array([-0.7, -0.3, -1.0, -0.4])
X = rng.poisson(np.exp(rng.normal(size=(2000, 1)) * W + b)).astype(float)
train, test = train_test_split(X, test_size=0.5, random_state=0)

# %%
# Fit the model three times. The exact E step has no gap. The best normal q comes close.
# The network, which is linear here, applies the same function to all rows.

exact = VariationalEM(PoissonOnAGrid(), tol=1e-4, random_state=0).fit(train)
variational = VariationalEM(
    FactorModel(1, "poisson", n_score_samples=1024), tol=1e-4, random_state=0
).fit(train)
amortised = VAEEstimator(
    1, hidden_layer_sizes=(), likelihood="poisson", random_state=0
).fit(train)
estimators = {
    "exact EM": exact,
    "variational EM": variational,
    "VAE, linear maps": amortised,
}
print("held-out nats per row   log p(x)      ELBO       gap")
for name, estimator in estimators.items():
    score, elbo = estimator.score(test), estimator.elbo(test).mean()
    print(f"{name:<21}{score:11.3f}{elbo:10.3f}{score - elbo:10.4f}")

# %%
# The posterior of four rows by each E step: the exact one in grey, and q. The rare rows
# show best what the network loses.

rows = np.array([[0, 0, 0, 0], [0, 0, 0, 4], [1, 1, 0, 0], [3, 2, 4, 0]], dtype=float)
posterior = exact.predict_proba(rows) / (GRID[1] - GRID[0])


def same_side(z):
    """z and -z are the same model: turn it to where the counts rise."""
    return np.sign(np.corrcoef(z, train[:, 0])[0, 1])


mean = variational.transform(rows)[:, 0] * same_side(variational.transform(train)[:, 0])
std = np.sqrt(variational.model_.posterior_covariance(rows)[:, 0, 0])
codes = torch.tensor(rows, dtype=torch.float32)
q = amortised.module_.posterior(codes)
vae_mean = amortised.transform(rows)[:, 0] * same_side(amortised.transform(train)[:, 0])
vae_std = q.log_scale.exp().detach().numpy()[:, 0]
turned = np.interp(-GRID, GRID, np.arange(len(GRID))).astype(int)
if same_side(exact.transform(train) @ GRID) < 0:
    posterior = posterior[:, turned]

figure, axes = plt.subplots(1, 4, figsize=(12, 3), sharey=True, layout="constrained")
for i, ax in enumerate(axes):
    ax.fill_between(GRID, posterior[i], color="0.85", label="exact: p(z | x)")
    ax.plot(
        GRID, norm.pdf(GRID, mean[i], std[i]), label="variational: best q for this row"
    )
    ax.plot(
        GRID,
        norm.pdf(GRID, vae_mean[i], vae_std[i]),
        "--",
        label="amortised: the network's q",
    )
    ax.set(title=f"x = {tuple(int(x) for x in rows[i])}", xlabel="z", xlim=(-4, 4))
axes[0].set_ylabel("density")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=110)
plt.show()
