"""Draw the pictures of the guide again: ``make pictures``.

Without arguments all of them, else those that are named, as in
``python docs/pictures/draw.py bounds``. Everything is computed here, from fixed seeds.
"""

import sys
import warnings
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from ellipses import colours, components, ellipse
from fitting import PICTURES as FITTING
from graphs import GRAPHS
from PIL import Image
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.datasets import load_wine
from sklearn.decomposition import FactorAnalysis
from sklearn.preprocessing import StandardScaler

from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM
from skemvae.models import FactorModel

FOLDER = Path(__file__).parent
STYLE = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "mathtext.fontset": "cm",
    "savefig.facecolor": "white",
}


def latent_variables():
    """Rows, what stands behind them, and where the prior looks for it."""
    rng = np.random.RandomState(3)
    figure, (seen, hidden, missed) = plt.subplots(1, 3, figsize=(9, 3.1))
    centres = np.repeat([[-1.0, 0.0], [2.2, 2.2], [4.4, -0.6]], 80, axis=0)
    X = centres + rng.normal(size=centres.shape) @ [[0.9, 0.3], [0.0, 0.6]]
    mixture = EMGaussianMixture(3, random_state=0).fit(X)
    seen.scatter(*X.T, s=12, color="0.4")
    seen.set_title("What we see: $x$")
    hidden.scatter(*X.T, s=12, c=mixture.predict_proba(X) @ colours(3))
    hidden.set_title(r"What stands behind it: $p(z \mid x)$")
    for ax in (seen, hidden):
        ax.set(xlabel="$x_1$", ylabel="$x_2$")

    W = np.array([[1.0, 0.4], [-0.5, 0.9], [0.8, 0.2]])
    x, noise = W @ [1.9, -1.3], 0.2
    covariance = np.linalg.inv(np.eye(2) + W.T @ W / noise**2)
    mean = covariance @ W.T @ x / noise**2
    missed.scatter(
        *rng.normal(size=(2, 400)), s=6, color="0.6", label="400 draws from $p(z)$"
    )
    for n_std in (1, 2, 3):
        ellipse(
            missed, mean, covariance, n_std, edgecolor="C3", facecolor="C3", alpha=0.25
        )
    missed.plot(
        [], [], "o", color="C3", alpha=0.5, label=r"the posterior $p(z \mid x)$"
    )
    missed.set(title="The prior misses the posterior", xlabel="$z_1$", ylabel="$z_2$")
    missed.set(xlim=(-3.6, 3.6), ylim=(-3.6, 5.2))
    missed.legend(loc="upper left", handletextpad=0.1, borderpad=0)
    return figure


def free_energy():
    """Both forms of F over the mean of q, for x | z ~ N(z, 1), z ~ N(0, 1), x = 2."""
    x, variance = 2.0, 0.5
    m = np.linspace(-0.8, 2.8, 200)
    log_p = norm.logpdf(x, scale=np.sqrt(2))
    reconstruction = norm.logpdf(x, m) - variance / 2
    price = 0.5 * (variance + m**2 - 1 - np.log(variance))
    bound = reconstruction - price
    figure, (first, second) = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    first.axhline(log_p, color="k", label=r"$\log p(x)$")
    first.plot(m, bound, "C0", label="$F(q)$")
    first.fill_between(m, bound, log_p, color="C0", alpha=0.15)
    first.annotate(
        r"$\mathrm{KL}(q \parallel p(z \mid x))$",
        (-0.3, -2.7),
        (0.1, -1.3),
        ha="center",
        arrowprops=ARROW,
    )
    first.plot(1, log_p, "ko")
    first.annotate(
        "$q$ is the posterior:\nthe bound touches",
        (1, log_p),
        (1, -3.5),
        ha="center",
        arrowprops=ARROW,
    )
    first.set(title="First form: the log density less a divergence", ylabel="nats")
    first.set_ylim(-5.9, 0.2)
    first.legend(loc="lower center", ncols=2)
    second.plot(m, reconstruction, "C2--", label=r"$\mathbb{E}_q[\log p(x \mid z)]$")
    second.plot(m, -price, "C1-.", label=r"$-\mathrm{KL}(q \parallel p(z))$")
    second.plot(m, bound, "C0", label="their sum, $F(q)$")
    second.plot(1, log_p, "ko")
    second.set_title("Second form: reconstruction less a price")
    second.legend(loc="lower center")
    for ax in (first, second):
        ax.set_xlabel("mean of $q$")
    return figure


ARROW = {"arrowstyle": "->", "color": "0.3"}


