"""Draw the picture of the front page again: ``python docs/pictures/front.py``."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from skemvae import EMGaussianMixture

rng = np.random.RandomState(3)
centres = np.repeat([[-1.0, 0.0], [2.2, 2.6], [4.4, -0.6]], 80, axis=0)
X = centres + rng.normal(size=centres.shape) @ [[0.9, 0.3], [0.0, 0.6]]
mixture = EMGaussianMixture(3, random_state=0).fit(X)
odd = np.array([[-2.2, 3.2], [6.2, 2.8], [1.2, -2.4]])

mpl.use("Agg")
figure, axes = plt.subplots(
    1, 4, figsize=(11, 2.9), sharex=True, sharey=True, layout="constrained"
)
density, groups, anomalies, samples = axes

x, y = np.meshgrid(np.linspace(-5, 8, 150), np.linspace(-4.5, 5.5, 150))
log_density = mixture.score_samples(np.c_[x.ravel(), y.ravel()]).reshape(x.shape)
levels = np.arange(-13, 0)
density.contourf(x, y, log_density, levels, cmap="Blues", extend="max")
density.scatter(*X.T, s=4, color="k")
density.set_title("How probable is a row?\nscore_samples", fontsize=11)

colours = np.array(["C0", "C1", "C2"])
groups.scatter(*X.T, s=8, c=colours[mixture.predict(X)])
groups.set_title("Which rows belong together?\npredict", fontsize=11)

anomalies.scatter(*X.T, s=8, color="0.7")
anomalies.scatter(*odd.T, s=60, color="C3", marker="x", linewidth=2.5)
for row, score in zip(odd, mixture.score_samples(odd), strict=True):
    anomalies.text(*row - [0, 1.2], f"{score:.0f} nats", color="C3", ha="center")
anomalies.set_title("Which are anomalous?\nDensityOutlierDetector", fontsize=11)

samples.scatter(*mixture.sample(240, random_state=0)[0].T, s=8, color="C4")
samples.set_title("What would new rows look like?\nsample", fontsize=11)

for ax in axes:
    ax.set(xticks=[], yticks=[], xlim=(-5, 8), ylim=(-4.5, 5.5))
figure.savefig(Path(__file__).with_name("front.png"), dpi=100, facecolor="white")
