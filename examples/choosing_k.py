r"""
How many components, and of which shape?
========================================

This example chooses the number of components and the covariance structure for Fisher's
irises: 150 flowers, four lengths, three species, two of which overlap. A Bayesian
mixture empties the components that it does not need, so one fit is enough. BIC needs a
fit for each candidate.

The bound of the Bayesian mixture on :math:`\log p(X)` includes the cost of the
parameters, so you can compare bounds for different :math:`K` and different covariances.
BIC adds that cost by a formula.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score

from skemvae import EMGaussianMixture, VariationalEM
from skemvae.models import BayesianMixture

iris = load_iris()
X = iris.data

# %%
# The first fit starts from more components than anybody expects. A Dirichlet process
# prior empties the superfluous ones. Components that describe the same part of the data
# are merged whenever this raises the bound.

em = VariationalEM(BayesianMixture(n_components=10), random_state=0).fit(X)
agreement = adjusted_rand_score(iris.target, em.predict(X))
print(f"{em.model_.n_active_components_} of 10 components are left")
print(f"Agreement with the species (adjusted Rand index): {agreement:.2f}")

# %%
# Search over both the number and the structure, by the evidence bound and by BIC: one
# fit for each pair. The bound keeps all constants of :math:`\log p(X)`, so you can
# compare any two entries of this table. scikit-learn's ``BayesianGaussianMixture``
# drops constants that depend on :math:`K` and on the structure.

structures = ["full", "tied", "diag", "spherical"]
sizes = np.arange(1, 8)
bounds, criteria = {}, {}
for structure in structures:
    prior = "dirichlet_distribution"
    models = [
        BayesianMixture(k, structure, weight_concentration_prior_type=prior)
        for k in sizes
    ]
    bounds[structure] = np.array(
        [
            len(X) * VariationalEM(model, random_state=0).fit(X).lower_bound_
            for model in models
        ]
    )
    mixtures = [
        EMGaussianMixture(k, covariance_type=structure, random_state=0) for k in sizes
    ]
    criteria[structure] = np.array([-mixture.fit(X).bic(X) / 2 for mixture in mixtures])

for name, table in (("Bound on log p(X), nats", bounds), ("-BIC / 2, nats", criteria)):
    print(f"\n{name}\n{'K':<11}" + "".join(f"{k:9d}" for k in sizes))
    for structure in structures:
        print(
            f"{structure:<11}" + "".join(f"{value:9.1f}" for value in table[structure])
        )

# %%
# Both choose two components with full covariances: one for setosa, and one for the
# other two species together, which four lengths do not separate as normal
# distributions. BIC is misleading for seven full covariances: there one component has
# collapsed on values that are repeated, and a ``DoubtfulFitWarning`` says so. For the
# Bayesian mixture too many components cost a little, too few cost a lot.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for species in range(3):
    chosen = iris.target == species
    left.scatter(
        *X[chosen][:, [2, 3]].T,
        c=em.predict(X)[chosen],
        marker="os^"[species],
        cmap="tab10",
        vmin=0,
        vmax=9,
        s=18,
        label=iris.target_names[species],
    )
left.set(
    xlabel=iris.feature_names[2],
    ylabel=iris.feature_names[3],
    title="Colours: components; markers: species",
)
left.legend()
for number, structure in enumerate(structures):
    colour = f"C{number}"
    right.plot(sizes, bounds[structure], "o-", color=colour, label=structure)
    right.plot(sizes, criteria[structure], "s:", color=colour, mfc="w")
right.set(
    xlabel="components", ylabel="nats", title="Solid: evidence bound; dotted: -BIC / 2"
)
right.set_ylim(-680, -270)
right.legend(title="covariances", loc="lower right", ncols=2)
plt.show()
