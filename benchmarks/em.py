"""Time of EM for Gaussian mixtures, against scikit-learn and pomegranate in the same run.

    python benchmarks/em.py [--repeats 5] [--structures full diag ...] [--max-rows 1000000]
                            [--picture docs/pictures/speed.png]

All run the same number of iterations from the same start, in float64 on all cores. The fits take
turns, so that a machine whose speed drifts slows all alike; medians are printed, and medians of the
ratios. Before each turn there is a rest, because the threads of BLAS and OpenMP stay awake for a
while after what they did last, and would slow the next one; then, for short fits, one that is not
timed, so that caches and clock rates are as in work of one's own. ``kernel`` is skemvae by its
compiled kernel, ``BLAS`` its path without one. pomegranate is left out where it is not installed
(``pip install pomegranate``), and for what it does not have.

``GFLOP/s`` counts 4 n K d^2 operations an iteration for full and tied covariances, 4 n K d for the
others, whatever was really computed; beside it stands the rate of a matrix product of this machine.
``float32`` is the time in float64 divided by the time for the same table in float32. ``extra`` is
the peak memory that a fit allocates beyond X (what NumPy allocates), ``|score|`` the largest
difference between the final mean log likelihoods, in nats.
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
from skemvae.kernel import native

GRID = [
    (1_000, 4, 3),
    (20_000, 8, 10),
    (100_000, 8, 10),
    (50_000, 20, 10),
    (30_000, 50, 20),
    (20_000, 100, 10),
    (50_000, 2, 50),
    (1_000_000, 10, 20),
]
STRUCTURES = ["full", "diag", "tied", "spherical"]
N_ITER = 10
REST = 0.05  # seconds
WIDE = 50  # features from which on float32 is measured as well


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


class Pomegranate:
    """pomegranate's mixture with the interface of scikit-learn's."""

    STRUCTURES = ("full", "diag")

    def __init__(self, parameters):
        self.parameters = parameters

    def fit(self, X):
        """Fit anew from the start."""
        import torch
        from pomegranate.distributions import Normal
        from pomegranate.gmm import GeneralMixtureModel

        start, kind = self.parameters, self.parameters["covariance_type"]
        d = X.shape[1]
        unit = torch.eye(d, dtype=torch.float64) if kind == "full" else torch.ones(d).double()
        components = [
            Normal(torch.tensor(mean), unit.clone(), covariance_type=kind, min_cov=0.0)
            for mean in start["means_init"]
        ]
        self.model = GeneralMixtureModel(
            components,
            priors=torch.tensor(start["weights_init"]),
            max_iter=N_ITER,
            tol=-np.inf,
        )
        self.model.fit(torch.from_numpy(X))
        return self

    def score(self, X):
        """Mean log likelihood."""
        import torch

        return float(self.model.log_probability(torch.from_numpy(X)).mean())


class ByBlas:
    """A fit without the compiled kernel."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X):
        """Fit with passes through NumPy and BLAS."""
        level, native.level = native.level, None
        try:
            self.estimator.fit(X)
        finally:
            native.level = level

    def score(self, X):
        """Mean log likelihood."""
        return self.estimator.score(X)


def has_pomegranate():
    """Whether it is installed."""
    try:
        import pomegranate.gmm  # noqa: F401
    except ImportError:
        return False
    return True


def turn(estimator, X, n_fits):
    """Seconds of a fit, mean of some."""
    time.sleep(REST)
    if n_fits > 1:
        estimator.fit(X)
    return sum(timed(estimator, X) for _ in range(n_fits)) / n_fits


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


def product_rate(dtype, size=2000):
    """GFLOP/s of a matrix product on all cores."""
    a = np.random.default_rng(0).standard_normal((size, size)).astype(dtype)
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - begin)
    return 2e-9 * size**3 / np.median(times)