def why_em_climbs():
    """The log likelihood over a mean of a mixture, and the bounds of three E steps."""
    rng = np.random.RandomState(1)
    x = np.concatenate([rng.normal(0, 2, 50), rng.normal(4, 1.2, 50)])[:, None]
    theta = np.linspace(-1.6, 6.4, 400)

    def log_joint(mean):
        return np.log([0.5, 0.5]) + norm.logpdf(x, np.array([0.0, mean]), [2.0, 1.2])

    def log_likelihood(mean):
        return logsumexp(log_joint(mean), axis=1).mean()

    figure, ax = plt.subplots(figsize=(8, 4))
    ax.plot(
        theta, [log_likelihood(t) for t in theta], "k", label=r"$\log p_\theta(X) / n$"
    )
    start = t = 1.0
    for step in range(3):
        r = np.exp(log_joint(t) - logsumexp(log_joint(t), axis=1, keepdims=True))
        entropy = -(r * np.log(r)).sum(1).mean()
        bound = np.array([(r * log_joint(s)).sum(1).mean() for s in theta]) + entropy
        ax.plot(theta, bound, color=f"C{step}", label=rf"$F(q_{step + 1}, \theta)$")
        new = (r[:, 1] @ x[:, 0]) / r[:, 1].sum()
        top = bound[np.abs(theta - new).argmin()]
        ax.plot([new, new], [top, log_likelihood(new)], color=f"C{step}", linestyle=":")
        ax.plot(
            new,
            top,
            "o",
            color=f"C{step}",
            markerfacecolor="white",
            markersize=6,
            zorder=4,
        )
        ax.plot(t, log_likelihood(t), "ko", markersize=5, zorder=5)
        ax.plot(
            [t, t], [-3.65, log_likelihood(t)], color="0.75", linewidth=0.8, zorder=0
        )
        ax.annotate(rf"$\theta_{step}$", (t, -3.75), ha="center", fontsize=13)
        if step == 0:
            ax.annotate(
                "M step: its maximum", (new, top), (-1.5, -2.65), arrowprops=ARROW
            )
        t = new
    touch = (start, log_likelihood(start))
    ax.annotate("E step: the bound touches", touch, (-1.95, -2.95), arrowprops=ARROW)
    ax.set(
        ylim=(-3.8, -2.1),
        xlabel=r"$\theta$: the mean of one component",
        ylabel="nats per row",
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def gradients():
    """Standard deviations of five estimators on the way of q to the posterior."""
    rng = np.random.RandomState(0)
    x, noise = 2.0, rng.normal(size=(50_000, 4))
    way = np.linspace(0, 1, 41)
    errors = {}
    for t in way:
        m, s = t, 1 - t * (1 - np.sqrt(0.5))
        z = m + s * noise
        g = (
            -0.5 * (x - z) ** 2
            - 0.5 * z**2
            + 0.5 * noise**2
            + np.log(s)
            - 0.5 * np.log(2 * np.pi)
        )
        slope, score = (x - z) - z, noise / s
        others = (g.sum(1, keepdims=True) - g) / 3
        for name, estimate in {
            "score function": g * score,
            "score function with a baseline": (g - others) * score,
            "reparameterised": slope,
            "reparameterised, KL exact": (x - z) - m,
            "along the path only": slope + noise / s,
        }.items():
            errors.setdefault(name, []).append(estimate.mean(1).std())
    figure, ax = plt.subplots(figsize=(8, 3.6))
    for (name, error), style in zip(
        errors.items(), ("-", "--", "-", "-.", "-"), strict=True
    ):
        ax.plot(way, error, style, label=name)
    ax.set(ylim=(0, 3), ylabel="standard deviation of the gradient")
    ax.set_xticks([0, 0.5, 1], ["$q$ is the prior", "half-way", "$q$ is the posterior"])
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def em_and_vae():
    """The climbs of EM and of a VAE to the same optimum."""
    X = StandardScaler().fit_transform(load_wine().data)
    top = FactorAnalysis(2, tol=1e-8, max_iter=5000).fit(X).score(X)
    em = VariationalEM(FactorModel(2), tol=1e-6, random_state=0).fit(X)
    vae = VAEEstimator(
        2,
        hidden_layer_sizes=(),
        early_stopping=False,
        kl_warmup=0,
        learning_rate_init=0.02,
        learning_rate="constant",
        n_iter_no_change=150,
        max_iter=200,
        random_state=0,
    ).fit(X)
    figure, ax = plt.subplots(figsize=(8, 3.4))
    ax.axhline(top, color="k", linewidth=0.8, label="the maximum of the likelihood")
    ax.plot(
        vae.lower_bounds_,
        "C1",
        linewidth=1,
        label="VAE, linear: mean bound of an epoch",
    )
    ax.plot(em.lower_bounds_, "C0", marker=".", label="EM: bound after an iteration")
    ax.set(xscale="symlog", xlim=(0, 200), ylim=(top - 2.2, top + 0.25))
    ax.set_xticks([0, 1, 3, 10, 30, 100], [0, 1, 3, 10, 30, 100])
    ax.set(xlabel="iteration or epoch", ylabel="nats per row")
    ax.legend(loc="lower left", bbox_to_anchor=(0.1, 0.02))
    return figure


def bounds():
    """The mean of the estimated log density over the number of points, and the ELBO."""
    rng = np.random.RandomState(0)
    x, noise, k = 1.0, 0.5, 5
    log_p = k * norm.logpdf(x, scale=np.sqrt(1 + noise**2))
    mean, variance = x / (1 + noise**2), noise**2 / (1 + noise**2)
    points = 2 ** np.arange(3, 12)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True)
    for ax, scale in zip(axes, (1.4, 1.0), strict=True):
        s = scale * np.sqrt(variance)
        kl = k * (0.5 * (scale**2 - 1) - np.log(scale))
        spread = []
        for n in points:
            n_prior = n // 8
            z = rng.normal(size=(1000, n, k))
            z[:, n_prior:] = mean + s * z[:, n_prior:]
            log_q, log_prior = norm.logpdf(z, mean, s).sum(-1), norm.logpdf(z).sum(-1)
            log_r = np.logaddexp(log_q + np.log(7 / 8), log_prior + np.log(1 / 8))
            log_w = norm.logpdf(x, z, noise).sum(-1) + log_prior - log_r
            spread.append(logsumexp(log_w, axis=1) - np.log(n))
        low, middle, high = np.transpose(
            [
                (*np.quantile(s, [0.05]), s.mean(), *np.quantile(s, [0.95]))
                for s in spread
            ]
        )
        ax.fill_between(
            points, low, high, color="C0", alpha=0.2, label="nine estimates of ten"
        )
        ax.plot(points, middle, "C0o-", markersize=4, label="mean of the estimates")
        ax.axhline(log_p, color="k", label=r"$\log p(x)$")
        ax.axhline(log_p - kl, color="C3", linestyle="--", label="ELBO")
        ax.set(xscale="log", xlabel="points")
        ax.set_xticks([10, 100, 1000], ["10", "100", "1000"])
    axes[0].set(title="$q$ is wider than the posterior", ylabel="nats")
    axes[1].set_title("$q$ is the posterior: the ELBO is exact")
    axes[1].legend(loc="lower right")
    return figure


