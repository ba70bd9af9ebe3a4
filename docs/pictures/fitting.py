"""The choices of a fit: each failure beside its remedy, on the tables of the page."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from ellipses import components
from scipy.stats import norm
from sklearn.datasets import load_iris

from skemvae import EMGaussianMixture


def stripes():
    """Two long clusters beside each other, along the diagonal."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2)) * [8, 0.5]
    X[200:, 1] += 4
    return X @ [[1, 1], [-1, 1]]


def start():
    """From k-means, and from the tournament."""
    X = stripes()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True, sharey=True)
    names = {"kmeans": "k-means", "auto": "the tournament"}
    for ax, (init_params, name) in zip(axes, names.items(), strict=True):
        mixture = EMGaussianMixture(2, init_params=init_params, random_state=0).fit(X)
        components(ax, mixture, X)
        ax.set_title(f"From {name}: {mixture.score(X):.2f} nats per row")
        ax.axis("off")
    return figure


def overlap():
    """Three groups in two columns."""
    rng = np.random.default_rng(1)
    centres = np.repeat([[0, 0], [2, 2], [4, 0]], 300, axis=0)
    return rng.normal(size=(900, 2)) + centres


def stop():
    """The climb of plain EM, and where each rule stops."""
    X, tol = overlap(), 1e-3
    plain = {
        "acceleration": None,
        "init_params": "random_from_data",
        "max_iter": 3000,
        "random_state": 0,
    }
    climb = EMGaussianMixture(3, tol=1e-8, **plain).fit(X).lower_bounds_
    small = int(np.argmax(np.diff(climb) < tol)) + 1
    aitken = EMGaussianMixture(3, tol=tol, **plain).fit(X).n_iter_
    figure, ax = plt.subplots(figsize=(9, 3.4))
    ax.axhline(climb[-1], color="k", linewidth=0.8, linestyle=":")
    ax.plot(climb[:101], "0.4")
    for n, colour, name in (
        (small, "C3", "the last gain is below tol"),
        (aitken, "C0", "what remains is below tol"),
    ):
        ax.plot(n, climb[n], "o", color=colour)
        ax.annotate(
            f"{name}\nat iteration {n}, with\n{climb[-1] - climb[n]:.4f} nats to come",
            (n, climb[n]),
            (14, -20),
            textcoords="offset points",
            va="top",
            color=colour,
        )
    ax.set(xlabel="iteration", ylabel="nats per row")
    ax.set_ylim(climb[-1] - 0.06, climb[-1] + 0.004)
    return figure


def codes():
    """Two groups, and a code for what is missing."""
    rng = np.random.default_rng(0)
    groups = [rng.normal(0, 1, 500), rng.normal(8, 1, 500)]
    return np.concatenate([*groups, np.full(50, -9999.0)])[:, None]


def ridge():
    """The two groups, by a ridge that the code widens and by one that it does not."""
    x = codes()
    gaps = np.diff(np.unique(x))
    too_much = 1e-6 * x.var() / (len(gaps) * np.median(gaps) / 2.6) ** 2
    grid = np.linspace(-8, 16, 400)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharex=True, sharey=True)
    for ax, reg_covar, name in (
        (axes[0], too_much, "Ridge: a millionth of the variance"),
        (axes[1], 1e-6, "Ridge: a millionth of the squared grain"),
    ):
        mixture = EMGaussianMixture(3, reg_covar=reg_covar, random_state=0).fit(x)
        ax.hist(x[x[:, 0] > -100], 60, density=True, color="0.85")
        # The density of the rows that are not the code.
        near = mixture.means_[:, 0] > -100
        parts = mixture.weights_[near] * norm.pdf(
            grid[:, None],
            mixture.means_[near, 0],
            np.sqrt(mixture.covariances_[near, 0, 0]),
        )
        ax.plot(grid, parts.sum(1) / mixture.weights_[near].sum(), "C0", linewidth=2)
        ax.set(title=name, xlabel="$x$")
        ax.set_yticks([])
    return figure


def spike():
    """Iris with a component on two equal flowers, and by the default."""
    X = load_iris().data
    two = EMGaussianMixture(2, random_state=0).fit(X)
    narrow = EMGaussianMixture(
        3,
        weights_init=[*0.99 * two.weights_, 0.01],
        means_init=[*two.means_, X[101]],
        precisions_init=[*two.precisions_, 1000 * np.eye(4)],
    )
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True, sharey=True)
    names = {"A spike": narrow, "The default": EMGaussianMixture(3, random_state=0)}
    columns = [0, 2]
    for ax, (name, mixture) in zip(axes, names.items(), strict=True):
        score = mixture.fit(X).score(X)
        components(ax, mixture.marginal(columns), X[:, columns])
        ax.set_title(f"{name}: log likelihood {len(X) * score:.1f}")
        ax.set_xlabel("sepal length (cm)")
    axes[0].plot(*X[101, columns], "o", color="C2", markersize=6)
    axes[0].annotate(
        "two equal flowers",
        X[101, columns],
        (4.3, 6),
        arrowprops={"arrowstyle": "->", "color": "0.3"},
    )
    axes[0].set_ylabel("petal length (cm)")
    return figure


def moved():
    """Two groups, and the same a hundred further."""
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 300, 1))
    groups = np.repeat([[8], [0]], 150, axis=0)
    return before + groups, after + groups + 100


def dead():
    """A warm start on rows that have moved: a dead component, and the same revived."""
    before, after = moved()
    grid = np.linspace(-10, 120, 1300)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharex=True, sharey=True)
    names = {
        1: "One iteration: a component holds no rows",
        100: "The end: it has been revived",
    }
    for ax, (max_iter, name) in zip(axes, names.items(), strict=True):
        mixture = EMGaussianMixture(2, warm_start=True, random_state=0).fit(before)
        ax.hist(before, 24, density=True, color="0.93")
        ax.hist(after, 24, density=True, color="0.8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            mixture.set_params(max_iter=max_iter).fit(after)
        for k in range(2):
            scale = np.sqrt(mixture.covariances_[k, 0, 0])
            part = mixture.weights_[k] * norm.pdf(grid, mixture.means_[k, 0], scale)
            ax.plot(grid, part, f"C{k}", linewidth=2)
        ax.set(title=name, xlabel="$x$")
        ax.set_ylim(0, 0.32)
        ax.set_yticks([])
        ax.text(4, 0.29, "first fit", ha="center", color="0.5")
        ax.text(104, 0.29, "second fit", ha="center", color="0.3")
    return figure


PICTURES = {
    "fitting_start": start,
    "fitting_stop": stop,
    "fitting_ridge": ridge,
    "fitting_spike": spike,
    "fitting_dead": dead,
}
