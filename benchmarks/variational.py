"""Variational EM against its peers in the same run.

    python benchmarks/variational.py [--repeats 5] [--only mixture factors]

``mixture``: the Bayesian mixture and scikit-learn's, interleaved; both are started once, then go
on (``warm_start``) for the same number of iterations; medians and their ratios. ``whole`` is the
ratio of whole fits, each with its own start: ours is a tournament, scikit-learn's one k-means.
``factors``: logistic and Poisson factor models on 20,000 x 50 tables, to convergence; held-out
nats beside those of independent columns, and of a VAE with linear maps, on the same split.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
import warnings

import numpy as np
import sklearn
from scipy.special import expit
from scipy.stats import poisson
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture

import skemvae
from skemvae import VAEEstimator, VariationalEM
from skemvae.models import BayesianMixture, FactorModel

GRID = [(20_000, 8, 10), (50_000, 20, 10), (20_000, 100, 10)]
N_ITER = 10
N_FACTORS = 5


def timed(function, *arguments):
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


def mixtures(repeats):
    header = (
        f"{'n':>7} {'d':>4} {'K':>3} {'structure':>9} | {'skemvae':>9} {'sklearn':>9} {'ratio':>6}"
    )
    print(f"\nBayesian mixture, {N_ITER} iterations\n{header} | {'whole':>6}")
    ratios = []
    for n, d, k in GRID:
        rng = np.random.default_rng(0)
        X = 2 * rng.standard_normal((k, d))[rng.integers(k, size=n)] + rng.standard_normal((n, d))
        for structure in ("full", "diag"):
            ours = VariationalEM(
                BayesianMixture(k, structure, "dirichlet_process"),
                max_iter=N_ITER,
                tol=0,
                acceleration=None,
                random_state=0,
            )
            theirs = BayesianGaussianMixture(
                n_components=k, covariance_type=structure, max_iter=N_ITER, tol=0, random_state=0
            )
            whole = timed(theirs.fit, X) / timed(ours.fit, X)
            for estimator in (ours, theirs):
                estimator.set_params(warm_start=True)
            times = np.array(
                [
                    [timed(copy.deepcopy(estimator).fit, X) for estimator in (ours, theirs)]
                    for _ in range(repeats)
                ]
            )
            ratio = np.median(times[:, 1] / times[:, 0])
            ratios.append(ratio)
            print(
                f"{n:>7} {d:>4} {k:>3} {structure:>9} | {np.median(times[:, 0]):>8.3f}s "
                f"{np.median(times[:, 1]):>8.3f}s {ratio:>6.2f} | {whole:>6.2f}",
                flush=True,
            )
    mean = np.exp(np.mean(np.log(ratios)))
    print(f"geometric mean of the ratios {mean:.2f}, smallest {min(ratios):.2f}")


def tables(rng, n=20_000, d=50):
    """Binary and count tables with linear factors behind them."""
    Z, W = rng.standard_normal((n, N_FACTORS)), rng.standard_normal((d, N_FACTORS))
    linear = Z @ W.T
    yield "bernoulli", (rng.random((n, d)) < expit(0.7 * linear + rng.standard_normal(d)))
    yield "poisson", rng.poisson(np.exp(0.3 * linear + 0.5))


def independent(likelihood, train, test):
    """Held-out nats of independent columns."""
    mean = (train.sum(0) + 0.5) / (len(train) + 1)
    if likelihood == "poisson":
        return poisson.logpmf(test, mean).sum(1).mean()
    return (test * np.log(mean) + (1 - test) * np.log1p(-mean)).sum(1).mean()


def factors():
    header = f"{'likelihood':>11} | {'factors':>8} {'iterations':>10} {'VAE':>8}"
    print(
        f"\nFactor models, 16,000 x 50, {N_FACTORS} factors: seconds, then held-out nats of 4,000"
    )
    print(f"{header} | {'factors':>9} {'ELBO':>9} {'VAE':>9} {'ELBO':>9} {'columns':>9}")
    for likelihood, X in tables(np.random.default_rng(0)):
        X = X.astype(float)
        train, test = X[:16_000], X[16_000:]
        model = VariationalEM(FactorModel(N_FACTORS, likelihood), random_state=0)
        vae = VAEEstimator(N_FACTORS, hidden_layer_sizes=(), likelihood=likelihood, random_state=0)
        times = [timed(estimator.fit, train) for estimator in (model, vae)]
        nats = [f(test).mean() for e in (model, vae) for f in (e.score_samples, e.elbo)]
        print(
            f"{likelihood:>11} | {times[0]:>7.1f}s {model.n_iter_:>10} {times[1]:>7.1f}s | "
            + " ".join(f"{value:>9.3f}" for value in nats)
            + f" {independent(likelihood, train, test):>9.3f}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=["mixture", "factors"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(
        f"skemvae {skemvae.__version__}, scikit-learn {sklearn.__version__}, {os.cpu_count()} cores"
    )
    if not arguments.only or "mixture" in arguments.only:
        mixtures(arguments.repeats)
    if not arguments.only or "factors" in arguments.only:
        factors()


if __name__ == "__main__":
    main()
