"""Variational EM against its peers in the same run.

    python benchmarks/variational.py [--repeats 5] [--only mixture factors costs iterations ends]
                                     [--max-rows 100000] [--against tree]

``mixture``: the table of ``em.py`` for the Bayesian mixture and scikit-learn's. Both are started
once, then go on (``warm_start``) for the same number of iterations, taking turns; medians and
their ratios, by the compiled kernel and without it. ``whole`` is the ratio of whole fits, each
with its own start: ours is a tournament, scikit-learn's one k-means.
``factors``: logistic and Poisson factor models on 20,000 x 50 tables, to convergence; held-out
nats beside those of independent columns, and of a VAE with linear maps, on the same split.
``costs``: seconds of the processor that a fit and the score of 500 rows take, medians, for tables
of one kind of column and of many kinds.
``iterations``: the mixed table of 2,000 rows again, by the bound that some iterations reach; with
``--against``, the tree of another version, in turns with that.
``ends``: factor models of tables of 200 rows, ``--repeats`` of each kind, with acceleration and
without it: how many fits say that they have converged, how many of these gain less than twice
``tol`` in 200 plain iterations more, and the largest of these gains; medians of the iterations
and of the seconds of the processor, and how much lower the accelerated fit ends, at most.
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import time
import warnings

import numpy as np
import sklearn
from em import GRID, N_ITER, STRUCTURES, ByBlas, geometric_mean, problem, turn
from scipy.special import expit
from scipy.stats import poisson
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture

import skemvae
from skemvae import VAEEstimator, VariationalEM
from skemvae.kernel import native
from skemvae.likelihoods import Gaussian
from skemvae.models import BayesianMixture, FactorModel

PATHS = ("kernel", "BLAS")
N_FACTORS = 5
KINDS = ("gaussian", "poisson", "bernoulli")
# The last one is for a process of its own.
PARTS = ("mixture", "factors", "costs", "iterations", "ends", "one-version")


def timed(function, *arguments):
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


def mixture(n, d, k, structure, repeats):
    """Return one row of the table."""
    X, _ = problem(n, d, k, structure)
    common = {"max_iter": N_ITER, "tol": 0, "random_state": 0}
    model = BayesianMixture(k, structure, "dirichlet_process")
    ours = VariationalEM(model, acceleration=None, **common)
    theirs = BayesianGaussianMixture(n_components=k, covariance_type=structure, **common)
    whole = timed(theirs.fit, X) / timed(ours.fit, X)
    estimators = {"kernel": ours, "BLAS": ByBlas(copy.deepcopy(ours)), "sklearn": theirs}
    for estimator in (ours, estimators["BLAS"].estimator, theirs):
        estimator.set_params(warm_start=True)
    inner = {
        name: max(1, int(0.3 / timed(estimator.fit, X))) for name, estimator in estimators.items()
    }
    times = {name: np.empty(repeats) for name in estimators}
    for i in range(repeats):
        for name, estimator in estimators.items():
            times[name][i] = turn(estimator, X, inner[name])
    medians = {name: np.median(values) for name, values in times.items()}
    ratios = {name: np.median(times["sklearn"] / times[name]) for name in PATHS}
    return medians, ratios, whole


def mixtures(repeats, max_rows):
    header = f"{'n':>8} {'d':>4} {'K':>3} | {'kernel':>8} {'BLAS':>8} {'sklearn':>8} | "
    header += "sklearn / kernel, / BLAS |  whole"
    print(f"\nBayesian mixture, {N_ITER} iterations ({native.level or 'no kernel'})")
    for structure in STRUCTURES:
        print(f"\n{structure}\n{header}")
        rows = []
        for n, d, k in GRID:
            if n > max_rows:
                continue
            seconds, ratio, whole = mixture(n, d, k, structure, repeats)
            rows.append(ratio)
            print(
                f"{n:>8} {d:>4} {k:>3} | {seconds['kernel']:>7.4f}s {seconds['BLAS']:>7.4f}s "
                f"{seconds['sklearn']:>7.4f}s | {ratio['kernel']:>16.2f} {ratio['BLAS']:>7.2f} | "
                f"{whole:>6.2f}",
                flush=True,
            )
        for name in PATHS:
            ratios = [row[name] for row in rows]
            print(
                f"{name}: geometric mean of the ratios {geometric_mean(ratios):.2f}, "
                f"smallest {min(ratios):.2f}"
            )


def tables(rng, n=20_000, d=50):
    """Binary and count tables with linear factors behind them."""
    Z, W = rng.standard_normal((n, N_FACTORS)), rng.standard_normal((d, N_FACTORS))
    linear = Z @ W.T
    yield "bernoulli", (rng.random((n, d)) < expit(0.7 * linear + rng.standard_normal(d)))
    yield "poisson", rng.poisson(np.exp(0.3 * linear + 0.5))


def independent(likelihood, train, test):
    """Held-out nats of independent columns."""
    mean = (train.sum(0) + 0.5) / (len(train) + 1)
    if likelihood == "poisson":
        return poisson.logpmf(test, mean).sum(1).mean()
    return (test * np.log(mean) + (1 - test) * np.log1p(-mean)).sum(1).mean()


def factors():
    header = f"{'likelihood':>11} | {'factors':>8} {'iterations':>10} {'VAE':>8}"
    print(
        f"\nFactor models, 16,000 x 50, {N_FACTORS} factors: seconds, then held-out nats of 4,000"
    )
    print(f"{header} | {'factors':>9} {'ELBO':>9} {'VAE':>9} {'ELBO':>9} {'columns':>9}")
    for likelihood, X in tables(np.random.default_rng(0)):
        X = X.astype(float)
        train, test = X[:16_000], X[16_000:]
        model = VariationalEM(FactorModel(N_FACTORS, likelihood), random_state=0)
        vae = VAEEstimator(N_FACTORS, hidden_layer_sizes=(), likelihood=likelihood, random_state=0)
        times = [timed(estimator.fit, train) for estimator in (model, vae)]
        nats = [f(test).mean() for e in (model, vae) for f in (e.score_samples, e.elbo)]
        print(
            f"{likelihood:>11} | {times[0]:>7.1f}s {model.n_iter_:>10} {times[1]:>7.1f}s | "
            + " ".join(f"{value:>9.3f}" for value in nats)
            + f" {independent(likelihood, train, test):>9.3f}",
            flush=True,
        )


# Two factors behind 11 columns: real, counts, bits, labels of 4 and of 12 kinds.
MIXED = [
    ("gaussian", [0, 1, 2, 3, 4]),
    ("poisson", [5, 6]),
    ("bernoulli", [7, 8]),
    ("categorical", [9, 10]),
]


def columns(kind, n):
    """A table of a kind."""
    rng = np.random.default_rng(0)
    Z, W = rng.standard_normal((n, 2)), rng.standard_normal((25, 2))
    linear = Z @ W.T
    if kind == "mixed":
        labels = [
            (linear[:, which] + rng.gumbel(size=linear[:, which].shape)).argmax(1)
            for which in (slice(9, 13), slice(13, 25))
        ]
        parts = [columns("gaussian", n)[:, :5], columns("poisson", n)[:, 5:7]]
        return np.column_stack([*parts, columns("bernoulli", n)[:, 7:9], *labels])
    linear = linear[:, :10]
    if kind == "gaussian":
        return linear + 0.7 * rng.standard_normal(linear.shape)
    if kind == "poisson":
        return rng.poisson(np.exp(0.5 * linear + 0.5)).astype(float)
    return (rng.random(linear.shape) < expit(linear)).astype(float)


def processor(function, *arguments):
    begin = time.process_time()
    function(*arguments)
    return time.process_time() - begin


def costs(repeats, max_rows):
    print("\nFactor models, two factors: seconds of the processor, medians")
    print(f"{'columns':>10} {'rows':>7} | {'fit':>7} {'iterations':>10} | {'score 500':>9}")
    VariationalEM(FactorModel(1)).fit(columns("gaussian", 50))  # loads what has to be loaded
    for kind, likelihood in {"mixed": MIXED, **{k: k for k in KINDS}}.items():
        for n in (2_000, 20_000):
            if n > max_rows:
                continue
            X = columns(kind, n)
            model = VariationalEM(FactorModel(2, likelihood), random_state=0)
            fits = [processor(model.fit, X) for _ in range(repeats)]
            scores = [processor(model.score_samples, X[:500]) for _ in range(repeats)]
            print(
                f"{kind:>10} {n:>7} | {np.median(fits):>6.2f}s {model.n_iter_:>10} | "
                f"{np.median(scores):>8.3f}s",
                flush=True,
            )


def small_tables(rng, n=200):
    """Tables of every kind of column with two factors behind them; their likelihoods."""
    eta = rng.standard_normal((n, 2)) @ rng.standard_normal((2, 6))
    noise = rng.standard_normal(eta.shape)
    counts = rng.poisson(np.exp(0.5 * eta + 0.3))
    bits = rng.random(eta.shape) < expit(eta)
    labels = np.clip(np.round(eta + noise), -2, 2)
    yield "gaussian", "gaussian", eta + 0.7 * noise
    yield "one variance for each row", Gaussian("row"), eta + 0.7 * np.exp(0.3 * eta) * noise
    yield "student_t", "student_t", eta + 0.7 * rng.standard_t(4, eta.shape)
    yield "lognormal", "lognormal", np.exp(eta + 0.7 * noise)
    yield "bernoulli", "bernoulli", bits
    yield "poisson", "poisson", counts
    spread = rng.gamma(2, 0.5, eta.shape)
    yield "negative_binomial", "negative_binomial", rng.poisson(np.exp(0.5 * eta + 0.3) * spread)
    yield "categorical", "categorical", labels
    kinds = [("gaussian", [0, 1]), ("poisson", [2]), ("bernoulli", [3]), ("categorical", [4, 5])]
    columns = [eta[:, :2] + 0.7 * noise[:, :2], counts[:, 2], bits[:, 3], labels[:, 4:]]
    yield "mixed", kinds, np.column_stack(columns)
    kind = rng.integers(0, 3, n)
    yield "labels, each other's", "categorical", np.column_stack([kind, (kind + 1) % 3])


def end(model, X, acceleration):
    """Whether a fit has converged, what 200 iterations more gain; its length, cost and bound."""
    em = VariationalEM(model, acceleration=acceleration, random_state=0)
    seconds = processor(em.fit, X)
    converged, n_iter, bound = em.converged_, em.n_iter_, em.lower_bound_
    em.set_params(warm_start=True, acceleration=None, tol=0, max_iter=200).fit(X)
    return converged, em.lower_bound_ - bound, n_iter, seconds, bound


def ends(repeats):
    print("\nWhere factor models end: fits, then medians of iterations and seconds")
    print(
        f"{'columns':>25} factors | {'':>5} {'converged':>9} {'the law':>7} {'largest':>8} "
        f"{'iterations':>10} {'seconds':>7} | lower, at most"
    )
    tables = [list(small_tables(np.random.default_rng(seed))) for seed in range(repeats)]
    for of_kind in zip(*tables, strict=True):
        name = of_kind[0][0]
        for k in (1, 2):
            found = []
            for _, likelihood, X in of_kind:
                model = FactorModel(k, likelihood)
                found.append([end(model, X.astype(float), how) for how in ("auto", None)])
            values = np.array(found, dtype=float)  # of shape (repeats, 2, 5)
            lower = (values[:, 1, 4] - values[:, 0, 4]).max()
            for i, how in enumerate(("auto", "plain")):
                converged, gain, n_iter, seconds, _ = values[:, i].T
                of_converged = gain[converged == 1]
                print(
                    f"{name if i == 0 else '':>25} {k if i == 0 else '':>7} | {how:>5} "
                    f"{int(converged.sum()):>9} {int((of_converged < 2e-3).sum()):>7} "
                    f"{of_converged.max(initial=0.0):>8.5f} {np.median(n_iter):>10.0f} "
                    f"{np.median(seconds):>7.3f} | " + (f"{lower:>8.5f}" if i == 0 else ""),
                    flush=True,
                )


def iterations(repeats, against):
    """In a process of its own for each version, one after the other."""
    print("\nMixed columns, 2,000 rows: seconds of the processor, medians", flush=True)
    print(
        f"{'':>8} | {'3 iterations':>12} {'bound':>9} | {'6 iterations':>12} {'bound':>9} | ",
        end="",
    )
    print(f"{'score 500':>9} {'nats':>9}", flush=True)
    script = [sys.executable, __file__, "--repeats", str(repeats), "--only", "one-version"]
    for tree in [None] if against is None else [None, against, None, against]:
        print(f"{'this' if tree is None else 'other':>8} | ", end="", flush=True)
        path = os.environ.get("PYTHONPATH", "") if tree is None else tree
        subprocess.run(script, env=os.environ | {"PYTHONPATH": path}, check=True)


def one_version(repeats):
    VariationalEM(FactorModel(1), max_iter=1).fit(columns("gaussian", 50))
    X = columns("mixed", 2_000)
    for n_iter in (3, 6):
        model = VariationalEM(FactorModel(2, MIXED), max_iter=n_iter, tol=0, random_state=0)
        fits = [processor(model.fit, X) for _ in range(repeats)]
        print(f"{np.median(fits):>11.2f}s {model.lower_bound_:>9.4f} | ", end="")
    scores = [processor(model.score_samples, X[:500]) for _ in range(repeats)]
    print(f"{np.median(scores):>8.3f}s {model.score(X[:500]):>9.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--max-rows", type=int, default=100_000)
    parser.add_argument("--only", nargs="+", choices=PARTS)
    parser.add_argument("--against", help="the tree of another version")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if arguments.only == ["one-version"]:
        one_version(arguments.repeats)
        return
    print(
        f"skemvae {skemvae.__version__}, scikit-learn {sklearn.__version__}, {os.cpu_count()} cores"
    )
    if not arguments.only or "mixture" in arguments.only:
        mixtures(arguments.repeats, arguments.max_rows)
    if not arguments.only or "factors" in arguments.only:
        factors()
    if not arguments.only or "costs" in arguments.only:
        costs(arguments.repeats, arguments.max_rows)
    if not arguments.only or "iterations" in arguments.only:
        iterations(arguments.repeats, arguments.against)
    if not arguments.only or "ends" in arguments.only:
        ends(arguments.repeats)


if __name__ == "__main__":
    main()
