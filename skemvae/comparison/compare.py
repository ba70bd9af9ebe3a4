"""``compare``: compare estimators by the log density of held-out rows."""

from __future__ import annotations

import html
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import is_outlier_detector
from sklearn.exceptions import FitFailedWarning
from sklearn.pipeline import Pipeline

from skemvae.array_api import as_numpy
from skemvae.comparison.held_out import (
    HeldOutDensity,
    held_out_densities,
    mean_and_error,
    named_estimators,
    rows_text,
    seconds_text,
)
from skemvae.core.arrays import quietly
from skemvae.optional import require
from skemvae.tables.reading import check_in_memory
from skemvae.typing import ArrayLike, Axes, DataFrame, Estimators, FloatArray, MatrixLike, Splits
from skemvae.validation import check_choice, check_splits


class IncomparableDensitiesWarning(UserWarning):
    """Compared estimators have log densities in different units."""


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Estimators ranked by their held-out log density.

    Attributes
    ----------
    results : tuple of HeldOutDensity
        From the best to the worst; those that failed come last.
    n_folds : int
        Number of fits of each estimator.
    """

    results: tuple[HeldOutDensity, ...]
    n_folds: int

    @property
    def best(self) -> HeldOutDensity:
        """The estimator with the highest mean.

        Returns
        -------
        HeldOutDensity
            The first of the results.
        """
        return self.results[0]

    @property
    def log_densities(self) -> dict[str, FloatArray]:
        """Held-out log density of each row, by name of the estimator.

        Returns
        -------
        dict of str to ndarray of shape (n_samples,)
            Nats, in the units of X.
        """
        return {result.name: result.log_density for result in self.results}

    def __getitem__(self, name: str) -> HeldOutDensity:
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(f"{name!r} is not among {[result.name for result in self.results]}.")

    def difference(self, name: str, other: str | None = None) -> tuple[float, float]:
        """Mean difference between two estimators, with its paired standard error.

        Parameters
        ----------
        name, other : str
            Two estimators; ``other=None`` means the best.

        Returns
        -------
        difference : float
            Mean of log p(x) - log p_other(x) over the rows, in nats per row;
            not finite if some rows have density 0.
        standard_error : float
            The *paired* standard error: the standard deviation of the
            differences of the rows, divided by the square root of their
            number. Rows that are hard for both cancel, so it is much smaller
            than the errors of the two means. It does not include how the fits
            vary with the training rows.

        References
        ----------
        Bengio and Grandvalet (2004), "No unbiased estimator of the variance
        of k-fold cross-validation".
        """
        ours, theirs = self[name], self.best if other is None else self[other]
        if ours is theirs:
            return 0.0, 0.0
        # The difference is undefined if both are -inf.
        difference = quietly(np.subtract, ours.log_density, theirs.log_density)
        undecided = np.isneginf(ours.log_density) & np.isneginf(theirs.log_density)
        return (math.nan, math.nan) if undecided.any() else mean_and_error(difference)

    def to_frame(self) -> DataFrame:
        """Return the results as a pandas DataFrame, one row per estimator, the best first.

        Returns
        -------
        DataFrame
            Indexed by name, with columns ``mean``, ``standard_error``,
            ``difference`` to the best, ``difference_error`` (paired),
            ``n_impossible``, ``fit_time``, ``score_time``, ``n_parameters``
            and ``error``.
        """
        pd = require("pandas", purpose="Comparison.to_frame")

        columns = ["mean", "standard_error", "n_impossible", "fit_time", "score_time"]
        columns += ["n_parameters", "error"]
        frame = pd.DataFrame(
            [[getattr(result, column) for column in columns] for result in self.results],
            index=pd.Index([result.name for result in self.results], name="estimator"),
            columns=columns,
        )
        difference, error = zip(*(self.difference(name) for name in frame.index), strict=True)
        frame.insert(2, "difference", difference)
        frame.insert(3, "difference_error", error)
        return frame

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plot the mean of each estimator as a dot, with paired errors.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        matplotlib Axes
            Error bars are one paired standard error of the difference to the
            best. A mean of -inf is an arrow at the left edge, with the number
            of rows of density 0. An estimator that failed has no dot.
        """
        plt = require("matplotlib.pyplot", purpose="Comparison.plot")

        if ax is None:
            height = 1.2 + 0.4 * len(self.results)
            ax = plt.subplots(figsize=(7, height), layout="constrained")[1]
        if np.isfinite(self.best.mean):
            ax.axvline(self.best.mean, color="0.8", zorder=0)
        at_left_edge = ax.get_yaxis_transform()
        for i, result in enumerate(self.results):
            if result.error is not None:
                note = "failed"
            elif math.isinf(result.mean):
                note = f"−inf: {rows_text(result.n_impossible)} of density 0"
                ax.plot(0.015, i, "<", color="C3", transform=at_left_edge)
            else:
                error = self.difference(result.name)[1]
                colour = "C0" if result is self.best else "0.3"
                ax.errorbar(result.mean, i, xerr=error, fmt="o", capsize=3, color=colour)
                continue
            ax.text(0.04, i, note, color="C3", va="center", transform=at_left_edge)
        ax.set_yticks(range(len(self.results)), [result.name for result in self.results])
        ax.set_ylim(len(self.results) - 0.5, -0.5)
        ax.set_xlabel("held-out nats per row (bars: paired standard error to the best)")
        return ax

    def __repr__(self) -> str:
        header, *rows = self._table()
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        lines = [self._caption()]
        for name, *cells in (header, *rows):
            padded = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
            lines.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
        return "\n".join([*lines, *self._failures()])

    def _repr_html_(self) -> str:
        rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self._table()]
        failures = "".join(f"<p>{html.escape(failure)}</p>" for failure in self._failures())
        return (
            f"<table><caption>{html.escape(self._caption())}</caption>"
            f"<thead><tr>{rows[0].replace('td>', 'th>')}</tr></thead>"
            f"<tbody>{''.join(f'<tr>{row}</tr>' for row in rows[1:])}</tbody></table>{failures}"
        )

    def _caption(self) -> str:
        n = int((~np.isnan(self.best.log_density)).sum())
        return f"Held-out log density of {rows_text(n)}, nats per row, {self.n_folds} folds"

    def _table(self) -> Iterator[tuple[str, ...]]:
        """The header, then one row per estimator, as text."""
        yield "", "mean", "to the best", "fit", "score", "parameters"
        errors = [self.difference(result.name)[1] for result in self.results]
        digits = _digits([result.standard_error for result in self.results] + errors)
        for result in self.results:
            if result.error is not None:
                yield result.name, "failed", "", "", "", ""
                continue
            mean = f"{result.mean:.{digits}f} ± {result.standard_error:.{digits}f}"
            difference = "{:+.{d}f} ± {:.{d}f}".format(*self.difference(result.name), d=digits)
            n_parameters = "" if result.n_parameters is None else f"{result.n_parameters:,.0f}"
            yield (
                result.name,
                f"-inf ({rows_text(result.n_impossible)})" if math.isinf(result.mean) else mean,
                "" if result is self.best or math.isinf(result.mean) else difference,
                seconds_text(result.fit_time),
                seconds_text(result.score_time),
                n_parameters,
            )

    def _failures(self) -> list[str]:
        return [f"{result.name}: {result.error}" for result in self.results if result.error]


