"""
A table of mixed columns
========================

The diabetes table has real numbers, a label (sex), a count of years (age) and a score
with few values. A model has to know what each column is, so each column gets a
likelihood of its own. Held-out nats show which choice describes the table better.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from skemvae import VAEEstimator, VariationalEM
from skemvae.models import FactorModel

X, progression = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
X = X[["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s5", "s6"]]
print(X.head(3).to_string())

# %%
# A factor model and a VAE take the same likelihoods, as pairs of likelihood and
# columns. Sex is coded as 1 and 2 in this table; any two values would do for a label.

real = ["bmi", "bp", "s1", "s2", "s3", "s5", "s6"]
columns = {
    "normal": [
        ("gaussian", real),
        ("categorical", ["sex"]),
        ("negative_binomial", ["age"]),
    ],
    "heavy tails": [
        ("student_t", real),
        ("categorical", ["sex"]),
        ("negative_binomial", ["age"]),
    ],
}

# %%
# The same columns are discrete in both, so the scores can be compared: nats per row, in
# the units of the table. (A density and a probability can never be compared.)

train, test = train_test_split(X, test_size=0.4, random_state=0)
candidates = {
    f"{name}, {family}": estimator
    for name, likelihood in columns.items()
    for family, estimator in (
        (
            "factor model",
            VariationalEM(FactorModel(3, likelihood), tol=0.01, random_state=0),
        ),
        ("VAE", VAEEstimator(3, likelihood=likelihood, random_state=0)),
    )
}
scores = {
    name: estimator.fit(train).score(test) for name, estimator in candidates.items()
}
for name, score in scores.items():
    print(f"{name:<26}{score:8.3f} held-out nats per patient")

# %%
# The factors have not seen how the disease progressed in the following year, and yet
# they are correlated with it.

name = max(scores, key=scores.get)
best = candidates[name]
Z = best.transform(X)
print(f"Best: {name}")
for j, z in enumerate(Z.T):
    correlation = np.corrcoef(z, progression)[0, 1]
    print(f"Correlation of progression with z_{j + 1}: {correlation:+.2f}")

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
points = axes[0].scatter(Z[:, 0], Z[:, 1], c=progression, s=12)
figure.colorbar(points, ax=axes[0], label="progression after a year")
axes[0].set(xlabel="$z_1$", ylabel="$z_2$", title="Patients")
invented, _ = best.sample(442, random_state=0)
axes[1].scatter(X["bmi"], X["s5"], s=10, label="patients")
axes[1].scatter(invented[:, 2], invented[:, 7], s=10, alpha=0.6, label="samples")
axes[1].set(xlabel="bmi", ylabel="s5", title="Samples")
axes[1].legend()
plt.show()