def compare(n, d, k, structure, repeats):
    """Return one row of the table."""
    X, parameters = problem(n, d, k, structure)
    ours = EMGaussianMixture(k, reg_covar=0, acceleration=None, **parameters)
    fits = {"kernel": (ours, X), "BLAS": (ByBlas(sklearn.clone(ours)), X)}
    if not native.LEVELS:
        del fits["kernel"]
    fits["sklearn"] = GaussianMixture(k, reg_covar=0, **parameters), X
    if structure in Pomegranate.STRUCTURES and has_pomegranate():
        fits["pomegranate"] = Pomegranate(parameters), X
    if d >= WIDE:
        fits["float32"] = sklearn.clone(ours), X.astype(np.float32)
    # Short fits are repeated within a turn.
    inner = {name: max(1, int(0.3 / timed(*fit))) for name, fit in fits.items()}
    times = {name: np.empty(repeats) for name in fits}
    for i in range(repeats):
        for name, fit in fits.items():
            times[name][i] = turn(*fit, inner[name])
    scores = [fit.score(X) for fit, _ in fits.values()]
    times = {name: times.get(name, np.full(repeats, np.nan)) for name in COLUMNS}
    operations = 4e-9 * N_ITER * n * k * d * (d if structure in ("full", "tied") else 1)
    fastest = times["kernel"] if native.LEVELS else times["BLAS"]
    return {
        **{name: np.median(values) for name, values in times.items()},
        **{f"{name} ratio": np.median(times["sklearn"] / times[name]) for name in COLUMNS[:2]},
        "pomegranate ratio": np.median(times["pomegranate"] / fastest),
        "GFLOP/s": operations / np.median(fastest),
        "float32 ratio": np.median(fastest / times["float32"]),
        "extra": extra_memory(ours, X),
        "difference": max(scores) - min(scores),
    }


COLUMNS = ("kernel", "BLAS", "sklearn", "pomegranate", "float32")


def geometric_mean(values):
    """Of what was measured."""
    values = np.array(values)[np.isfinite(values)]
    return np.exp(np.log(values).mean()) if len(values) else np.nan


def draw(tables, path):
    """How many times scikit-learn's time each path needs, for each table size and structure."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(12, 6), sharex=True, layout="constrained")
    for panel, (structure, rows) in zip(panels.flat, tables.items(), strict=False):
        names = [f"{n:,}\n{d} × {k}" for n, d, k in rows]
        for shift, name, colour in ((-0.2, "kernel", "C0"), (0.2, "BLAS", "C7")):
            ratios = [row[f"{name} ratio"] for row in rows.values()]
            bars = panel.bar(np.arange(len(names)) + shift, ratios, 0.4, color=colour, label=name)
            panel.bar_label(bars, fmt="{:.2g}", fontsize=7)
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set(yscale="log", ylim=(0.8, 120), title=structure, xticks=range(len(names)))
        panel.set_xticklabels(names, fontsize=7)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, title="skemvae by", loc="outside right upper")
    figure.supylabel("times faster than scikit-learn")
    figure.supxlabel("rows, features × components")
    figure.savefig(path, dpi=120)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--structures", nargs="+", default=STRUCTURES)
    parser.add_argument("--max-rows", type=int, default=1_000_000)
    parser.add_argument("--picture")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)

    print(
        f"skemvae {skemvae.__version__} ({native.level or 'no kernel'}), scikit-learn "
        f"{sklearn.__version__}, numpy {np.__version__}, {os.cpu_count()} cores; {N_ITER} "
        f"iterations, float64, medians of {arguments.repeats}"
    )
    print(
        f"matrix product: {product_rate(np.float64):.0f} GFLOP/s in float64, "
        f"{product_rate(np.float32):.0f} in float32"
    )
    header = f"{'n':>8} {'d':>4} {'K':>3} | {'kernel':>8} {'BLAS':>8} {'sklearn':>8} {'pomegr.':>8}"
    header += " | sklearn / kernel, / BLAS, pomegr. | GFLOP/s float32 | extra MiB | |score|"
    tables = {}
    for structure in arguments.structures:
        print(f"\n{structure}\n{header}")
        rows = tables[structure] = {}
        for n, d, k in GRID:
            if n > arguments.max_rows:
                continue
            row = compare(n, d, k, structure, arguments.repeats)
            rows[n, d, k] = row
            print(
                f"{n:>8} {d:>4} {k:>3} | {row['kernel']:>7.4f}s {row['BLAS']:>7.4f}s "
                f"{row['sklearn']:>7.4f}s {row['pomegranate']:>7.4f}s | "
                f"{row['kernel ratio']:>16.2f} {row['BLAS ratio']:>7.2f} "
                f"{row['pomegranate ratio']:>8.2f} | {row['GFLOP/s']:>7.1f} "
                f"{row['float32 ratio']:>7.2f} | {row['extra']:>9.1f} | {row['difference']:.0e}",
                flush=True,
            )
        for name in ("kernel", "BLAS", "pomegranate"):
            ratios = [row[f"{name} ratio"] for row in rows.values()]
            if np.isfinite(ratios).any():
                print(
                    f"{name}: geometric mean of the ratios {geometric_mean(ratios):.2f}, "
                    f"smallest {np.nanmin(ratios):.2f}"
                )
    if arguments.picture:
        draw(tables, arguments.picture)


if __name__ == "__main__":
    main()
