"""AUROC of anomaly detection on 16 tables, beside scikit-learn and published results.

    python benchmarks/anomaly.py --data FOLDER [--seeds 0 1 ...] [--only TABLE ...]
                                 [--methods METHOD ...] [--without-duplicates]

``FOLDER/adbench`` holds the tables of ADBench and ``reference_auroc.csv``, the
published AUROC. Every method has its default parameters, the same for all
tables; ``EM`` is one Gaussian, ``EM 5`` a mixture of five. The score of a row
is ``-score_samples``, the entries are means over the seeds in per cent.

The protocol is that of the published numbers (semi-supervised, in
https://github.com/vicliv/DTE). A table of fewer than 1000 rows is first
resampled with replacement to 1000 rows, with the seed. The first half of the
normal rows, in file order or that of the resample, is the training set; the other
half and all anomalies are the test set. A ``StandardScaler`` is fitted to the
training set. With seeds 0, 1, 2, 3 and 6 the published means of LOF come out to
the last digit.

Resampling comes before splitting, so in the seven small tables about half to
nearly all of the normal test rows are copies of training rows, which favours
methods that remember. ``--without-duplicates`` shuffles these tables
instead; the published columns are then no longer comparable there.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

import skemvae
from skemvae import EMGaussianMixture, VAEEstimator

PUBLISHED = ["VAE", "PCA", "IForest", "LOF", "OCSVM", "KNN", "DTE-NP", "DTE-C"]


METHODS = {
    "VAE": lambda seed: VAEEstimator(random_state=seed),
    "EM": lambda seed: EMGaussianMixture(random_state=seed),
    "EM 5": lambda seed: EMGaussianMixture(5, random_state=seed),
    "IForest": lambda seed: IsolationForest(random_state=seed),
    "LOF": lambda seed: LocalOutlierFactor(novelty=True),
    "OCSVM": lambda seed: OneClassSVM(),
}


def split(path, seed, duplicates):
    """Standardised training rows, test rows and the labels of the latter."""
    with np.load(path) as table:
        X, y = table["X"].astype(float), table["y"]
    if len(y) < 1000:
        size = 1000 if duplicates else len(y)
        rows = np.random.RandomState(seed).choice(len(y), size, replace=duplicates)
        X, y = X[rows], y[rows]
    normal = np.flatnonzero(y == 0)
    half = round(len(normal) / 2)
    test = np.concatenate([normal[half:], np.flatnonzero(y == 1)])
    scaler = StandardScaler().fit(X[normal[:half]])
    return scaler.transform(X[normal[:half]]), scaler.transform(X[test]), y[test]


def auroc(method, seed, train, test, y):
    """AUROC in per cent; 50, and a line that says why, if the method refuses the table."""
    try:
        score = -METHODS[method](seed).fit(train).score_samples(test)
        return 100 * roc_auc_score(y, score)
    except ValueError as error:
        print(f"{method}, seed {seed}, counts as 50: {error}", flush=True)
        return 50.0


def line(name, entries, form="{:>8.2f}"):
    """Print a row of the table; ``entries`` are those of the methods, then the published."""
    ours, published = ("".join(map(form.format, part)) for part in entries)
    print(f"{name:<12}|{ours} |{published}".rstrip(), flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 6])
    parser.add_argument("--only", nargs="+", metavar="TABLE")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--without-duplicates", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)

    folder = arguments.data / "adbench"
    paths = {p.stem.partition("_")[2].lower(): p for p in folder.glob("*.npz")}
    with open(folder / "reference_auroc.csv", newline="") as file:
        reference = {row["Dataset"]: row for row in csv.DictReader(file)}
    names = [name for name in reference if name in (arguments.only or paths)]
    if not names or not set(arguments.only or names) <= set(names):
        parser.error(f"the tables are {', '.join(reference)}")

    methods, seeds = arguments.methods, arguments.seeds
    print(
        f"skemvae {skemvae.__version__}, scikit-learn {sklearn.__version__}, "
        f"numpy {np.__version__}, {os.cpu_count()} cores; seeds {seeds}"
    )
    if arguments.without_duplicates:
        print("without duplicates: published columns not comparable for small tables")
    line("AUROC (%)", (["this run"], ["published"]), f"{{:^{8 * len(methods)}}}")
    line("", (methods, PUBLISHED), "{:>8}")
    ours = np.empty((len(names), len(methods), len(seeds)))
    published = [[float(reference[n][p].partition("(")[0]) for p in PUBLISHED] for n in names]
    seconds = np.zeros(len(methods))
    for i, name in enumerate(names):
        for k, seed in enumerate(seeds):
            rows = split(paths[name], seed, not arguments.without_duplicates)
            for j, method in enumerate(methods):
                begin = time.perf_counter()
                ours[i, j, k] = auroc(method, seed, *rows)
                seconds[j] += time.perf_counter() - begin
        line(name, (ours[i].mean(axis=1), published[i]))
    line("mean", (ours.mean(axis=(0, 2)), np.mean(published, axis=0)))
    line("sd of mean", (ours.mean(axis=0).std(axis=1), []))  # from seed to seed
    line("seconds", (seconds, []), "{:>8.1f}")


if __name__ == "__main__":
    main()
