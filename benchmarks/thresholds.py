"""False alarms and hits at the thresholds of ``DensityOutlierDetector``, on 16 tables.

    python benchmarks/thresholds.py --data FOLDER [--rates 0.01 0.05] [--components 1 3] [--seeds 0]

``FOLDER/adbench`` holds the tables of ADBench. Half of the normal rows of each (1,500 at most) are
training rows; all other normal rows and half of the anomalies are new. "dirty" adds anomalies to
the training rows, one for 19 normal ones, as far as there are enough. Entries are the shares of new
rows that are flagged, in per cent, means over the seeds:

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

from skemvae import DensityOutlierDetector, EMGaussianMixture

_MOST_ROWS = 1500
_FENCE = 16.0
RULES = ("held out", "trimmed", "own fit")


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
    held_out, _ = detector._held_out_scores(train, None)
    own = np.quantile(detector.score_samples(train), rate)
    return detector, (detector.offset_, trimmed(held_out, rate), own)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.05])
    parser.add_argument("--components", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
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
