"""What the density estimators share: scores, pickles and their place in scikit-learn."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)

from skemvae._version import __version__
from skemvae.callbacks import CallbackSupportMixin
from skemvae.core.decomposition import BoundDecomposition
from skemvae.validation import check_weights


class VersionMismatchWarning(UserWarning):
    """An estimator is read by another version of skemvae than wrote it."""


def warn_of_other_version(name: str, version: str, *, stacklevel: int) -> None:
    """Warn unless ``version``, which wrote an estimator, is this one.

    Parameters
    ----------
    name : str
        Of the estimator.
    version : str
        Of skemvae.
    stacklevel : int
        As in ``warnings.warn``, 1 being the caller.
    """
    if version != __version__:
        warnings.warn(
            f"This {name} was written by skemvae {version} and is now read by {__version__}: "
            f"results may differ. Fit it again, or install {version}.",
            VersionMismatchWarning,
            stacklevel=stacklevel + 1,
        )


@contextmanager
def unchanged_if_refused(estimator: Any) -> Iterator[None]:
    """Restore the attributes of an estimator if an error is raised within.

    Parameters
    ----------
    estimator : estimator
        About to be fitted.
    """
    before = estimator.__dict__.copy()
    try:
        yield
    except BaseException:
        estimator.__dict__ = before
        raise


def weighted_sum(values: Any, weight: Any) -> float:
    """Sum in float64; a weight of 0 leaves out even an infinite value."""
    values = values.astype(np.float64)
    if weight is None:
        return float(values.sum())
    return float(weight[weight > 0] @ values[weight > 0])


class LatentDensityEstimator(
    CallbackSupportMixin,
    DensityMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    ABC,
):
    """Base of the estimators of log p(x) with a latent z.

    Subclasses set ``_n_features_out``, the number of columns of ``transform``.
    """

    @abstractmethod
    def score_samples(self, X: Any) -> Any:
        """log p(x) of each row, or the best bound on it; shape (n,), nats."""

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log density of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        y : Ignored
            Present for the API only.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the mean.

        Returns
        -------
        float
            Nats per sample, in the units of X: higher is better. A density
            can exceed 1, so its logarithm can be positive.
        """
        log_density = self.score_samples(X)
        weight = check_weights(sample_weight, log_density)
        weight = np.ones(len(log_density)) if weight is None else weight / weight.max()
        return weighted_sum(log_density, weight) / float(weight.sum())

    @abstractmethod
    def decompose_bound(self, X: Any) -> BoundDecomposition:
        """Explain the bound of each row: what z explains, what q costs, what is lost."""

    def aic(self, X: Any, sample_weight: Any = None) -> float:
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
        n = self._count(X, sample_weight)
        log_likelihood = n * self.score(X, sample_weight=sample_weight)
        return float(-2 * log_likelihood + 2 * self.n_parameters_)

    def bic(self, X: Any, sample_weight: Any = None) -> float:
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
        n = self._count(X, sample_weight)
        log_likelihood = n * self.score(X, sample_weight=sample_weight)
        return float(-2 * log_likelihood + np.log(n) * self.n_parameters_)

    def _count(self, X: Any, sample_weight: Any) -> float:
        weight = check_weights(sample_weight, np.empty(np.shape(X)[:1]))
        return float(np.shape(X)[0] if weight is None else weight.sum())

    def _set(self, **attributes: Any) -> Self:
        for name, value in attributes.items():
            setattr(self, name, value)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_skemvae_version": __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("_skemvae_version", "unknown")
        warn_of_other_version(type(self).__name__, version, stacklevel=2)
        super().__setstate__(state)
