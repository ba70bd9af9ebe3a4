"""On-line EM after one, two and three passes, in nats per sample below batch EM.

    python benchmarks/online.py [--rows 1000000] [--sizes 1000 10000] [--seeds 1] [--no-sorted]

Tables of 10 Gaussians in 10 dimensions that overlap strongly, overlap, and stand apart; both
begin with default starts, and batch EM has default tolerance. The first batch has 10,000 rows, 15
for each parameter, for starts on fewer lead to what is chance. Negative is better than batch
EM. Seconds are those of the processor. Beside it, one M step from the clusters of scikit-learn's
MiniBatchKMeans after as many passes; and on-line EM on the same rows, sorted by component.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from skemvae import EMGaussianMixture

K, D, PASSES, FIRST = 10, 10, 3, 10_000
DISTANCES = {"strong overlap": 0.3, "overlap": 0.8, "apart": 4.0}


def table(distance, n, seed):
    """Rows in random order, and the components they come from."""
    rng = np.random.default_rng(seed)
    means = distance * rng.standard_normal((K, D))
    factors = np.eye(D) + 0.5 / np.sqrt(D) * rng.standard_normal((K, D, D))
    labels = rng.integers(K, size=n)
    X = rng.standard_normal((n, D))
    for k in range(K):
        X[labels == k] = means[k] + X[labels == k] @ factors[k].T
    return X, labels


def below(reference, X, size, step, score):
    """Nats below the reference after each pass, and the seconds of a pass."""
    differences, seconds = [], 0.0
    for _ in range(PASSES):
        begin = time.process_time()
        for batch in np.split(X, range(max(size, FIRST), len(X), size)):
            step(batch)
        seconds += time.process_time() - begin
        differences.append(reference - score(X))
    return differences, seconds / PASSES


def k_means(seed):
    """A step of mini-batch k-means, and the score of the mixture that its clusters give."""
    clusters = MiniBatchKMeans(K, random_state=seed, n_init=3)

    def score(X):
        responsibilities = np.eye(K)[clusters.predict(X)]
        mixture = EMGaussianMixture(K, init_params=responsibilities, max_iter=0)
        return mixture.fit(X).score(X)

    return clusters.partial_fit, score


def report(name, differences, seconds):
    """Print medians over seeds."""
    medians = " ".join(f"{value:>9.4f}" for value in np.median(differences, axis=0))
    print(f"{name:<42} {medians} {np.median(seconds):>8.2f}s", flush=True)


def main():
    """Print the table."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-sorted", action="store_true", help="leave out the sorted rows")
    arguments = parser.parse_args()
    print(f"{'nats per sample below batch EM, after pass':<42} {1:>9} {2:>9} {3:>9} {'a pass':>9}")
    for name, distance in DISTANCES.items():
        cases: dict[str, list[tuple[list[float], float]]] = {}
        batch = []
        for seed in range(arguments.seeds):
            X, labels = table(distance, arguments.rows, seed)
            begin = time.process_time()
            fitted = EMGaussianMixture(K, random_state=seed).fit(X)
            batch.append((fitted.n_iter_, time.process_time() - begin))
            reference = fitted.score(X)

            def measure(case, rows, size, step, score, cases=cases, reference=reference):
                result = below(reference, rows, size, step, score)
                cases.setdefault(case, []).append(result)

            for size in arguments.sizes:
                online = EMGaussianMixture(K, random_state=seed)
                measure(f"on-line EM, batches of {size}", X, size, online.partial_fit, online.score)
            size = arguments.sizes[-1]
            measure(f"mini-batch k-means, batches of {size}", X, size, *k_means(seed))
            if not arguments.no_sorted:
                online = EMGaussianMixture(K, random_state=seed)
                rows = X[np.argsort(labels, kind="stable")]
                case = f"on-line EM, sorted, batches of {size}"
                measure(case, rows, size, online.partial_fit, online.score)
        n_iter, seconds = np.median(batch, axis=0)
        print(f"-- {name}: batch EM took {n_iter:.0f} iterations, {seconds:.1f}s in all")
        for case, results in cases.items():
            report(case, [r[0] for r in results], [r[1] for r in results])


if __name__ == "__main__":
    main()
