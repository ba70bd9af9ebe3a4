"""How good the starts of a tournament are, beside those of another version.

    python benchmarks/tournament.py bounds.npz [--seeds 40]
    python benchmarks/tournament.py bounds.npz --against earlier.npz

The first command fits tables that come with scikit-learn, those of ADBench in the folder that
``SKEMVAE_DATA`` names, and synthetic ones whose clusters overlap, are elongated or stand apart,
with three structures and several K, and writes the final bounds of all seeds. The second one lists
the settings in which two such files differ by more than two standard errors, and counts them.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from defaults import tables
from sklearn.exceptions import ConvergenceWarning
from starts import overlapping

from skemvae import EMGaussianMixture

PARAMETERS = {"tol": 1e-4, "max_iter": 300, "reg_covar": 1e-4}
MOST_ROWS = 4000
LEAST = 1e-3  # nats: smaller differences are not counted


def clusters(n, d, k, seed, is_elongated):
    """Clusters of any shape whose means are far from each other, or round ones."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    X = rng.standard_normal((n, d))
    for own in range(k):
        where = labels == own
        if is_elongated:
            X[where] @= rng.standard_normal((d, d)) * np.exp(rng.standard_normal(d))
        X[where] += 6 * rng.standard_normal(d)
    return X


def problems():
    """Names, rows and numbers of components."""
    rng = np.random.default_rng(0)
    for name, X in tables():
        yield name, X[rng.permutation(len(X))[:MOST_ROWS]], (3, 8)
    for n, d, k in ((1_000, 4, 3), (20_000, 8, 10), (10_000, 2, 20), (10_000, 20, 10)):
        yield f"overlapping {d}", overlapping(n, d, k, 0), (3, 8, 20)
    for n, d, k in ((2_000, 3, 6), (6_000, 8, 8), (20_000, 2, 10), (3_000, 5, 20)):
        yield f"elongated {d}", clusters(n, d, k, 0, True), (3, k, 20)
        yield f"apart {d}", clusters(n, d, k, 1, False), (3, k, 20)


def write(path, n_seeds):
    """Fit all, and write the bounds."""
    bounds = {}
    for name, X, sizes in problems():
        for structure in ("full", "tied", "diag"):
            for k in sorted(set(sizes)):
                if structure == "full" and len(X) < 2 * k * (X.shape[1] + 1):
                    continue
                bounds[f"{name}, {structure}, {k}"] = [
                    EMGaussianMixture(k, covariance_type=structure, random_state=seed, **PARAMETERS)
                    .fit(X)
                    .lower_bound_
                    for seed in range(n_seeds)
                ]
        print(name, flush=True)
        np.savez(path, **bounds)


def compare(path, other_path):
    """Print the settings that differ."""
    bounds, earlier = np.load(path), np.load(other_path)
    differences, n_higher, n_lower = [], 0, 0
    for name in sorted(set(bounds) & set(earlier)):
        pairs = zip(bounds[name], earlier[name], strict=False)
        gains = np.array([bound - other for bound, other in pairs])
        mean, error = gains.mean(), gains.std(ddof=1) / np.sqrt(len(gains))
        differences.append(mean)
        if abs(mean) > max(2 * error, LEAST):
            n_higher, n_lower = n_higher + (mean > 0), n_lower + (mean < 0)
            print(f"{name:<32} {mean:>+8.4f} +- {error:.4f}")
    print(f"of {len(differences)} settings {n_higher} end higher, {n_lower} lower")
    print(f"mean difference {np.mean(differences):+.4f} nats, median {np.median(differences):+.4f}")


def main():
    """Write a file, or compare two."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="the file to write, or to compare")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--against", help="a file of another version")
    arguments = parser.parse_args()
    if arguments.against:
        compare(arguments.path, arguments.against)
    else:
        write(arguments.path, arguments.seeds)


if __name__ == "__main__":
    main()
