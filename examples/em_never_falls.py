r"""
Why EM never falls
==================

EM maximises a lower bound that touches the log likelihood at the current parameters.
One parameter is enough to see this: the mean of one of two components, for the sepal
lengths of 150 irises. The last picture shows what happens if the regularisation is not
part of what EM maximises.

The free energy :math:`F(q, \theta)` lies below :math:`\log p(X)` for every :math:`q`,
and touches it where :math:`q` is the posterior at the current :math:`\theta`. A step
that raises :math:`F` from there cannot lower :math:`\log p(X)`.
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
# is the curve that we want to climb. ``from_parameters`` makes the mixture at each
# :math:`\theta`, and ``score`` is its mean log density.

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
# Each E step sets :math:`q` to the posterior at the current :math:`\theta`, so that
# :math:`F` touches the curve there. Each M step goes to the maximum of :math:`F`, which
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
# Each bound touches the curve from below, and the next one begins at its maximum.

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
# ``lower_bounds_`` holds the bound after each iteration. If the covariance is
# regularised, EM must climb the regularised objective. skemvae includes the
# regularisation in both steps, so the objective rises. scikit-learn only adds it to the
# covariances after the M step. Then the bound can fall, and here it does.

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
