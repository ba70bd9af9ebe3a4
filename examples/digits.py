"""
A VAE of handwritten digits
===========================

How probable is an image? scikit-learn ships 1,797 images of 8 x 8 pixels with 17 grey
levels. Here a grey level is the probability of ink. We choose the number of latent
dimensions and the prior by held-out nats. Then the VAE generates images, reconstructs
them, and finds those that are unlike the ones it knows.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split

from skemvae import DoubtfulFitWarning, VAEEstimator

# %%
# Grey values are probabilities of ink: a Bernoulli likelihood draws them anew as 0 or 1
# for each batch. Only the drawn bits can be scored, because a grey value has no
# probability.

digits = load_digits()
grey = digits.data / 16
bits = (np.random.RandomState(0).uniform(size=grey.shape) < grey).astype(float)
train, test = train_test_split(np.arange(len(grey)), test_size=0.25, random_state=0)

# %%
# Choosing by held-out nats
# -------------------------
#
# The grid search works as for any estimator: ``score`` is the mean log probability of
# held-out images.

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
# Fit the best one again to grey values, until it converges. Its score comes with a
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
# Fit the same density to all digits except 0, then score images of 0. (Other digits are
# harder. An 8, for example, shares parts with many others.)

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
