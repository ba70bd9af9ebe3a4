"""
A map of the digits
===================

With two latent dimensions a VAE draws a map of the images: it shows where each image
lies, and what lies in between. With a learned mixture as prior p(z) the map gets
separate regions, found without any label.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skemvae import DoubtfulFitWarning, VAEEstimator

digits = load_digits()
grey = digits.data / 16
train, test = train_test_split(np.arange(len(grey)), test_size=0.3, random_state=0)

# %%
# Two priors
# ----------
#
# The standard normal prior packs all digits into one disc. A mixture of twenty
# components may leave gaps between them. We compare the two by the log probability of
# unseen images, drawn as bits from their grey values.

noise = np.random.RandomState(0).uniform(size=grey[test].shape)
bits = (noise < grey[test]).astype(float)
settings = {
    "likelihood": "bernoulli",
    "max_iter": 120,
    "learning_rate": "cosine",
    "random_state": 0,
}
maps = {
    "normal": VAEEstimator(2, **settings),
    "mixture": VAEEstimator(2, prior="mixture", n_prior_components=20, **settings),
}
warnings.simplefilter("ignore", DoubtfulFitWarning)  # grey values are no bits to score
for name, vae in maps.items():
    vae.fit(grey[train])
    print(f"{name:<8} prior: {vae.score(bits):.2f} nats per unseen image")

# %%
# The colours are the labels of the digits. No fit has used them.

figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
for axis, (name, vae) in zip(axes, maps.items(), strict=True):
    Z = vae.transform(grey[test])
    points = axis.scatter(
        *Z.T, c=digits.target[test], cmap="tab10", vmin=-0.5, vmax=9.5, s=10
    )
    axis.set(title=f"{name} prior", xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
figure.colorbar(points, ax=axes, ticks=range(10), label="digit")

# %%
# What lies in between
# --------------------
#
# The decoder turns any point into an image. This picture shows a grid over the map with
# the normal prior, at equal steps of probability.

steps = norm.ppf(np.linspace(0.03, 0.97, 14))
grid = np.stack(np.meshgrid(steps, steps[::-1]), -1).reshape(-1, 2)
images = maps["normal"].inverse_transform(grid).reshape(14, 14, 8, 8)
tiles = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 1, 3)
figure, axis = plt.subplots(figsize=(6, 6), layout="constrained")
axis.imshow(tiles.reshape(140, 140), cmap="gray_r")
axis.set(
    title="Mean ink over the map", xlabel="$z_1$", ylabel="$z_2$", xticks=[], yticks=[]
)
plt.show()