def compare(
    estimators: Estimators,
    X: MatrixLike,
    *,
    cv: Splits = 5,
    groups: ArrayLike | None = None,
    error_score: str = "warn",
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Comparison:
    """Compare density estimators by the log density of held-out rows.

    All are fitted to the same folds and score the same rows, so they can be
    compared row by row.

    Parameters
    ----------
    estimators : dict of str to estimator, or list of estimators
        Estimators with ``fit`` and a ``score_samples`` that returns log
        densities: those of skemvae, ``GaussianMixture``, ``KernelDensity``,
        ``TransformedDensity``, pipelines, searches. They are cloned. Names
        for a list consist of the class and the parameters that differ.
    X : array-like of shape (n_samples, n_features)
        Rows, as an array or a frame.
    cv : int, splitter or iterable of (train, test), default=5
        As in ``cross_val_score``: an integer splits the rows *in their order*.
        If the rows are sorted, pass ``KFold(5, shuffle=True, random_state=0)``.
        All estimators use the same splits.
    groups : array-like of shape (n_samples,), default=None
        For splitters that keep groups together.
    error_score : {"warn", "raise"}, default="warn"
        What to do if an estimator raises an error: warn and put it at the end
        of the table, or raise the error.
    n_jobs : int, default=None
        Number of folds to fit in parallel. It does not change the results,
        but times grow if jobs share processors.
    verbose : int, default=0
        1 prints a line for each fold.

    Returns
    -------
    Comparison
        Means in nats per row, differences to the best with paired standard
        errors, times and numbers of parameters. It prints as a table and has
        a ``plot``.

    Raises
    ------
    ValueError
        If there is nothing to compare, if one is an outlier detector, whose
        scores are not log densities, or if all estimators fail.
    TypeError
        If one is not an estimator.

    Warns
    -----
    IncomparableDensitiesWarning
        If pipelines transform the rows differently before the density. Use
        ``TransformedDensity`` instead, whose densities are in the units of X.
    FitFailedWarning
        If some estimators failed.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import KFold
    >>> from skemvae import EMGaussianMixture, VariationalEM, compare
    >>> X = load_wine().data[:, :5]
    >>> estimators = {"EM": EMGaussianMixture(random_state=0), "VB": VariationalEM(random_state=0)}
    >>> comparison = compare(estimators, X, cv=KFold(5, shuffle=True, random_state=0))
    >>> comparison.best.name
    'VB'
    >>> difference, standard_error = comparison.difference("EM")
    >>> difference < 0
    True
    """
    check_choice("error_score", error_score, {"warn", "raise"})
    check_in_memory(X)
    X = as_numpy(X)
    named = named_estimators(estimators)
    _check_densities(named)
    _warn_of_units(named)
    folds = check_splits(cv, X, groups)
    results = held_out_densities(
        named, X, folds, error_score=error_score, n_jobs=n_jobs, verbose=verbose
    )
    failed = [f"{result.name}: {result.error}" for result in results if result.error]
    if len(failed) == len(results):
        raise ValueError("All estimators failed. " + " ".join(failed))
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(results)} estimators failed and come last. " + " ".join(failed),
            FitFailedWarning,
            stacklevel=2,
        )
    return Comparison(tuple(sorted(results, key=lambda result: result.rank)), len(folds))


