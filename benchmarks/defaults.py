"""Fits of real tables, each library with its own start and its own climb, beside scikit-learn's.

    python benchmarks/defaults.py [--seeds 5] [--structures full diag] [--components 3 8]

Ours begin with a tournament, scikit-learn's with one k-means; all other parameters are the defaults
of both, but for ``reg_covar=1e-3``: with standardised columns it means nearly the same to both,
and keeps either from a race to spikes on a few rows. ``ratio`` is scikit-learn's time divided by
ours, median of the seeds; ``gain`` by how much our log likelihood of the rows is higher, nats per
row, median of the seeds; ``won`` and ``lost`` count seeds where it is so by more than 0.01. The
summary has the geometric mean of the ratios and all counts. Each timed fit follows a rest and one
that is not timed. The tables are those that come with scikit-learn, and those of ADBench in the
folder that ``SKEMVAE_DATA`` names, without constant columns.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from skemvae import EMGaussianMixture

REST = 0.05  # seconds: threads of BLAS and OpenMP stay awake after a fit
EQUAL = 0.01


def tables():
    """Names and rows."""
    yield "iris", datasets.load_iris().data
    yield "wine", datasets.load_wine().data
    yield "breast cancer", datasets.load_breast_cancer().data
    yield "diabetes", datasets.load_diabetes().data
    yield "digits, 20 axes", PCA(20).fit_transform(datasets.load_digits().data)
    if "SKEMVAE_DATA" in os.environ:
        for path in sorted((Path(os.environ["SKEMVAE_DATA"]) / "adbench").glob("*.npz")):
            X = np.load(path)["X"].astype(float)
            yield path.stem.split("_", 1)[1], X[:, X.std(0) > 0]


def timed_score(cls, X, k, structure, seed):
    """Seconds of a fit, and its mean log likelihood."""
    time.sleep(REST)
    mixture = cls(k, covariance_type=structure, reg_covar=1e-3, random_state=seed).fit(X)
    begin = time.perf_counter()
    mixture.fit(X)
    return time.perf_counter() - begin, mixture.score(X)


def main():
    """Print the table."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--structures", nargs="+", default=["full", "diag"])
    parser.add_argument("--components", type=int, nargs="+", default=[3, 8])
    arguments = parser.parse_args()
    print(
        f"{'':<16} {'n':>6} {'d':>3} {'':>9} {'K':>2} | {'ours':>8} {'sklearn':>8} {'ratio':>6} "
        f"| {'gain':>8} {'won':>3} {'lost':>4}"
    )
    ratios, counts = [], np.zeros(3, dtype=int)
    for name, rows in tables():
        X = StandardScaler().fit_transform(rows)
        for structure in arguments.structures:
            for k in arguments.components:
                results = []
                for seed in range(arguments.seeds):
                    fits = [
                        timed_score(cls, X, k, structure, seed)
                        for cls in (EMGaussianMixture, GaussianMixture)
                    ]
                    results.append(np.transpose(fits).ravel())
                ours, theirs, score, their_score = np.transpose(results)
                gains = score - their_score
                won, lost = (gains > EQUAL).sum(), (gains < -EQUAL).sum()
                counts += [won, lost, len(gains)]
                ratios.append(np.median(theirs / ours))
                print(
                    f"{name:<16} {len(X):>6} {X.shape[1]:>3} {structure:>9} {k:>2} "
                    f"| {np.median(ours):>7.4f}s {np.median(theirs):>7.4f}s {ratios[-1]:>6.2f} "
                    f"| {np.median(gains):>8.3f} {won:>3} {lost:>4}",
                    flush=True,
                )
    won, lost, n_fits = counts
    print(
        f"scikit-learn / ours: geometric mean {np.exp(np.mean(np.log(ratios))):.2f}, from "
        f"{min(ratios):.2f} to {max(ratios):.2f}; of {n_fits} fits {won} score higher, {lost} lower"
    )


if __name__ == "__main__":
    main()
