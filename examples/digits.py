"""
A VAE of handwritten digits
===========================

How probable is an image? The images are scikit-learn's: 1,797 of 8 x 8 pixels with 17
grey levels, here as probabilities of ink. The number of latent dimensions and the prior
are chosen by held-out nats; then the VAE generates, reconstructs, and says which images
are unlike those that it knows.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split

from skemvae import DoubtfulFitWarning, VAEEstimator

# %%
# Grey values are probabilities of ink: a Bernoulli likelihood draws them as 0 or 1 anew
# for each batch. Only bits can be scored, for a grey value has no probability.

digits = load_digits()
grey = digits.data / 16
bits = (np.random.RandomState(0).uniform(size=grey.shape) < grey).astype(float)
train, test = train_test_split(np.arange(len(grey)), test_size=0.25, random_state=0)

# %%
# Choosing by held-out nats
# -------------------------
#
# A grid search as for any estimator: ``score`` is the mean log probability of held-out
# images.

vae = VAEEstimator(
    hidden_layer_sizes=(128,),
    likelihood="bernoulli",
    n_prior_components=20,
    max_iter=50,
    learning_rate="cosine",
    random_state=0,
)
grid = {"n_components": [2, 8], "prior": ["normal", "mixture"]}
search = GridSearchCV(vae, grid, cv=2).fit(bits[train])
for parameters, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    size, prior = parameters["n_components"], parameters["prior"]
    print(f"{size} dimensions, {prior:<8}{score:8.2f} nats")

# %%
# The best one again, with grey values and a fit that stops by itself. Its score has a
# standard error for each image.

warnings.simplefilter("ignore", DoubtfulFitWarning)  # grey values are no bits to score
vae = search.best_estimator_.set_params(max_iter=300, learning_rate="adaptive")
vae.fit(grey[train])
log_probability, error = vae.score_samples(bits[test], return_std=True)
print(f"{log_probability.mean():.2f} nats per unseen image, ", end="")
print(f"standard error {error.mean():.2f} each")
print(f"{vae.n_active_units_} of {vae.n_components} dimensions are active")

# %%
# Samples and reconstructions
# ---------------------------


def mosaic(images, n_rows=10):
    """Images of 8 x 8 in one array, with a margin around each."""
    tiles = np.pad(images.reshape(n_rows, -1, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    return tiles.transpose(0, 2, 1, 3).reshape(10 * n_rows, -1)


_, Z = vae.sample(100, random_state=3)
shown = grey[test[:50]]
pairs = np.empty((100, 64))
pairs[0::2], pairs[1::2] = shown, vae.inverse_transform(vae.transform(shown))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
left.imshow(mosaic(vae.inverse_transform(Z)), cmap="gray_r")
left.set(title="Samples: mean ink at z drawn from p(z)")
right.imshow(mosaic(pairs), cmap="gray_r")
right.set(title="Unseen digits, each beside its reconstruction")
for axis in (left, right):
    axis.axis("off")

# %%
# A digit that it has never seen
# ------------------------------
#
# The same density of all digits but 0, asked about 0. (An 8, say, is harder: it has
# parts of many others.)

is_zero = digits.target == 0
without_zero = VAEEstimator(
    8, hidden_layer_sizes=(128,), likelihood="bernoulli", random_state=0
)
without_zero.fit(grey[train][~is_zero[train]])
log_probability = without_zero.score_samples(bits[test])
auroc = roc_auc_score(is_zero[test], -log_probability)
print(f"Digit 0 against the others: AUROC {auroc:.3f}")

figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
bins = np.linspace(log_probability.min(), log_probability.max(), 40)
axis.hist(
    log_probability[~is_zero[test]], bins, alpha=0.7, density=True, label="1 to 9"
)
axis.hist(
    log_probability[is_zero[test]], bins, alpha=0.7, density=True, label="0, never seen"
)
axis.set(
    xlabel="log probability of an image, nats",
    ylabel="share",
    yticks=[],
    title="Unseen images of zeros and of other digits",
)
axis.legend()
plt.show()
