"""Base classes of the density estimators: scores, pickling and the scikit-learn API."""

from __future__ import annotations

import copy
import inspect
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any, Self, TypeVar

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_scalar
from sklearn.utils.validation import check_is_fitted

from skemvae._version import __version__
from skemvae.array_api import as_numpy, in_kind
from skemvae.callbacks import CallbackSupportMixin
from skemvae.core.decomposition import BoundDecomposition
from skemvae.core.rows import Rows
from skemvae.core.table import Table
from skemvae.engine.samples.even_sample import EvenSample, at_even_steps
from skemvae.tables.frames import as_set
from skemvae.tables.reading import is_read_in_parts, open_table
from skemvae.typing import (
    Array,
    ArrayLike,
    FloatArray,
    MatrixLike,
    RandomState,
    Scores,
    Tabular,
)
from skemvae.validation import check_random_state, check_weights, shown

# Every fit computes mean surprises from at most this many training rows, with an error of about a
# tenth of a nat. Without rows, they come from this many draws, on demand.
_REFERENCE_ROWS = 128
_REFERENCE_DRAWS = 512


_Estimator = TypeVar("_Estimator")


class VersionMismatchWarning(UserWarning):
    """An estimator was written by another version of skemvae than the one that reads it."""


def warn_of_other_version(name: str, version: str, *, stacklevel: int) -> None:
    """Warn if another version of skemvae wrote an estimator.

    Parameters
    ----------
    name : str
        Name of the estimator.
    version : str
        Version of skemvae that wrote it.
    stacklevel : int
        As in ``warnings.warn``; 1 is the caller.
    """
    if version != __version__:
        warnings.warn(
            f"This {name} was written by version {shown(version)} of skemvae and is now read by "
            f"{__version__}: results may differ. Fit it again, or install that version.",
            VersionMismatchWarning,
            stacklevel=stacklevel + 1,
        )


def weighted_sum(values: Any, weight: Any) -> float:
    """Sum in float64; a weight of 0 leaves out even an infinite value."""
    values = values.astype(np.float64)
    if weight is None:
        return float(values.sum())
    return float(weight[weight > 0] @ values[weight > 0])


def with_error(log_density: FloatArray, std: FloatArray | None, return_std: bool) -> Scores:
    """Return log densities as ``score_samples`` does, with standard errors if asked for.

    Parameters
    ----------
    log_density : ndarray of shape (n_samples,)
        Nats.
    std : ndarray of shape (n_samples,) or None
        Standard errors; None means 0, for exact values.
    return_std : bool
        Whether to return standard errors.

    Returns
    -------
    ndarray, or tuple of two
        Of shape (n_samples,).
    """
    if not return_std:
        return log_density
    return log_density, np.zeros_like(log_density) if std is None else std


def scores_of(density: Any, X: MatrixLike, return_std: bool) -> Scores:
    """Return log densities, and standard errors, from any estimator with ``score_samples``.

    Parameters
    ----------
    density : estimator
        Fitted; also a Pipeline or a search that ends in one. A
        ``score_samples`` without ``return_std``, as in scikit-learn, counts as
        exact.
    X : array-like of shape (n_samples, n_features)
        Rows to score.
    return_std : bool
        Whether to also return standard errors.

    Returns
    -------
    ndarray, or tuple of two
        Of shape (n_samples,), nats.
    """
    if not return_std:
        return density.score_samples(X)
    density = getattr(density, "best_estimator_", density)
    if isinstance(density, Pipeline):
        X = density[:-1].transform(X) if len(density) > 1 else X
        return scores_of(density[-1], X, return_std)
    if "return_std" in inspect.signature(density.score_samples).parameters:
        return density.score_samples(X, return_std=True)
    return with_error(density.score_samples(X), None, return_std)


