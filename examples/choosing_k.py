"""How many clusters? The evidence bound of one fit against a search by BIC.

    python examples/choosing_k.py

A Bayesian mixture pays for its parameters inside the bound: it empties the components that it does
not need, and bounds of different K can be compared. BIC pays by a formula, and needs a fit for each
K. It takes some seconds.
"""

import time
from pathlib import Path

import matplotlib
import numpy as np

from skemvae import EMGaussianMixture, VariationalEM
from skemvae.models import BayesianMixture

matplotlib.use("Agg")
import matplotlib.pyplot as plt

rng = np.random.RandomState(0)
centres = 4 * np.array([[0, 0], [1, 1], [2, 0], [1, -1], [3, 1]])
X = np.concatenate([rng.normal(centre, 1, (200, 2)) @ [[1, 0.3], [0, 1]] for centre in centres])

# 1. One fit, with more components than anybody expects.
begin = time.perf_counter()
em = VariationalEM(BayesianMixture(n_components=12), random_state=0).fit(X)
print(
    f"Dirichlet process, one fit from 12 components: {em.model_.n_active_components_} are left; "
    f"{time.perf_counter() - begin:.1f} s"
)

# 2. A search by BIC, and the bound for each K beside it.
sizes = range(1, 10)
begin = time.perf_counter()
bic = [EMGaussianMixture(k, random_state=0).fit(X).bic(X) for k in sizes]
print(
    f"BIC, {len(sizes)} fits: {sizes[np.argmin(bic)]} components; "
    f"{time.perf_counter() - begin:.1f} s"
)
model = BayesianMixture(weight_concentration_prior_type="dirichlet_distribution")
bounds = [
    VariationalEM(model.set_params(n_components=k), random_state=0).fit(X).lower_bound_
    for k in sizes
]
print(f"Evidence bound, {len(sizes)} fits: {sizes[np.argmax(bounds)]} components")
print("\n K   bound on log p(X), nats    -BIC / 2")
for k, bound, criterion in zip(sizes, bounds, bic, strict=True):
    print(f"{k:2d} {bound * len(X):26.1f} {-criterion / 2:11.1f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.scatter(*X.T, c=em.predict(X), s=6, cmap="tab10")
left.set(title=f"{em.model_.n_active_components_} of 12 components are left", aspect="equal")
right.plot(sizes, np.array(bounds) * len(X), "o-", label="evidence bound")
right.plot(sizes, -np.array(bic) / 2, "s--", label="-BIC / 2")
right.set(xlabel="components", ylabel="nats", title="Too many cost a little, too few a lot")
right.legend()
output = Path("output")
output.mkdir(exist_ok=True)
figure.savefig(output / "choosing_k.png", dpi=150)
print(f"\nPicture: {output / 'choosing_k.png'}")
