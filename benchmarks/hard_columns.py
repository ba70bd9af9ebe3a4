"""Whether default fits are right on columns with codes, far rows, many groups and few rows.

    python benchmarks/hard_columns.py [N]     # N tables of each kind, 30 by default

Prints of each kind how many fits of N are right, and the CPU time of one.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
from sklearn.metrics import adjusted_rand_score

from skemvae import DensityOutlierDetector, EMGaussianMixture


def column(*groups):
    """One column of normal groups, each (mean, standard deviation, number of rows)."""

    def draw(rng):
        x = np.concatenate([rng.normal(mean, width, n) for mean, width, n in groups])
        return x[:, None], np.repeat(np.arange(len(groups)), [n for *_, n in groups])

    return draw


def far_apart(k):
    """So many groups of width 1, at distances of 100."""
    return column(*((100.0 * j, 1.0, 100) for j in range(k)))


def shifted(rng):
    """Sixty rows of fifty columns, of which twelve tell two clusters."""
    labels = rng.integers(0, 2, 60)
    X = rng.normal(size=(60, 50))
    X[:, :12] += 2 * labels[:, None]
    return X, labels


def blobs(n, d, k, distance):
    """A few rows of spherical clusters."""

    def draw(rng):
        labels = rng.integers(k, size=n)
        centres = distance * rng.standard_normal((k, d)) / np.sqrt(2 * d)
        return centres[labels] + rng.standard_normal((n, d)), labels

    return draw


def under_factors(n, d, k):
    """Clusters of correlated columns: ten factors vary more than the centres do."""

    def draw(rng):
        labels = rng.integers(0, k, n)
        factors = rng.standard_normal((n, 10)) @ rng.normal(0, 0.5, (10, d))
        centres = rng.normal(0, 0.7, (k, d))
        return centres[labels] + factors + rng.standard_normal((n, d)), labels

    return draw


CLUSTERS = {
    "code -9999": column((0, 1, 500), (8, 1, 500), (-9999, 0, 50)),
    "one row at 1e6": column((0, 1, 500), (8, 1, 500), (1e6, 0, 1)),
    "two tight blobs": column((0, 0.05, 500), (20_000, 0.05, 500)),
    **{f"{k} groups": far_apart(k) for k in (50, 100, 200)},
    "60 x 50": shifted,
    "60 x 50, K=3": blobs(60, 50, 3, 12),
    "100 x 200": blobs(100, 200, 2, 12),
    "40 x 30": blobs(40, 30, 2, 9),
    "1000 x 100, ten factors": under_factors(1000, 100, 5),
    "400 x 273, ten factors": under_factors(400, 273, 10),
}


def clusters_are_found(draw, seed):
    """By labels, and in a single column by the widths of the clusters, too."""
    X, labels = draw(np.random.default_rng(seed))
    k = labels.max() + 1
    mixture = EMGaussianMixture(k, random_state=seed).fit(X)
    if adjusted_rand_score(labels, mixture.predict(X)) < 0.9:
        return False
    if X.shape[1] > 1:
        return True
    widths = np.sqrt(np.sort(mixture.covariances_[:, 0, 0]))
    own = np.sort([X[labels == j].std() for j in range(k)])
    return bool(np.abs(widths - own).max() < 0.1 * own.max())


def the_detector_sees(seed):
    """Rows that are shifted by 8 standard deviations, beside one row at 1e6."""
    rng = np.random.default_rng(seed)
    X = np.append(rng.normal(size=(1000, 3)), [[1e6, 0, 0]], axis=0)
    new = rng.normal(size=(2000, 3))
    detector = DensityOutlierDetector(EMGaussianMixture(2, random_state=seed)).fit(X)
    shifted_new = new + np.array([8, 0, 0])
    false, found = ((detector.predict(rows) < 0).mean() for rows in (new, shifted_new))
    return bool(false < 0.1 and found > 0.99)


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    warnings.simplefilter("ignore")
    kinds = {name: (clusters_are_found, draw) for name, draw in CLUSTERS.items()}
    kinds["detector, one row at 1e6"] = (the_detector_sees,)
    print(f"{'kind':<26}{'right of ' + str(n):>12}{'CPU, ms':>10}")
    for name, (is_right, *draw) in kinds.items():
        start = time.process_time()
        right = sum(is_right(*draw, seed) for seed in range(n))
        print(f"{name:<26}{right:>12}{(time.process_time() - start) / n * 1e3:>10.0f}", flush=True)


if __name__ == "__main__":
    main()