def segments(n, seed):
    """Four segments of skewed amounts: the table of the page."""
    rng = np.random.RandomState(seed)
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    return np.concatenate(
        [6 * c + (2 * c - 1) * rng.gamma(2, 0.7, (n, 2)) for c in corners]
    )


def choosing():
    """Four skewed segments: what ICL and what BIC choose, and both criteria over K."""
    X = segments(1000, 0)
    ks = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)
    mixtures = {k: EMGaussianMixture(k, random_state=0).fit(X) for k in ks}
    bic, icl = (
        np.array([getattr(m, name)(X) for m in mixtures.values()])
        for name in ("bic", "icl")
    )
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9, 3.2))
    for ax, k, title in (
        (left, 4, "ICL: 4 components"),
        (middle, 12, "BIC: 12, or more"),
    ):
        components(ax, mixtures[k], X)
        ax.set_title(title)
        ax.axis("off")
    for values, name in ((icl, "ICL"), (bic, "BIC")):
        right.plot(ks, values / len(X), ".-", label=name)
        right.plot(ks[values.argmin()], values.min() / len(X), "ko", mfc="none", ms=9)
    right.set(xlabel="components", ylabel="per row; lower is better", ylim=(7.85, 9.4))
    right.legend(loc="center right")
    return figure


def mixtures():
    """One table by four covariance structures."""
    rng = np.random.RandomState(0)
    shapes = ([[1, 0.9], [0.9, 1]], [[0.2, 0], [0, 2]], [[0.3, -0.2], [-0.2, 0.6]])
    centres = ([0, 0], [3.5, 0.5], [1.5, 4.2])
    X = np.concatenate(
        [
            rng.multivariate_normal(m, S, 150)
            for m, S in zip(centres, shapes, strict=True)
        ]
    )
    figure, axes = plt.subplots(1, 4, figsize=(9, 2.9), sharex=True, sharey=True)
    for ax, structure in zip(axes, ("full", "tied", "diag", "spherical"), strict=True):
        mixture = EMGaussianMixture(3, covariance_type=structure, random_state=0).fit(X)
        components(ax, mixture, X)
        ax.set_title(f'"{structure}": {mixture.score(X):.2f} nats')
        ax.set_aspect("equal")
        ax.axis("off")
    return figure


PICTURES = {
    "latent_variables": latent_variables,
    "free_energy": free_energy,
    "why_em_climbs": why_em_climbs,
    "gradients": gradients,
    "em_and_vae": em_and_vae,
    "bounds": bounds,
    "choosing": choosing,
    "mixtures": mixtures,
    **FITTING,
} | {name: graph.draw for name, graph in GRAPHS.items()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # fits that are stopped where the picture ends
    mpl.use("Agg")
    for name in sys.argv[1:] or PICTURES:
        with plt.rc_context(STYLE):
            pixels = BytesIO()
            PICTURES[name]().savefig(pixels, dpi=110)
            plt.close("all")
        path = FOLDER / f"{name}.png"
        Image.open(pixels).convert("RGB").quantize(256).save(path, optimize=True)
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB")
