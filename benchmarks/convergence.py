"""Time to the same final likelihood: accelerated EM, plain EM, and scikit-learn.

    python benchmarks/convergence.py [--seeds 10] [--structures full diag ...] [--rows 200000]

All climb from the same k-means starts with a tight tolerance. ``time`` is scikit-learn's divided
by ours, each until it is for the first time within 1e-4 nats of the final mean log likelihood that
both reach: the lower one, where they end in different optima. ``higher`` and ``lower`` say in how
many starts accelerated EM ended above and below plain EM. Plain EM takes the same steps as
scikit-learn, so its history tells how many iterations scikit-learn needs. Fits are limited to the
iterations needed, and take turns. ``passes`` is plain EM's number of passes over the data divided
by accelerated EM's, ``to the end`` the same until each stops by itself. Seconds are medians,
ratios geometric means over the starts; the last line is the geometric mean over the tables, each
of them the geometric mean of its lines. Old Faithful is read from the folder in ``SKEMVAE_DATA``,
if that is set.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import skemvae
from skemvae import EMGaussianMixture

STRUCTURES = ["full", "diag", "tied", "spherical"]
CLOSE = 1e-4
TIGHT = {"tol": 1e-7, "max_iter": 5000, "reg_covar": 1e-6}


def overlapping(n_rows, k=5, d=4):
    """Clusters with covariances of their own, about a standard deviation apart."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((k, d))
    factors = np.eye(d) + 0.4 * rng.standard_normal((k, d, d))
    labels = rng.integers(k, size=n_rows)
    noise = rng.standard_normal((n_rows, d))
    return centres[labels] + np.einsum("nij,nj->ni", factors[labels], noise)


def problems(n_rows):
    """Names, tables and numbers of components."""
    yield "digits, d=20", PCA(20, random_state=0).fit_transform(load_digits().data), 20
    if "SKEMVAE_DATA" in os.environ:
        path = Path(os.environ["SKEMVAE_DATA"]) / "classic" / "faithful.csv"
        faithful = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(-2, -1))
        yield "Old Faithful", faithful, 2
        yield "Old Faithful", faithful, 3
    yield f"overlapping, n={n_rows:.0e}", overlapping(n_rows), 5


def start(X, k, structure, seed):
    """Parameters to begin with: those of k-means."""
    begin = EMGaussianMixture(
        k,
        covariance_type=structure,
        init_params="kmeans",
        max_iter=0,
        random_state=seed,
    ).fit(X)
    return {
        "weights_init": begin.weights_,
        "means_init": begin.means_,
        "precisions_init": begin.precisions_,
    }


def climb(X, **parameters):
    """The bounds of a fit, one for each pass, and its time."""
    begin = time.perf_counter()
    fitted = EMGaussianMixture(**parameters).fit(X)
    return fitted.lower_bounds_, time.perf_counter() - begin


def compare(X, k, structure, seed):
    """One row of figures for each start."""
    begin = {"n_components": k, "covariance_type": structure, **start(X, k, structure, seed)}
    fast, fast_whole = climb(X, **begin, **TIGHT)
    plain, _ = climb(X, **begin, **TIGHT, acceleration=None)
    target = min(fast[-1], plain[-1]) - CLOSE
    passes = [max(1, int(np.argmax(bounds >= target))) for bounds in (fast, plain)]
    limited = {**TIGHT, "tol": 0}
    # Once more, only so far; each beside the other. Short climbs are repeated.
    inner = max(1, int(0.05 / fast_whole))
    seconds = np.zeros(3)
    for _ in range(inner):
        for i, (n_iter, how) in enumerate(zip(passes, ("auto", None), strict=True)):
            seconds[i] += climb(X, **begin, **{**limited, "max_iter": n_iter}, acceleration=how)[1]
        theirs = GaussianMixture(**begin, **{**limited, "max_iter": passes[1]})
        clock = time.perf_counter()
        theirs.fit(X)
        seconds[2] += time.perf_counter() - clock
    return *passes, *seconds / inner, len(fast), len(plain), fast[-1] - plain[-1]


def geometric_mean(values):
    return np.exp(np.mean(np.log(values)))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--structures", nargs="+", default=["full"], choices=STRUCTURES)
    parser.add_argument("--rows", type=int, default=200_000)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(
        f"skemvae {skemvae.__version__}, scikit-learn {sklearn.__version__}, "
        f"{os.cpu_count()} cores; to within {CLOSE:g} nats, {arguments.seeds} starts"
    )
    print(
        f"{'':<20} {'K':>3} {'structure':>9} | {'seconds':>8} {'plain':>8} {'sklearn':>8} | "
        f"{'higher':>6} {'lower':>5} | {'passes':>6} {'to the end':>10} | {'time':>6}"
    )
    ratios = {}
    for name, X, k in problems(arguments.rows):
        for structure in arguments.structures:
            rows = [compare(X, k, structure, seed) for seed in range(arguments.seeds)]
            fast, plain, ours, ours_plain, theirs, fast_end, plain_end, gain = np.array(rows).T
            time_ratio = geometric_mean(theirs / ours)
            ratios.setdefault(name, []).append(time_ratio)
            print(
                f"{name:<20} {k:>3} {structure:>9} | {np.median(ours):>8.4f} "
                f"{np.median(ours_plain):>8.4f} {np.median(theirs):>8.4f} | "
                f"{sum(gain > CLOSE):>6} {sum(gain < -CLOSE):>5} | "
                f"{geometric_mean(plain / fast):>6.2f} "
                f"{geometric_mean(plain_end / fast_end):>10.2f} | {time_ratio:>6.2f}",
                flush=True,
            )
    tables = [geometric_mean(each) for each in ratios.values()]
    print(f"geometric mean over the {len(tables)} tables: {geometric_mean(tables):.2f}")


if __name__ == "__main__":
    main()
