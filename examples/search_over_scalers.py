"""
Which transformation in front of a density?
===========================================

Behind different scalers a Pipeline's scores are in different units, so a search over
scalers cannot compare them. ``TransformedDensity`` scores in the units of the table,
whatever the transformer. The table is scikit-learn's breast-cancer data: 569 tumours,
30 measurements, most of them skewed. The example takes about twenty seconds.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from skemvae import EMGaussianMixture, TransformedDensity

X = load_breast_cancer().data
transformers = {
    "none": "passthrough",
    "standard": StandardScaler(),
    "min-max": MinMaxScaler(),
    "robust": RobustScaler(),
    "power": PowerTransformer(),
    "standard, PCA": make_pipeline(StandardScaler(), PCA(whiten=True)),
    "power, PCA": make_pipeline(PowerTransformer(), PCA(whiten=True)),
}
mixture = EMGaussianMixture(2, reg_covar=1e-2, max_iter=500, random_state=0)
densities = {
    "mixture, full": mixture,
    "mixture, diag": EMGaussianMixture(
        **{**mixture.get_params(), "covariance_type": "diag"}
    ),
    "kernels": KernelDensity(bandwidth=0.5),
}

# %%
# One search over all pairs, by held-out nats.

folds = KFold(5, shuffle=True, random_state=0)
grid = {
    "transformer": list(transformers.values()),
    "estimator": list(densities.values()),
}
search = GridSearchCV(
    TransformedDensity(StandardScaler(), mixture), grid, cv=folds
).fit(X)
scores = search.cv_results_["mean_test_score"].reshape(
    len(densities), len(transformers)
)
print("Held-out nats per sample, in the units of the table (higher is better)\n")
print(f"{'':14}" + "".join(f"{name:>15}" for name in densities))
for name, row in zip(transformers, scores.T, strict=True):
    print(f"{name:14}" + "".join(f"{score:15.2f}" for score in row))

# %%
# Mixtures score the same behind all scalers of single columns, because their maximum
# likelihood does not depend on units. Kernels have the same width along all columns, so
# they depend on the scaler, and the table shows by how much. Powers and principal axes
# change the family of densities, and affect all three.
#
# A search over Pipelines would have compared the following numbers, and chosen the
# scaler with the smallest unit:

for name in ("none", "standard", "min-max", "robust"):
    pipeline = make_pipeline(transformers[name], mixture)
    by_fold = [pipeline.fit(X[train]).score(X[test]) for train, test in folds.split(X)]
    print(f"Pipeline, {name:8}{np.mean(by_fold):8.2f} nats, in units of its own")

# %%
# Power transformations with exponents outside of [0, 2] do not reach all of space.
# ``TransformedDensity`` estimates the mass that the density has beyond the edge, and
# divides by the mass inside. Samples are drawn inside only.

power = TransformedDensity(PowerTransformer(), mixture).fit(X)
exponents = power.transformer_.lambdas_
samples, _ = power.sample(569, random_state=0)
outside = (exponents < 0) | (exponents > 2)
print(f"{outside.sum()} of 30 exponents lie outside of [0, 2]")
print(f"log mass inside: {power.log_mass_:.4f} nats, ", end="")
print(f"give or take {power.log_mass_std_:.4f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
lowest = -40  # kernels in the table's own units are far below
for (name, row), marker in zip(zip(densities, scores, strict=True), "os^", strict=True):
    left.plot(np.maximum(row, lowest), list(transformers), marker, label=name)
left.invert_yaxis()
left.set(
    xlabel="held-out nats per sample (-40 and below in one place)", title="One scale"
)
left.legend(loc="lower left")
area, concavity = 13, 6  # columns of the error of the area and of the mean concavity
right.plot(samples[:, area], samples[:, concavity], ".", alpha=0.5, label="samples")
right.plot(X[:, area], X[:, concavity], ".", alpha=0.5, label="tumours")
right.set(
    xlabel="area error", ylabel="mean concavity", title="Power transformation: samples"
)
right.set(xlim=(0, 300), ylim=(-0.05, 0.5))
right.legend()
plt.show()
