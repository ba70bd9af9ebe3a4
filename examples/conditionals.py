"""
What the rest of a row says
===========================

A density of whole rows answers every question about a part of them. ``marginal`` leaves
columns out. ``condition`` fixes some columns at known values. The result is again a
mixture, with its own means, spreads and samples. So one fit predicts any column from
any others, and fills in what was not measured.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris, load_wine
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

from skemvae import EMGaussianMixture

# %%
# Two answers to one question
# ---------------------------
#
# How long are the petals of an iris whose sepals are 3 cm wide? Hardly any flower has
# the mean length. The conditional density shows why: it has a mode for each kind of
# flower.

iris = load_iris().data[:, [1, 2]]  # sepal width, petal length
mixture = EMGaussianMixture(2, random_state=0).fit(iris)
grid = np.linspace(0, 8, 400)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
left.scatter(*iris.T, s=10, color="0.5")
for value, colour in ((2.5, "C0"), (3.0, "C1"), (3.8, "C3")):
    given = mixture.condition([0], [value])
    left.axvline(value, color=colour, ls="--")
    density = np.exp(given.score_samples(grid[:, None]))
    right.plot(grid, density, color=colour, label=f"sepals {value} cm wide")
    shares = ", ".join(
        f"{weight:.0%} about {mean:.1f} cm"
        for weight, mean in sorted(
            zip(given.weights_, given.means_[:, 0], strict=True)
        )[::-1]
    )
    print(f"{value} cm wide: petals are {shares}")
left.set(
    xlabel="sepal width (cm)",
    ylabel="petal length (cm)",
    title="Irises, and three given widths",
)
right.set(
    xlabel="petal length (cm)",
    ylabel="density given the width",
    title="Petal lengths, given the width",
)
right.legend()

# %%
# Filling in what is missing
# --------------------------
#
# In the wine table (178 wines, 13 measurements) we hide a fifth of the entries of the
# test rows. For each row we condition the mixture on the entries that are known, and
# fill in the mean of the others.

X = load_wine().data
X = (X - X.mean(0)) / X.std(0)
train, test = train_test_split(X, test_size=0.4, random_state=0)
missing = np.random.RandomState(0).uniform(size=test.shape) < 0.2


def filled_in(mixture, row, missing):
    """The expected values of the missing entries of a row, given the others."""
    given = mixture.condition(~missing, row[~missing])
    return given.weights_ @ given.means_


for k in (1, 2, 3):
    mixture = EMGaussianMixture(k, reg_covar=0.05, random_state=0).fit(train)
    error = np.concatenate(
        [
            filled_in(mixture, row, holes) - row[holes]
            for row, holes in zip(test, missing, strict=True)
            if holes.any()
        ]
    )
    print(f"{k} component(s): root mean square error {np.sqrt((error**2).mean()):.2f}")
print(f"Column means:   root mean square error {np.sqrt(test[missing].var()):.2f}")

# %%
# With one component this is linear regression, for every pattern of missing entries at
# once: the conditional mean of a normal distribution is the least-squares line.

one = EMGaussianMixture(1, reg_covar=0).fit(train)
line = LinearRegression().fit(train[:, 1:], train[:, 0])
predictions = [one.condition(np.arange(1, 13), row[1:]).means_[0, 0] for row in test]
print(
    f"Largest difference: {np.abs(predictions - line.predict(test[:, 1:])).max():.1e}"
)
plt.show()
