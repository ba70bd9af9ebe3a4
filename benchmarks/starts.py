"""How often default starts reach the known optimum, beside scikit-learn's k-means start.

    python benchmarks/starts.py [--seeds 30] [--init-params kmeans]

Total log likelihoods in nats, ``tol=1e-6, max_iter=1000``; a fit counts as a hit
within 0.5 nats of the optimum. The cigars are two parallel clusters of 2,000
rows, 50 times as long as wide; a hit there has an adjusted Rand index above 0.95.
Old Faithful is read from the folder in ``SKEMVAE_DATA``, if that is set.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from skemvae import EMGaussianMixture

PARAMETERS = {"tol": 1e-6, "max_iter": 1000}


def cigars(seed):
    """Two elongated clusters at a random angle, and the labels of their rows."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((4000, 2)) * [50, 1]
    X[2000:] += [20, 6]
    angle = rng.uniform(0, np.pi)
    rotation = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return X @ rotation, np.repeat([0, 1], 2000)


def report(name, seeds, hit):
    """Print hits and time for each estimator; ``hit(cls, seed)`` fits one."""
    line = f"{name:<22}"
    for cls in (EMGaussianMixture, GaussianMixture):
        begin = time.perf_counter()
        hits = sum(hit(cls, seed) for seed in range(seeds))
        seconds = (time.perf_counter() - begin) / seeds
        line += f" | {hits:>3} of {seeds:<3} {seconds:>7.3f}s"
    print(line, flush=True)


def reaches(X, k, structure, optimum):
    """Whether a fit comes within 0.5 nats of the optimum."""

    def hit(cls, seed):
        mixture = cls(k, covariance_type=structure, random_state=seed, **PARAMETERS)
        return abs(mixture.fit(X).score(X) * len(X) - optimum) < 0.5

    return hit


def separates_cigars(cls, seed):
    """Whether one fit with default parameters finds the two clusters."""
    X, labels = cigars(seed)
    return adjusted_rand_score(labels, cls(2, random_state=seed).fit_predict(X)) > 0.95


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--init-params", help="the same start for both, instead of the defaults")
    arguments = parser.parse_args()
    seeds = arguments.seeds
    if arguments.init_params:
        PARAMETERS["init_params"] = arguments.init_params
    print(f"{'':<22} | {'skemvae':^19} | {'scikit-learn':^19}")
    iris = load_iris().data
    report("Iris, 3 full", seeds, reaches(iris, 3, "full", -180.185))
    report("Iris, 2 full", seeds, reaches(iris, 2, "full", -214.355))
    if "SKEMVAE_DATA" in os.environ:
        path = Path(os.environ["SKEMVAE_DATA"]) / "classic" / "faithful.csv"
        faithful = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(-2, -1))
        report("Old Faithful, 2 full", seeds, reaches(faithful, 2, "full", -1130.264))
        report("Old Faithful, 3 tied", seeds, reaches(faithful, 3, "tied", -1126.316))
    report("cigars, 2 full", seeds, separates_cigars)


if __name__ == "__main__":
    main()
