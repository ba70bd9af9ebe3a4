"""Named estimators, fitted to folds, and their log densities of held-out rows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed

from skemvae.core.arrays import quietly


@dataclass(frozen=True, eq=False)
class HeldOutDensity:
    """Held-out log density of one estimator.

    Attributes
    ----------
    name : str
    log_density : ndarray of shape (n_samples,)
        log p(x) of each row, in nats, by a fit without this row; the mean if
        the row was held out more than once, NaN if it never was.
    fit_time, score_time : float
        Mean time of one fold in seconds.
    n_parameters : float or None
        Mean number of free parameters over the folds; None if unknown.
    error : str or None
        Why a fold failed; all log densities are then NaN.
    """

    name: str
    log_density: Any
    fit_time: float
    score_time: float
    n_parameters: float | None
    error: str | None

    @property
    def mean(self) -> float:
        """Mean over the rows, in nats per row; -inf if a row has density 0."""
        return mean_and_error(self.log_density)[0]

    @property
    def standard_error(self) -> float:
        """Standard error of the mean: its variation with the rows that are scored."""
        return mean_and_error(self.log_density)[1]

    @property
    def n_impossible(self) -> int:
        """Number of rows with density 0."""
        return int(np.isneginf(self.log_density).sum())

    @property
    def rank(self) -> tuple[bool, float, int, str]:
        """Key that sorts results from the best to the worst."""
        return self.error is not None, -self.mean, self.n_impossible, self.name


def held_out_densities(
    named: Mapping[str, Any],
    X: Any,
    folds: Sequence[Any],
    *,
    error_score: str,
    n_jobs: int | None,
    verbose: int,
) -> list[HeldOutDensity]:
    """Fit all estimators to the same folds, and score the held-out rows.

    Parameters
    ----------
    named : mapping of str to estimator
    X : array or frame
    folds : sequence of (train, test)
    error_score, n_jobs, verbose
        As in ``compare``.

    Returns
    -------
    list of HeldOutDensity
        In the order of ``named``.
    """
    fit_and_score = delayed(_fit_and_score)
    parts = Parallel(n_jobs=n_jobs)(
        fit_and_score(estimator, X, fold, name, f"fold {i} of {len(folds)}", error_score, verbose)
        for (name, estimator), (i, fold) in product(named.items(), enumerate(folds, 1))
    )
    n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
    n = len(folds)
    return [
        _merged(name, parts[i * n : (i + 1) * n], folds, n_rows) for i, name in enumerate(named)
    ]


@dataclass(frozen=True)
class _Fold:
    """One estimator on one fold."""

    log_density: Any = None
    fit_time: float = math.nan
    score_time: float = math.nan
    n_parameters: float | None = None
    error: str | None = None


def _fit_and_score(
    estimator: Any, X: Any, fold: Any, name: str, which: str, error_score: str, verbose: int
) -> _Fold:
    train, test = fold
    start = time.perf_counter()
    try:
        fitted = clone(estimator).fit(_safe_indexing(X, train))
        fit_time = time.perf_counter() - start
        start = time.perf_counter()
        log_density = np.asarray(fitted.score_samples(_safe_indexing(X, test)), dtype=np.float64)
        score_time = time.perf_counter() - start
        _check_log_density(log_density, len(test))
    except Exception as error:
        if error_score == "raise":
            raise
        message = f"{type(error).__name__} in {which}: {error}"
        if verbose:
            print(f"{name}, {message}", flush=True)
        return _Fold(error=message)
    if verbose:
        summary = f"{log_density.mean():.3f} nats per row, fitted in {seconds_text(fit_time)}"
        print(f"{name}, {which}: {summary}", flush=True)
    return _Fold(log_density, fit_time, score_time, _n_parameters(fitted))


def _check_log_density(log_density: Any, n: int) -> None:
    if log_density.shape != (n,):
        raise ValueError(f"score_samples returned shape {log_density.shape}, expected ({n},).")
    wrong = np.isnan(log_density) | np.isposinf(log_density)
    if wrong.any():
        raise ValueError(f"score_samples returned NaN or +inf for {rows_text(int(wrong.sum()))}.")


def _n_parameters(fitted: Any) -> float | None:
    """Number of parameters of the density inside pipelines and searches, or None."""
    if hasattr(fitted, "n_parameters_"):
        return float(fitted.n_parameters_)
    if isinstance(fitted, Pipeline):
        return _n_parameters(fitted[-1])
    inner = getattr(fitted, "best_estimator_", getattr(fitted, "estimator_", None))
    return None if inner is None else _n_parameters(inner)


def _merged(name: str, parts: list[_Fold], folds: Any, n: int) -> HeldOutDensity:
    """Merge all folds of one estimator."""
    errors = [part.error for part in parts if part.error]
    if errors:
        return HeldOutDensity(name, np.full(n, np.nan), math.nan, math.nan, None, errors[0])
    total, count = np.zeros(n), np.zeros(n)
    for part, (_, test) in zip(parts, folds, strict=True):
        total[test] += part.log_density
        count[test] += 1
    log_density = quietly(np.divide, total, count)
    sizes = [part.n_parameters for part in parts]
    return HeldOutDensity(
        name,
        log_density,
        float(np.mean([part.fit_time for part in parts])),
        float(np.mean([part.score_time for part in parts])),
        None if None in sizes else float(np.mean(np.array(sizes, dtype=float))),
        None,
    )


# Names.


def named_estimators(estimators: Any) -> dict[str, Any]:
    """Estimators by name; those of a list are given names."""
    if not isinstance(estimators, Mapping):
        if not isinstance(estimators, Iterable):
            raise TypeError(
                f"estimators={estimators!r} must be a dict of names to estimators, or a list."
            )
        estimators = list(estimators)
        estimators = dict(zip(_names(estimators), estimators, strict=True))
    if not estimators:
        raise ValueError(f"estimators={estimators!r} is empty: give at least one.")
    return {str(name): estimator for name, estimator in estimators.items()}


def _names(estimators: list[Any]) -> list[str]:
    """Names from the class, and from the parameters that differ within a class."""
    classes = [_class_name(estimator) for estimator in estimators]
    values = [_plain_parameters(estimator) for estimator in estimators]
    names: list[str] = []
    for name, own in zip(classes, values, strict=True):
        others = [value for other, value in zip(classes, values, strict=True) if other == name]
        differing = [
            f"{key}={value}"
            for key, value in own.items()
            if any(other.get(key) != value for other in others)
        ]
        names.append(f"{name}({', '.join(differing)})" if differing else name)
    return [
        f"{name} #{names[: i + 1].count(name)}" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _class_name(estimator: Any) -> str:
    if isinstance(estimator, Pipeline):
        return " | ".join(_class_name(step) for _, step in estimator.steps if step != "passthrough")
    return type(estimator).__name__


def _plain_parameters(estimator: Any) -> dict[str, str]:
    """Parameters other than estimators, whose own parameters are listed instead."""
    if not hasattr(estimator, "get_params"):
        return {}
    return {
        name: repr(value)
        for name, value in sorted(estimator.get_params().items())
        if not hasattr(value, "get_params") and name not in ("steps", "verbose")
    }


# Numbers and their format.


def mean_and_error(values: Any) -> tuple[float, float]:
    """Mean over the rows that are not NaN, and its standard error."""
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return math.nan, math.nan
    mean = float(values.mean())
    if len(values) == 1 or not math.isfinite(mean):
        return mean, math.nan
    return mean, float(values.std(ddof=1) / math.sqrt(len(values)))


def seconds_text(seconds: float) -> str:
    """Format seconds, as in "120 ms"."""
    if seconds < 1:
        return f"{1000 * seconds:.{1 if seconds < 0.01 else 0}f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def rows_text(n: int) -> str:
    """Format a number of rows, as in "12 rows"."""
    return f"{n:,} row" if n == 1 else f"{n:,} rows"
