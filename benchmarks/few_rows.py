"""The Bayesian mixture where rows are few for each column.

    python benchmarks/few_rows.py [--seeds 3]

For one Gaussian, and for clusters whose centres are some standard deviations of a column apart:
the components in use, the bound, and the log density of new rows, nats per row. By the default
prior with ten components and with fewer; by one as wide as the table; and with "diag".
"""

import argparse
import warnings

import numpy as np

from skemvae import VariationalEM
from skemvae.models import BayesianMixture

# Rows, columns, clusters, distance.
TABLES = [
    (60, 20, 1, 0),
    (200, 30, 1, 0),
    (1000, 20, 1, 0),
    (500, 30, 3, 1),
    (500, 30, 3, 2),
    (500, 30, 3, 4),
]
FEWER = (1, 2, 3)


def draw(n, d, n_clusters, distance, seed):
    """A table, and new rows of the same density."""
    rng = np.random.default_rng(seed)
    centres = distance * rng.standard_normal((n_clusters, d))
    rows = centres[rng.integers(n_clusters, size=n + 2000)] + rng.standard_normal((n + 2000, d))
    return np.split(rows, [n])


def line(model, X, new):
    """What a fit comes to."""
    em = VariationalEM(model, random_state=0).fit(X)
    return f"{em.model_.n_active_components_:5} {em.lower_bound_:8.2f} {em.score(new):8.2f}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    n_seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore")
    print("components in use, bound, log density of new rows")
    names = ("default", *(f"at most {k}" for k in FEWER), "wide prior", "diag")
    print(" " * 22, *(f"{name:>23}" for name in names))
    for table in TABLES:
        for seed in range(n_seeds):
            X, new = draw(*table, seed)
            models = [BayesianMixture(k) for k in (10, *FEWER)]
            models.append(BayesianMixture(10, covariance_prior=table[1] * np.cov(X.T)))
            models.append(BayesianMixture(10, "diag"))
            print(f"{table!s:18} {seed:3}", *(line(model, X, new) for model in models), flush=True)


if __name__ == "__main__":
    main()
