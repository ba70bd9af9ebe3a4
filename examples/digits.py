"""A VAE of handwritten digits: generation, reconstruction, anomalies, a search.

    python examples/digits.py

The images are scikit-learn's: 1,797 of 8 x 8 pixels with 17 grey levels, here
as probabilities of ink, which a Bernoulli likelihood draws as 0 or 1 anew for
each batch. Nothing is downloaded; it takes a minute or two.
"""

from pathlib import Path

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Binarizer

from skemvae import VAEEstimator

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# 1. Ink as probabilities, and bits to score: a grey value has no probability.
digits = load_digits()
grey = digits.data / 16
bits = (np.random.RandomState(0).uniform(size=grey.shape) < grey).astype(float)
train, test = train_test_split(np.arange(len(grey)), test_size=0.25, random_state=0)

# 2. Choose the number of latent dimensions and the prior by held-out nats.
vae = VAEEstimator(
    hidden_layer_sizes=(128,), likelihood="bernoulli", n_prior_components=20, random_state=0
)
grid = {"n_components": [2, 8], "prior": ["normal", "mixture"]}
search = GridSearchCV(vae, grid, cv=3).fit(bits[train])
print("Held-out nats per image:")
for parameters, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"  {parameters['n_components']} dimensions, {parameters['prior']:<8}{score:8.2f}")
vae = search.best_estimator_.fit(grey[train])  # grey: more to learn from
log_probability, error = vae.score_samples(bits[test], return_std=True)
print(
    f"Trained on grey values: {log_probability.mean():.2f} nats per unseen image, of standard "
    f"error {error.mean():.2f} each; bound at training {vae.lower_bound_:.2f}, "
    f"{vae.n_active_units_} of {vae.n_components} dimensions active."
)

# 3. Anomalies in a Pipeline: a density of all digits but 0, asked about 0. (An 8, say, is harder:
# it has parts of many others.)
is_zero = digits.target == 0
pipeline = Pipeline(
    [
        ("threshold", Binarizer(threshold=0.5)),
        ("vae", VAEEstimator(8, hidden_layer_sizes=(128,), likelihood="bernoulli", random_state=0)),
    ]
)
pipeline.fit(grey[train][~is_zero[train]])
auroc = roc_auc_score(is_zero[test], -pipeline.score_samples(grey[test]))
print(f"Digit 0 against the others, by a density that has never seen one: AUROC {auroc:.3f}.")

# 4. Pictures: samples, reconstructions, the latent space.
figure, axes = plt.subplots(1, 4, figsize=(17, 4.4), layout="constrained")
_, Z = vae.sample(100, random_state=3)


def mosaic(images, n_rows=10):
    """Images of 8 x 8 in one array, with a margin around each."""
    tiles = np.pad(images.reshape(n_rows, -1, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    return tiles.transpose(0, 2, 1, 3).reshape(10 * n_rows, -1)


axes[0].imshow(mosaic(vae.inverse_transform(Z)), cmap="gray_r")
axes[0].set(title="Samples: mean ink at z drawn from p(z)")
shown = test[:50]
pairs = np.empty((100, 64))
pairs[0::2], pairs[1::2] = grey[shown], vae.inverse_transform(vae.transform(grey[shown]))
axes[1].imshow(mosaic(pairs), cmap="gray_r")
axes[1].set(title="Unseen digits, each beside its reconstruction")
for axis in axes[:2]:
    axis.axis("off")
plane = VAEEstimator(2, likelihood="bernoulli", random_state=0).fit(grey[train])
latent = plane.transform(grey[test])
points = axes[2].scatter(*latent.T, c=digits.target[test], cmap="tab10", s=12)
figure.colorbar(points, ax=axes[2], ticks=range(10), label="digit")
axes[2].set(title="Posterior means of unseen digits", xlabel="$z_1$", ylabel="$z_2$")
epochs = np.arange(plane.n_iter_ + 1)
axes[3].plot(epochs, plane.lower_bounds_, label="training rows")
axes[3].plot(epochs, plane.validation_lower_bounds_, label="held-out rows")
axes[3].set(title="The bound", xlabel="epoch", ylabel="nats per image")
low, high = np.quantile(plane.validation_lower_bounds_, [0.03, 1])
axes[3].set_ylim(low - 1, high + 2)
axes[3].legend()

path = Path(__file__).parents[1] / "output" / "digits.png"
path.parent.mkdir(exist_ok=True)
figure.savefig(path, dpi=110)
print(f"Picture: {path}")
