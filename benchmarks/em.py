"""Time of EM for Gaussian mixtures, against scikit-learn in the same run.

    python benchmarks/em.py [--repeats 5] [--structures full diag ...] [--max-rows 100000]

Both run the same number of iterations from the same start. The fits are
interleaved, so that a machine whose speed drifts slows both alike; medians and
their ratio are printed. ``extra`` is the peak memory that a fit allocates
beyond X, measured in a run of its own (what NumPy allocates; the buffers of BLAS
are not seen). ``GFLOP/s`` takes 4 n K d^2 operations an iteration for full and
tied covariances, 4 n K d for the others. ``|score|`` is the difference between the final
mean log likelihoods, in nats.
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
import warnings

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import skemvae
from skemvae import EMGaussianMixture

GRID = [
    (1_000, 4, 3),
    (20_000, 8, 10),
    (100_000, 8, 10),
    (50_000, 20, 10),
    (30_000, 50, 20),
    (20_000, 100, 10),
    (50_000, 2, 50),
]
STRUCTURES = ["full", "diag", "tied", "spherical"]
N_ITER = 10


def problem(n, d, k, structure, seed=0):
    """Overlapping clusters, and a start near but not at their centres."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.standard_normal((k, d))
    X = centres[rng.integers(k, size=n)] + rng.standard_normal((n, d))
    identity = {
        "full": np.broadcast_to(np.eye(d), (k, d, d)),
        "tied": np.eye(d),
        "diag": np.ones((k, d)),
        "spherical": np.ones(k),
    }[structure]
    start = {
        "weights_init": np.full(k, 1 / k),
        "means_init": centres + 0.3 * rng.standard_normal((k, d)),
        "precisions_init": identity,
    }
    return X, {**start, "covariance_type": structure, "max_iter": N_ITER, "tol": 0}


def timed(estimator, X):
    begin = time.perf_counter()
    estimator.fit(X)
    return time.perf_counter() - begin


def extra_memory(estimator, X):
    tracemalloc.start()
    estimator.fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def compare(n, d, k, structure, repeats):
    """Return one row of the table."""
    X, parameters = problem(n, d, k, structure)
    ours = EMGaussianMixture(k, reg_covar=0, acceleration=None, **parameters)
    theirs = GaussianMixture(k, reg_covar=0, **parameters)
    # Short fits are repeated within a measurement.
    inner = max(1, int(0.02 / timed(ours, X)))
    times = np.empty((repeats, 2))
    for i in range(repeats):
        for j, estimator in enumerate((ours, theirs)):
            times[i, j] = sum(timed(estimator, X) for _ in range(inner)) / inner
    return {
        "ours": np.median(times[:, 0]),
        "theirs": np.median(times[:, 1]),
        "ratio": np.median(times[:, 1] / times[:, 0]),
        "our extra": extra_memory(ours, X),
        "their extra": extra_memory(theirs, X),
        "difference": abs(ours.score(X) - theirs.score(X)),
        "GFLOP/s": 4e-9
        * N_ITER
        * n
        * k
        * d
        * (d if structure in ("full", "tied") else 1)
        / np.median(times[:, 0]),
    }


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--structures", nargs="+", default=STRUCTURES)
    parser.add_argument("--max-rows", type=int, default=100_000)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)

    print(
        f"skemvae {skemvae.__version__}, scikit-learn {sklearn.__version__}, "
        f"numpy {np.__version__}, {os.cpu_count()} cores; {N_ITER} iterations, float64, "
        f"medians of {arguments.repeats}"
    )
    header = f"{'n':>7} {'d':>4} {'K':>3} | {'skemvae':>9} {'sklearn':>9} {'ratio':>6}"
    header += f" | {'GFLOP/s':>7} | {'extra MiB':>9} {'sklearn':>8} | |score|"
    for structure in arguments.structures:
        print(f"\n{structure}\n{header}")
        ratios = []
        for n, d, k in GRID:
            if n > arguments.max_rows:
                continue
            row = compare(n, d, k, structure, arguments.repeats)
            ratios.append(row["ratio"])
            print(
                f"{n:>7} {d:>4} {k:>3} | {row['ours']:>8.4f}s {row['theirs']:>8.4f}s "
                f"{row['ratio']:>6.2f} | {row['GFLOP/s']:>7.1f} | {row['our extra']:>9.1f} "
                f"{row['their extra']:>8.1f} | {row['difference']:.0e}",
                flush=True,
            )
        mean = np.exp(np.mean(np.log(ratios)))
        print(f"geometric mean of the ratios {mean:.2f}, smallest {min(ratios):.2f}")


if __name__ == "__main__":
    main()
