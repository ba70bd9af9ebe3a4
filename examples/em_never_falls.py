r"""
Why EM never falls
==================

EM climbs a bound that touches what it wants to climb. One parameter is enough to see
it: the mean of one of two components, for the sepal lengths of 150 irises. The last
picture shows what happens where the regularisation is no part of what is climbed.

The free energy :math:`F(q, \theta)` lies below :math:`\log p(X)` for every :math:`q`,
and touches it where :math:`q` is the posterior at the present :math:`\theta`. Whoever
climbs :math:`F` from there cannot fall.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skemvae import EMGaussianMixture

iris = load_iris().data
X = iris[:, [0]]

# %%
# Two components, all but one mean fixed
# --------------------------------------
#
# :math:`\theta` is the mean of the second component, and :math:`\log p(X \mid \theta)`
# the curve that we want to climb; ``from_parameters`` makes the mixture at each
# :math:`\theta`, and ``score`` its mean log density.

WEIGHTS, VARIANCES = [0.4, 0.6], [[[0.15]], [[0.3]]]


def mixture_at(theta):
    """The mixture with means 5 and theta."""
    return EMGaussianMixture.from_parameters(WEIGHTS, [[5.0], [theta]], VARIANCES)


def free_energy(q, theta):
    """E_q[log p(x, z | theta)] + H[q], the mean over rows, for responsibilities q."""
    mixture = mixture_at(theta)
    log_posterior = np.log(mixture.predict_proba(X) + 1e-300)
    log_joint = mixture.score_samples(X)[:, None] + log_posterior
    return np.sum(q * (log_joint - np.log(q + 1e-300)), axis=1).mean()


# %%
# Each E step takes the posterior at the present :math:`\theta` as :math:`q`, which
# makes :math:`F` touch the curve there; each M step goes to the top of :math:`F`, which
# is the mean of the rows weighted by :math:`q`.

theta = 8.0
climbed = []
for _ in range(4):
    q = mixture_at(theta).predict_proba(X)
    better = float(q[:, 1] @ X[:, 0] / q[:, 1].sum())
    climbed.append((theta, better, q))
    print(f"theta {theta:.3f}: log p(X) = F = {mixture_at(theta).score(X):.4f}")
    print(f"  top of F: {free_energy(q, better):.4f} at {better:.3f}", end=", ")
    print(f"where log p(X) = {mixture_at(better).score(X):.4f}")
    theta = better

# %%
# The picture: each bound touches the curve from below, and its top is where the next
# one begins.

grid = np.linspace(5.4, 8.2, 150)
figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
axis.plot(
    grid, [mixture_at(t).score(X) for t in grid], "k", lw=2, label="log p(X | θ) / n"
)
for i, (begin, end, q) in enumerate(climbed[:3]):
    axis.plot(
        grid,
        [free_energy(q, t) for t in grid],
        color=f"C{i}",
        label=f"F, q of step {i + 1}",
    )
    axis.plot(begin, mixture_at(begin).score(X), "o", color=f"C{i}")
    axis.annotate(
        "",
        xy=(end, free_energy(q, end)),
        xytext=(begin, mixture_at(begin).score(X)),
        arrowprops={"arrowstyle": "->", "color": f"C{i}"},
    )
axis.set(
    xlabel="θ, the mean of the second component",
    ylabel="nats per sample",
    ylim=(-3.2, -1),
    title="Three bounds, each of which touches the log density",
)
axis.legend()

# %%
# The whole climb, and one that falls
# -----------------------------------
#
# ``lower_bounds_`` holds the bound after each iteration. With a regularised covariance
# it is the regularised objective that must be climbed: skemvae has the regularisation
# in both steps, so that the objective rises. Where it is only added to the covariances
# after the M step, as in scikit-learn, the bound can fall, and does.

ours = EMGaussianMixture(5, reg_covar=0.1, init_params="kmeans", random_state=0)
theirs = GaussianMixture(5, reg_covar=0.1, random_state=0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0 asks for all iterations
    climbs = {
        "skemvae": ours.set_params(tol=0, max_iter=60).fit(iris).lower_bounds_[1:],
        "scikit-learn": theirs.set_params(tol=0, max_iter=60).fit(iris).lower_bounds_,
    }
for name, climb in climbs.items():
    print(f"{name:<13} smallest step of the bound {np.diff(climb).min():+.1e}")

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for axis, (name, climb) in zip(axes, climbs.items(), strict=True):
    gains, iteration = np.diff(climb), np.arange(2, len(climb) + 1)
    for sign, word, colour in ((1, "rises", "C0"), (-1, "falls", "C3")):
        chosen = sign * gains > 0
        if chosen.any():
            steps = sign * gains[chosen]
            axis.bar(iteration[chosen], steps, color=colour, label=f"the bound {word}")
    axis.set(
        yscale="log", xlabel="iteration", ylabel="step of the bound, nats", title=name
    )
    axis.legend()
plt.show()
