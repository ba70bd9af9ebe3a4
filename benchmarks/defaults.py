"""Fits of real tables, each library with its own start and its own climb, beside scikit-learn's.

    python benchmarks/defaults.py [--seeds 5] [--structures full diag] [--components 3 8]

Four fifths of the rows are fitted, others for each seed. Ours begin with a tournament,
scikit-learn's with one k-means; all other parameters are the defaults of both, but for
``reg_covar=1e-3``: with standardised columns it means nearly the same to both, and keeps either
from a race to spikes on a few rows. ``ratio`` is scikit-learn's time divided by ours, median of the
seeds; ``gain`` by how much our log likelihood of the fitted rows is higher, nats per row, median of
the seeds; ``won`` and ``lost`` count seeds where it is so by more than 0.01; ``held out`` is the
median gain on the rows left out. The summary has the geometric mean of the ratios, all counts, the
tables on which held-out rows are less likely by more than 0.05 nats in the mean, and the fits that
lost. Each timed fit follows a rest and one that is not timed. The tables are those that come with
scikit-learn, and those of ADBench and two with many discrete columns in the folder that
``SKEMVAE_DATA`` names, without constant columns.
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
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skemvae import EMGaussianMixture

MOST_ROWS = 20_000
REST = 0.05  # seconds: threads of BLAS and OpenMP stay awake after a fit
EQUAL, CLEARLY_WORSE = 0.01, 0.05


def tables():
    """Names and rows."""
    yield "iris", datasets.load_iris().data
    yield "wine", datasets.load_wine().data
    yield "breast cancer", datasets.load_breast_cancer().data
    yield "diabetes", datasets.load_diabetes().data
    yield "digits, 20 axes", PCA(20).fit_transform(datasets.load_digits().data)
    if "SKEMVAE_DATA" in os.environ:
        for path in sorted((Path(os.environ["SKEMVAE_DATA"]) / "adbench").glob("*.npz")):
            yield path.stem.split("_", 1)[1], np.load(path)["X"].astype(float)
        for name in ("Adult", "Wine"):
            path = Path(os.environ["SKEMVAE_DATA"]) / "heterogeneous" / name / "data.csv"
            yield f"{name}, discrete", np.loadtxt(path, delimiter=",", max_rows=MOST_ROWS)


def timed_scores(cls, rows, k, structure, seed):
    """Seconds of a fit, and the mean log likelihoods of its rows and of those left out."""
    fitted, left_out = rows
    time.sleep(REST)
    mixture = cls(k, covariance_type=structure, reg_covar=1e-3, random_state=seed).fit(fitted)
    begin = time.perf_counter()
    mixture.fit(fitted)
    return time.perf_counter() - begin, mixture.score(fitted), mixture.score(left_out)


def divided(rows, seed):
    """Four fifths of the rows and one, standardised by the former, whose columns all vary."""
    fitted, left_out = train_test_split(rows, test_size=0.2, random_state=seed)
    varies = fitted.std(0) > 0
    scaler = StandardScaler().fit(fitted[:, varies])
    return [scaler.transform(part[:, varies]) for part in (fitted, left_out)]


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
        f"| {'gain':>8} {'won':>3} {'lost':>4} | {'held out':>8}"
    )
    ratios, counts, losers, held_out = [], np.zeros(3, dtype=int), [], {}
    for name, rows in tables():
        of_table = held_out[name] = []
        for structure in arguments.structures:
            for k in arguments.components:
                results = []
                for seed in range(arguments.seeds):
                    parts = divided(rows, seed)
                    fits = [
                        timed_scores(cls, parts, k, structure, seed)
                        for cls in (EMGaussianMixture, GaussianMixture)
                    ]
                    results.append(np.transpose(fits).ravel())
                ours, theirs, score, their_score, new, their_new = np.transpose(results)
                gains, new_gains = score - their_score, new - their_new
                won, lost = (gains > EQUAL).sum(), (gains < -EQUAL).sum()
                counts += [won, lost, len(gains)]
                ratios.append(np.median(theirs / ours))
                of_table.extend(new_gains)
                losers += [
                    f"{name} {structure} K={k} seed {seed}: {gains[seed]:.3f}"
                    for seed in np.flatnonzero(gains < -EQUAL)
                ]
                print(
                    f"{name:<16} {len(rows):>6} {rows.shape[1]:>3} {structure:>9} {k:>2} "
                    f"| {np.median(ours):>7.4f}s {np.median(theirs):>7.4f}s {ratios[-1]:>6.2f} "
                    f"| {np.median(gains):>8.3f} {won:>3} {lost:>4} "
                    f"| {np.median(new_gains):>8.3f}",
                    flush=True,
                )
    won, lost, n_fits = counts
    print(
        f"scikit-learn / ours: geometric mean {np.exp(np.mean(np.log(ratios))):.2f}, from "
        f"{min(ratios):.2f} to {max(ratios):.2f}"
    )
    print(f"of {n_fits} fits {won} score higher, {lost} lower: {1 - lost / n_fits:.1%} no lower")
    worse = [
        f"{name} {np.mean(g):.3f}" for name, g in held_out.items() if np.mean(g) < -CLEARLY_WORSE
    ]
    print("held-out rows less likely, mean:", ", ".join(worse) or "on no table")
    print("lower:", *losers, sep="\n  ")


if __name__ == "__main__":
    main()
