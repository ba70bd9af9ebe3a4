"""False alarms and hits at the thresholds of ``DensityOutlierDetector``.

    python benchmarks/thresholds.py [--rates 0.01 0.05] [--rows 1000] [--draws 10]
    python benchmarks/thresholds.py --data FOLDER [--rates 0.01 0.05] [--components 1 3] [--seeds 0]

Without ``--data``, tables are drawn: three sensors that are continuous, rounded, exactly zero or
idle at times, rows of few values, each as they are and after an accident: written twice, in part or
as a whole, sampled with replacement, the first tenth sampled again. Entries are shares of rows
flagged, in per cent: of 2,000 new rows, mean and standard deviation over the draws; of 300 odd
rows, the mean, and how many draws find more than 95 %. "rows" are folds of rows whatever their
copies (``KFold``), "detector" is the default rule.

With it, ``FOLDER/adbench`` holds the tables of ADBench. Half of the normal rows of each (1,500 at
most) are training rows; all other normal rows and half of the anomalies are new. "dirty" adds
anomalies to the training rows, one for 19 normal ones, as far as there are enough. Entries are the
shares of new rows that are flagged, in per cent, means over the seeds:

- held out: ``contamination="auto"``, the quantile of scores of rows that a fit has not seen;
- trimmed: the same quantile, after rows have been left out that lie further below the median than
  16 times the distance of the lower quartile, again and again (a rule for dirty tables);
- own fit: the quantile of the scores of rows on their own fit.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.neighbors import KernelDensity

from skemvae import DensityOutlierDetector, EMGaussianMixture
from skemvae.doubts import DoubtfulFitWarning

_MOST_ROWS = 1500
_FENCE = 16.0
RULES = ("held out", "trimmed", "own fit")
BY_ROWS = KFold(5, shuffle=True, random_state=0)
DENSITIES = {
    "mixture": EMGaussianMixture(2, random_state=0),
    "kernel": KernelDensity(bandwidth=0.2),
}
_CENTRE, _SPREAD = np.array([10.0, 5.0, 3.0]), np.array([1.0, 0.5, 0.2])


def sensors(rng, n, idle=0.0, decimals=12):
    X = rng.normal(_CENTRE, _SPREAD, (n, 3)).round(decimals)
    X[rng.random(n) < idle] = 0
    return X


def few_values(rng, n):
    """23 distinct rows, the same in each draw."""
    fixed = np.random.default_rng(5)
    values = fixed.normal(_CENTRE, _SPREAD, (23, 3)).round(1)
    return values[rng.choice(23, n, p=fixed.dirichlet(np.full(23, 2.0)))]


TABLES = {
    "continuous": sensors,
    "one decimal": lambda rng, n: sensors(rng, n, decimals=1),
    "whole numbers": lambda rng, n: sensors(rng, n, decimals=0),
    "10 % zeros": lambda rng, n: sensors(rng, n, 0.1),
    "idle 30 %": lambda rng, n: sensors(rng, n, 0.3),
    "23 values": few_values,
    "two flags": lambda rng, n: (rng.random((n, 2)) < [0.3, 0.2]) * _CENTRE[:2],
}
ACCIDENTS = {
    "written twice": lambda rng, X: np.tile(X, (2, 1)),
    "7/8 twice": lambda rng, X: np.vstack([X, X[len(X) // 8 :]]),
    "bootstrap": lambda rng, X: X[rng.integers(len(X), size=len(X))],
    "oversampled": lambda rng, X: np.vstack([X, X[rng.integers(len(X) // 10, size=len(X))]]),
}


def drawn(rate, n, n_draws):
    """Print false alarms and hits on drawn tables."""
    kinds = [(kind, "") for kind in TABLES]
    kinds += [(kind, accident) for kind in ("continuous", "10 % zeros") for accident in ACCIDENTS]
    print(
        f"\nrate {rate:.0%}{'':<22}false alarms, std         odd rows: mean, draws that find them"
    )
    print(
        f"{'':<27}" + "".join(f"{f'{d}, {r}':>27}" for d in DENSITIES for r in ("rows", "detector"))
    )
    for kind, accident in kinds:
        line = f"  {f'{kind} {accident}':<25}"
        for density in DENSITIES.values():
            for cv in (BY_ROWS, 5):
                alarms, hits = [], []
                for seed in range(n_draws):
                    rng = np.random.default_rng(seed)
                    X = TABLES[kind](rng, n)
                    X = ACCIDENTS[accident](rng, X) if accident else X
                    odd = rng.uniform(0, _CENTRE, (300, 3))[:, : X.shape[1]]
                    new = TABLES[kind](rng, 2000)
                    detector = DensityOutlierDetector(density, cv=cv, false_alarm_rate=rate).fit(X)
                    alarms.append((detector.predict(new) == -1).mean())
                    hits.append((detector.predict(odd) == -1).mean())
                line += f"{100 * np.mean(alarms):>8.1f}{100 * np.std(alarms):>5.1f}"
                line += f"{100 * np.mean(hits):>8.1f}{np.sum(np.array(hits) > 0.95):>6d}"
        print(line, flush=True)


def split(path, seed, dirty):
    """Training rows, new normal rows, new anomalies."""
    with np.load(path) as table:
        X, y = table["X"].astype(float), table["y"]
    rng = np.random.RandomState(seed)
    normal, odd = (rng.permutation(X[y == label]) for label in (0, 1))
    half = min(len(normal) // 2, _MOST_ROWS)
    known = min(len(odd) // 2, round(half / 19)) if dirty else 0
    return np.concatenate([normal[:half], odd[:known]]), normal[half:], odd[len(odd) // 2 :]


def trimmed(scores, rate):
    """A quantile of what is left within a fence."""
    kept = np.empty(0)
    while len(kept) != len(scores):
        kept = scores
        middle, quartile = np.quantile(kept, [0.5, 0.25])
        scores = kept[kept >= middle - _FENCE * (middle - quartile)]
    return np.quantile(scores, rate)


def thresholds(density, train, rate):
    """The fitted detector, and the threshold of each rule."""
    detector = DensityOutlierDetector(density, false_alarm_rate=rate).fit(train)
    held_out, _ = DensityOutlierDetector(density, cv=BY_ROWS)._scores_of_splits(train, None)
    own = np.quantile(detector.score_samples(train), rate)
    return detector, (detector.offset_, trimmed(held_out, rate), own)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.05])
    parser.add_argument("--components", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=10)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", DoubtfulFitWarning)
    if arguments.data is None:
        for rate in arguments.rates:
            drawn(rate, arguments.rows, arguments.draws)
        return
    paths = sorted((arguments.data / "adbench").glob("*.npz"))
    for dirty in (False, True):
        for rate in arguments.rates:
            each = []
            for path in paths:
                shares = []
                for seed in arguments.seeds:
                    train, normal, odd = split(path, seed, dirty)
                    for k in arguments.components:
                        density = EMGaussianMixture(k, reg_covar=1e-3, random_state=0)
                        detector, found = thresholds(density, train, rate)
                        new = detector.score_samples(normal), detector.score_samples(odd)
                        shares.append([[(s < t).mean() for s in new] for t in found])
                each.append(np.mean(shares, axis=0))
            kind = "dirty" if dirty else "clean"
            print(
                f"\n{kind} training rows, rate {rate:.0%}   false alarms: mean, most     hits: mean"
            )
            for rule, per_table in zip(RULES, np.swapaxes(each, 0, 1), strict=True):
                false, hits = 100 * per_table.T
                print(
                    f"  {rule:<10}{false.mean():>35.1f}{false.max():>6.1f}{hits.mean():>15.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