def _check_densities(named: Mapping[str, Any]) -> None:
    for name, estimator in named.items():
        if isinstance(estimator, type) or not hasattr(estimator, "fit"):
            raise TypeError(f"estimators[{name!r}]={estimator!r} is no estimator: it has no fit.")
        if is_outlier_detector(estimator):
            raise ValueError(
                f"estimators[{name!r}]={estimator!r} is an outlier detector: its scores are not "
                "log densities. If it is made of a density, compare that."
            )


def _warn_of_units(named: Mapping[str, Any]) -> None:
    """Warn if the rows are transformed differently before the densities."""
    by_transformation = {_transformation(estimator): name for name, estimator in named.items()}
    if len(by_transformation) > 1:
        ways = ", ".join(
            f"{name!r} transforms by {' and '.join(steps)}" if steps else f"{name!r} does not"
            for steps, name in by_transformation.items()
        )
        warnings.warn(
            f"The densities have different units: {ways}. Their values cannot be compared. Put "
            "each transformer into a TransformedDensity(transformer, estimator), whose densities "
            "are in the units of X.",
            IncomparableDensitiesWarning,
            stacklevel=3,
        )


def _transformation(estimator: Any) -> tuple[str, ...]:
    """The transformers before the density, in searches too."""
    if isinstance(estimator, Pipeline):
        *before, (_, last) = estimator.steps
        steps = (repr(step) for _, step in before if step not in (None, "passthrough"))
        return (*steps, *_transformation(last))
    inner = getattr(estimator, "estimator", None)
    return () if inner is None else _transformation(inner)


def _digits(errors: list[float]) -> int:
    """Number of decimals for two digits of the smallest error, unless it is negligible."""
    positive = [error for error in errors if math.isfinite(error) and error > 0]
    if not positive:
        return 3
    smallest = max(min(positive), max(positive) / 100)
    return int(np.clip(1 - math.floor(math.log10(smallest)), 0, 6))
