"""How many components the Bayesian mixture finds, where rows are few and where they are many.

    python benchmarks/few_rows.py [--seeds 3]

For one Gaussian, for clusters whose centres are some standard deviations of a column apart, and for
real tables: components in use and bound, nats per row, by ten components and by fewer; log density
of rows left out, nats per row, by ten components and by scikit-learn's Bayesian mixture; and the
time of both. Real tables are standardised and divided into five folds.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.mixture import BayesianGaussianMixture
from sklearn.model_selection import KFold

from skemvae import VariationalEM
from skemvae.models import BayesianMixture

# Rows, columns, clusters, distance.
DRAWN = [
    (60, 20, 1, 0),
    (90, 30, 1, 0),
    (200, 30, 1, 0),
    (1000, 20, 1, 0),
    (500, 30, 3, 1),
    (500, 30, 3, 2),
    (500, 30, 3, 4),
    (20_000, 5, 4, 3),
]
REAL = [load_iris, load_wine, load_breast_cancer, load_diabetes]
FEWER = (1, 2, 3, 5)


def draw(n, d, n_clusters, distance, seed):
    """A table, and new rows of the same density."""
    rng = np.random.default_rng(seed)
    centres = distance * rng.standard_normal((n_clusters, d))
    rows = centres[rng.integers(n_clusters, size=n + 2000)] + rng.standard_normal((n + 2000, d))
    return np.split(rows, [n])


def tables(n_seeds):
    """Names, rows and rows left out."""
    for drawn in DRAWN:
        for seed in range(n_seeds):
            yield "x".join(map(str, drawn)), *draw(*drawn, seed)
    for load in REAL:
        X = load().data
        X = (X - X.mean(0)) / X.std(0)
        for rows, others in KFold(5, shuffle=True, random_state=0).split(X):
            yield load.__name__, X[rows], X[others]


def timed(estimator, X):
    """A fit, and its seconds of CPU."""
    start = time.process_time()
    estimator.fit(X)
    return estimator, time.process_time() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    n_seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore")
    names = ("ten", *(f"at most {k}" for k in FEWER))
    print(f"{'':20}", *(f"{name:>13}" for name in names), "      new  scikit     s  scikit")
    losses, last = {}, None
    for name, X, new in tables(n_seeds):
        cells, bounds = [], []
        for k in (10, *FEWER):
            em, seconds = timed(VariationalEM(BayesianMixture(k), random_state=0), X)
            cells.append(f"{em.model_.n_active_components_:3} {em.lower_bound_:9.3f}")
            bounds.append(em.lower_bound_)
            if k == 10:
                own, own_seconds = em.score(new), seconds
        peer = BayesianGaussianMixture(n_components=10, max_iter=1000, random_state=0)
        peer, seconds = timed(peer, X)
        print(f"{name if name != last else '':20}", *cells, end=" ")
        print(f"{own:9.2f} {peer.score(new):8.2f} {own_seconds:5.2f} {seconds:5.2f}", flush=True)
        # Three of ten components cost more than three of three, however many rows there are.
        losses[name] = max(losses.get(name, 0), max(bounds) - bounds[0] - 5 / len(X))
        last = name
    worst = max(losses, key=losses.get)
    print(f"ten below fewer, beyond 5 nats in total: {losses[worst]:.4f} nats per row", end="")
    print(f" ({worst})" if losses[worst] > 0 else "")


if __name__ == "__main__":
    main()
