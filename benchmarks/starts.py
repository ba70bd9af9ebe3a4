"""How often default starts reach the known optimum, beside scikit-learn's k-means start.

    python benchmarks/starts.py [--seeds 30] [--init-params kmeans]
    python benchmarks/starts.py --time [--repeats 3] [--structures full diag] [--max-rows 100000]

Total log likelihoods in nats, ``tol=1e-6, max_iter=1000``; a fit counts as a hit
within 0.5 nats of the optimum. The cigars are two parallel clusters of 2,000
rows, 50 times as long as wide; a hit there has an adjusted Rand index above 0.95.
Old Faithful is read from the folder in ``SKEMVAE_DATA``, if that is set.

``--time`` prints what the search for a start costs, on overlapping clusters and with
default parameters. ``search`` is the time of ``max_iter=0``, less that of the same with
all parameters given (reading the table, and one E step); ``whole`` is a whole fit, with the
``iter`` iterations that follow the search. ``k-means`` is a whole fit from that start,
``n_init=10`` one with ten tournaments, ``sklearn`` one of scikit-learn's with its default
k-means start (not on a million rows); ``gain`` is by how much their scores are better than that
of the single tournament, in nats per sample. ``of whole``, ``of k-means`` and ``of sklearn`` are
the search as parts of these fits, and ``adds`` is how much longer a whole fit takes than one from
k-means. Medians of the seeds.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from skemvae import EMGaussianMixture

PARAMETERS = {"tol": 1e-6, "max_iter": 1000}
REST = 0.05  # seconds
PATIENCE = 200_000  # rows: on more scikit-learn takes minutes


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


GRID = [
    (1_000, 4, 3),
    (20_000, 8, 10),
    (100_000, 8, 10),
    (50_000, 20, 10),
    (20_000, 100, 10),
    (50_000, 2, 50),
    (1_000_000, 10, 20),
]


HEADER = (
    f"{'n':>7} {'d':>3} {'K':>2} | {'search':>8} {'whole':>8} {'iter':>4} "
    f"| {'k-means':>8} {'gain':>7} | {'sklearn':>8} {'gain':>7} | {'n_init=10':>9} {'gain':>7} "
    f"| {'of whole':>8} {'of k-means':>10} {'of sklearn':>10} {'adds':>6}"
)


def overlapping(n, d, k, seed):
    """Elliptic clusters so near to each other that EM needs tens of iterations."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    centres = rng.standard_normal((k, d)) * 3 / np.sqrt(d)
    scales = np.exp(0.3 * rng.standard_normal((k, d)))
    return centres[labels] + scales[labels] * rng.standard_normal((n, d))


def timed(cls, X, k, **parameters):
    """Fit, and return the fitted mixture and the seconds that it took.

    After a rest: the threads of BLAS and OpenMP stay awake, and would slow the next fit.
    """
    time.sleep(REST)
    begin = time.perf_counter()
    mixture = cls(k, **parameters).fit(X)
    return mixture, time.perf_counter() - begin


def time_of_search(n, d, k, structure, repeats):
    """Print one row of the table of times."""
    rows = []
    for seed in range(repeats):
        X = overlapping(n, d, k, seed)
        common = {"covariance_type": structure, "random_state": seed}
        ours = partial(timed, EMGaussianMixture, X, k, **common)
        ours()  # once more, so that the memory of X is at hand
        whole, seconds = ours()
        given = {
            "weights_init": whole.weights_,
            "means_init": whole.means_,
            "precisions_init": whole.precisions_,
        }
        search = ours(max_iter=0)[1] - ours(max_iter=0, **given)[1]
        others = [
            ours(init_params="kmeans"),
            timed(GaussianMixture, X, k, **common) if n <= PATIENCE else (whole, np.nan),
            ours(n_init=10),
        ]
        score = whole.score(X)
        gains = [other.score(X) - score for other, _ in others]
        times = [other_seconds for _, other_seconds in others]
        of_fits = [search / each for each in (seconds, *times[:2])]
        pairs = [value for pair in zip(times, gains, strict=True) for value in pair]
        rows.append((search, seconds, whole.n_iter_, *pairs, *of_fits, seconds / times[0] - 1))
    search, seconds, n_iter, *pairs, of_whole, of_k_means, of_sklearn, adds = np.median(rows, 0)
    middle = " | ".join(
        f"{seconds_:>{width}.4f}s {gain:>7.4f}"
        for seconds_, gain, width in zip(pairs[::2], pairs[1::2], (7, 7, 8), strict=True)
    )
    print(
        f"{n:>7} {d:>3} {k:>2} | {search:>7.4f}s {seconds:>7.4f}s {n_iter:>4.0f} | {middle} "
        f"| {of_whole:>8.0%} {of_k_means:>10.0%} {of_sklearn:>10.0%} {adds:>+6.0%}",
        flush=True,
    )


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--init-params", help="the same start for both, instead of the defaults")
    parser.add_argument("--time", action="store_true", help="what the search for a start costs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--max-rows", type=int, default=1_000_000, help="leave out longer tables")
    parser.add_argument("--structures", nargs="+", default=["full", "diag"])
    arguments = parser.parse_args()
    if arguments.time:
        warnings.simplefilter("ignore", ConvergenceWarning)
        for structure in arguments.structures:
            print(f"\n{structure}")
            print(HEADER)
            for n, d, k in GRID:
                if n > arguments.max_rows:
                    continue
                time_of_search(n, d, k, structure, arguments.repeats)
        return
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
