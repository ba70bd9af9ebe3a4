"""Factor-analytic mixtures beside full covariances, and one component beside FactorAnalysis.

    python benchmarks/factor_analytic.py [--seeds 3] [--rows 20000]

The first table has rows of 64 pixels: digits of scikit-learn, moved by up to a pixel where it says
so, with noise; 10 components are fitted to rows made of two thirds of the digits, and scored on
rows made of the others. Seconds are medians of the seeds; ``full / ours`` is the ratio of times.
The second table has the log likelihood of one component less that of
``sklearn.decomposition.FactorAnalysis``, nats per row, and the times of both.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from sklearn import datasets
from sklearn.decomposition import FactorAnalysis
from sklearn.preprocessing import StandardScaler

from skemvae import EMGaussianMixture

STRUCTURES = (
    {},
    {"covariance_type": "diag"},
    {"covariance_type": "factor_analytic", "n_factors": 5},
)


def pixels(images, n, noise, moves, rng):
    """Rows of noisy images."""
    rows = images[rng.integers(len(images), size=n)]
    if moves:
        steps = rng.integers(-1, 2, (n, 2))
        rows = np.array([np.roll(one, step, (0, 1)) for one, step in zip(rows, steps, strict=True)])
    return rows.reshape(n, -1) + noise * rng.standard_normal((n, rows[0].size))


def timed(estimator, rows):
    """The fitted estimator, and seconds."""
    begin = time.perf_counter()
    return estimator.fit(rows), time.perf_counter() - begin


def digits(n_rows, seeds):
    """Print the first table."""
    images = np.random.default_rng(0).permutation(datasets.load_digits().images)
    print(
        f"{'noise':>5} {'moved':>5} {'structure':>16} | {'seconds':>8} {'held out':>9} full / ours"
    )
    for noise, moves in ((0.1, False), (0.3, False), (0.3, True), (1.0, False)):
        found = {}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            train = pixels(images[:1200], n_rows, noise, moves, rng)
            test = pixels(images[1200:], 5000, noise, moves, rng)
            for options in STRUCTURES:
                mixture, seconds = timed(EMGaussianMixture(10, random_state=seed, **options), train)
                scores = found.setdefault(mixture.covariance_type, [])
                scores.append((seconds, mixture.score(test)))
        for name, scores in found.items():
            seconds, held_out = np.median(scores, 0)
            pairs = zip(found["full"], scores, strict=True)
            ratio = np.median([full / own for (full, _), (own, _) in pairs])
            row = f"{noise:5} {moves!s:>5} {name:>16} | {seconds:8.2f} {held_out:9.2f}"
            print(f"{row} {ratio:11.2f}")


def one_component():
    """Print the second table."""
    print(f"\n{'table':>20}  q | {'gain':>9} {'ours':>8} {'peer':>8}")
    for name in ("iris", "wine", "breast_cancer", "digits"):
        X = getattr(datasets, f"load_{name}")().data
        X = StandardScaler().fit_transform(X[:, X.std(0) > 0])
        for q in (1, 2, 5):
            if q >= X.shape[1]:
                continue
            peer, theirs = timed(FactorAnalysis(q, tol=1e-8, max_iter=10_000), X)
            ours, seconds = timed(
                EMGaussianMixture(
                    1,
                    covariance_type="factor_analytic",
                    n_factors=q,
                    reg_covar=1e-10,
                    tol=1e-7,
                    max_iter=5000,
                ),
                X,
            )
            gain = ours.score(X) - peer.score(X)
            print(f"{name:>20} {q:2} | {gain:9.1e} {seconds:7.3f}s {theirs:7.3f}s")


def main():
    """Print both."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=20_000)
    arguments = parser.parse_args()
    digits(arguments.rows, arguments.seeds)
    one_component()


if __name__ == "__main__":
    main()