@dataclass(frozen=True)
class _LogLikelihood:
    """The sum of log densities, and the sum of the weights of their rows."""

    total: float
    count: float

    @classmethod
    def of(cls, estimator: DensityEstimator, rows: Rows) -> _LogLikelihood:
        """The log likelihood of one part of a table under an estimator."""
        return cls(weighted_sum(estimator.score_samples(rows.X), rows.weight), rows.total)

    def __add__(self, other: _LogLikelihood) -> _LogLikelihood:
        return _LogLikelihood(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        return self.total / self.count


class DensityEstimator(CallbackSupportMixin, DensityMixin, BaseEstimator, ABC):
    """Base of all estimators of log p(x)."""

    @abstractmethod
    def score_samples(self, X: MatrixLike, return_std: bool = False) -> Scores:
        """log p(x) of each row, or the best bound on it; shape (n,), nats.

        With ``return_std``, also the standard error of each, 0 if it is exact.
        """

    def score(
        self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Mean log density of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score; also batches (``from_batches``), a dask array, or a
            file that is read in slices.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the mean.

        Returns
        -------
        float
            Nats per sample, in the units of X; higher is better. It can be
            positive, since a density can exceed 1.
        """
        if is_read_in_parts(X):
            return self._log_likelihood(X, sample_weight).mean
        log_density = self.score_samples(as_numpy(X))
        weight = check_weights(sample_weight, log_density)
        weight = np.ones(len(log_density)) if weight is None else weight / weight.max()
        return weighted_sum(log_density, weight) / float(weight.sum())

    def _log_likelihood(self, X: Any, sample_weight: Any) -> _LogLikelihood:
        """The log likelihood of a table that is read in parts."""
        table, names = open_table(X, sample_weight)
        expected = getattr(self, "feature_names_in_", None)
        if names is not None and expected is not None and list(names) != list(expected):
            raise ValueError(
                f"X has columns {shown(names)}, but the fit was to {shown(list(expected))}."
            )
        nameless = copy.copy(self)  # parts are arrays without names
        nameless.__dict__.pop("feature_names_in_", None)
        return table.fold(partial(_LogLikelihood.of, nameless))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_skemvae_version": __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("_skemvae_version", "unknown")
        warn_of_other_version(type(self).__name__, version, stacklevel=2)
        super().__setstate__(state)


class LatentDensityEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityEstimator):
    """Base of the estimators of log p(x) with a latent z.

    Subclasses set ``_n_features_out``, the number of columns of ``transform``.
    """

    @abstractmethod
    def decompose_bound(self, X: MatrixLike) -> BoundDecomposition:
        """Decompose the bound of each row into its terms and its gaps to log p(x)."""

    def sample(self, n_samples: int = 1, random_state: RandomState = None) -> tuple[Tabular, Array]:
        """Draw rows from p(x, z), in random order.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows, at least 1.
        random_state : int, Generator, RandomState or None, default=None
            None uses the estimator's own ``random_state``; if that is an
            integer, every call returns the same draws.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features), or a frame after ``set_output``
            In the units of the training rows. An array has dtype object if
            labels are not numbers.
        Z : ndarray of shape (n_samples,) or (n_samples, n_latent)
            The component (or state) of each row, or its latent point.
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        rng = check_random_state(self.random_state if random_state is None else random_state)
        X, Z = self._draw(n_samples, rng)
        return as_set(self, X, self), Z

    @in_kind
    def feature_scores(self, X: MatrixLike) -> Tabular:
        """Score how surprising each value of a row is, given all its other values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to explain.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or a frame after ``set_output``
            ``-log p(x_j | x_-j)`` minus its mean over the training rows, in
            nats, whatever the units of X. 0 is usual, 5 is e^5 times less
            probable than usual. Look first at the value with the largest score
            of a row. The mean comes from at most 128 rows, spread evenly over
            the table. Without rows (known parameters, marginals, conditionals,
            after ``partial_fit``) it comes from draws of the model.

        See Also
        --------
        score_samples : How anomalous a row is as a whole.

        Notes
        -----
        Each score tests one value and trusts all others. So the scores of a
        row do not add up to its log density, and if two values contradict each
        other, both are surprising. With a latent z, ``1 / p(x_j | x_-j)`` is the
        posterior mean of ``1 / p(x_j | z, x_-j)``. Mixtures and Gaussian factor
        models have a closed form; all others average over the points of
        ``score_samples``.

        References
        ----------
        Gelfand, Dey and Chang (1992), "Model determination using predictive
        distributions".

        Examples
        --------
        >>> import numpy as np
        >>> from skemvae import EMGaussianMixture
        >>> rng = np.random.RandomState(0)
        >>> height = rng.normal(170, 10, 500)
        >>> weight = 0.9 * height - 85 + rng.normal(0, 8, 500)
        >>> age = rng.normal(40, 12, 500)
        >>> people = EMGaussianMixture().fit(np.c_[height, weight, age])
        >>> scores = people.feature_scores([[170.0, 140.0, 40.0], [170.0, 70.0, 100.0]])
        >>> scores.argmax(axis=1)
        array([1, 2])
        """
        surprise = -self._log_conditionals(self._rows(X))
        mean = getattr(self, "_mean_surprise", None)
        if mean is None:
            drawn, _ = self._draw(_REFERENCE_DRAWS, np.random.RandomState(0))
            mean = -self._log_conditionals(drawn).mean(axis=0)
        return as_set(self, surprise - mean.astype(surprise.dtype), self, X)

    def _remember_surprise(self, rows: Any, weight: Any) -> None:
        """Set the mean that ``feature_scores`` subtracts, from valid training rows."""
        weight = None if weight is None else weight / weight.max()
        if rows.shape[0] > _REFERENCE_ROWS:
            some = at_even_steps(rows.shape[0], weight, _REFERENCE_ROWS)
            rows, weight = _safe_indexing(rows, some), None
        try:
            surprise = -self._log_conditionals(rows).astype(np.float64)
        except NotImplementedError:  # a user-defined model with densities of whole rows only
            return
        if weight is None:
            self._mean_surprise = surprise.mean(axis=0)
        else:
            self._mean_surprise = (weight / weight.sum()) @ surprise

    def _remember_surprise_of(self, table: Table) -> None:
        """Set the mean that ``feature_scores`` subtracts, from the training table."""
        sample = table.fold(partial(EvenSample.of, size=_REFERENCE_ROWS))
        self._remember_surprise(sample.X, sample.weight)

    @abstractmethod
    def _rows(self, X: Any) -> Any:
        """Check that the estimator is fitted, and return valid rows."""

    @abstractmethod
    def _draw(self, n: int, rng: np.random.RandomState) -> tuple[Any, Any]:
        """The same as ``sample``, but arrays whatever ``set_output`` says."""

    @abstractmethod
    def _log_conditionals(self, rows: Any) -> Any:
        """``log p(x_j | x_-j)`` of valid rows, up to a constant per column; shape (n, d)."""

    def aic(self, X: MatrixLike, sample_weight: ArrayLike | None = None) -> float:
        """Akaike's information criterion; the lower, the better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows that the model was fitted to.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        float
            Minus twice the total log likelihood in nats, plus twice the
            number of free parameters.
        """
        log_likelihood, _ = self._total(X, sample_weight)
        return float(-2 * log_likelihood + 2 * self.n_parameters_)

    def bic(self, X: MatrixLike, sample_weight: ArrayLike | None = None) -> float:
        """Bayesian information criterion; the lower, the better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows that the model was fitted to.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        float
            Minus twice the total log likelihood in nats, plus log n for each
            free parameter.
        """
        log_likelihood, n = self._total(X, sample_weight)
        return float(-2 * log_likelihood + np.log(n) * self.n_parameters_)

    def _total(self, X: Any, sample_weight: Any) -> tuple[float, float]:
        """The log likelihood of all rows, and the sum of their weights."""
        if is_read_in_parts(X):
            likelihood = self._log_likelihood(X, sample_weight)
            return likelihood.total, likelihood.count
        mean = self.score(X, sample_weight=sample_weight)
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        weight = check_weights(sample_weight, np.empty(n_rows))
        n = float(n_rows if weight is None else weight.sum())
        return n * mean, n

    def _set(self, **attributes: Any) -> Self:
        for name, value in attributes.items():
            setattr(self, name, value)
        return self
