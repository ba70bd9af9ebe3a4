"""The methods of a density behind a transformer, in the units before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import _safe_indexing, check_scalar
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skemvae.array_api import as_numpy, in_kind
from skemvae.base import DensityEstimator, scores_of, weighted_sum, with_error
from skemvae.bijections import Bijection
from skemvae.core.decomposition import BoundDecomposition
from skemvae.tables.frames import as_set
from skemvae.tables.numbers import check_no_gaps
from skemvae.tables.reading import check_in_memory, check_rows, validated
from skemvae.transformed.truncation import draw_within
from skemvae.typing import (
    Array,
    ArrayLike,
    FloatArray,
    IntArray,
    MatrixLike,
    RandomState,
    Scores,
    Tabular,
)
from skemvae.validation import check_random_state, check_weights


def _density_has(name: str) -> Callable[[Any], bool]:
    """Whether the inner density has a method; if not, its AttributeError is raised."""

    def check(estimator: Any) -> bool:
        getattr(getattr(estimator, "estimator_", estimator.estimator), name)
        return True

    return check


def _can_explain(estimator: Any) -> bool:
    """Whether the transformer acts on each column separately, as ``feature_scores`` needs."""
    _density_has("feature_scores")(estimator)
    leaves = estimator.bijection_.leaves() if hasattr(estimator, "bijection_") else ()
    for leaf in leaves:
        if not leaf.acts_by_column:
            name = " ".join(str(leaf.transformer).split())
            raise AttributeError(
                f"feature_scores needs a transformer of each column alone, but {name} may mix "
                "columns. Use scalers, powers, named functions or functions of single columns, or "
                "explain the transformed rows with "
                "estimator_.feature_scores(transformer_.transform(X))."
            )
    return True


class DensityInOriginalUnits(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityEstimator):
    """Methods of an estimator with a ``bijection_`` and a density ``estimator_`` behind it."""

    transformer: BaseEstimator
    bijection_: Bijection
    estimator_: BaseEstimator
    log_mass_: float
    _mean_log_slopes: Any

    # Densities.

    @in_kind
    def score_samples(self, X: MatrixLike, return_std: bool = False) -> Scores:
        """Log density log p(x) of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        return_std : bool, default=False
            Whether to also return the standard errors of the density's
            scores; zeros if it has none.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Nats, in the units of X; -inf where the transformer is not
            defined, such as at x <= 0 for Box-Cox: such an x has density 0.
        std : ndarray of shape (n_samples,)
            Standard errors. Only if ``return_std``.
        """
        check_is_fitted(self)
        return self._log_density(partial(scores_of, self.estimator_), X, return_std)

    @available_if(_density_has("elbo"))
    @in_kind
    def elbo(self, X: MatrixLike, return_std: bool = False) -> Scores:
        """Bound on log p(x) (ELBO, free energy) of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        return_std : bool, default=False
            Whether to also return standard errors. Only for densities that
            have them.

        Returns
        -------
        elbo : ndarray of shape (n_samples,)
            Nats, in the units of X. The gap to ``score_samples`` is that of
            the density.
        std : ndarray of shape (n_samples,)
            Standard errors. Only if ``return_std``.
        """
        check_is_fitted(self)

        def elbo(rows: Any, return_std: bool) -> Any:
            both = {"return_std": True} if return_std else {}
            return self.estimator_.elbo(rows, **both)

        return self._log_density(elbo, X, return_std)

    @available_if(_density_has("decompose_bound"))
    @in_kind
    def decompose_bound(self, X: MatrixLike) -> BoundDecomposition:
        """Decompose the bound of each row into its terms and its gaps to log p(x).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to explain.

        Returns
        -------
        BoundDecomposition
            The decomposition by the density, with likelihoods in the units of
            X.
        """
        transformed, log_volume = self._within(X)
        parts: BoundDecomposition = self.estimator_.decompose_bound(transformed)
        return replace(
            parts,
            log_likelihood=parts.log_likelihood + log_volume,
            elbo=parts.elbo + log_volume,
        )

    @available_if(_can_explain)
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
            nats. It is the score of the transformed value, minus the log slope
            of the transformer relative to its mean. Only if the density has
            this method and the transformer acts on each column separately.

        See Also
        --------
        EMGaussianMixture.feature_scores : What the scores mean.

        Notes
        -----
        ``log p(x_j | x_-j) = log p(y_j | y_-j) + log |dy_j/dx_j|``. The scores
        ignore mass that the density has outside the image.
        """
        transformed, _ = self._within(X)
        places, log_slopes = self.bijection_.by_columns(self._rows(X))
        surprise = np.asarray(self.estimator_.feature_scores(transformed))[:, places]
        stretch = (log_slopes - self._mean_log_slopes).astype(surprise.dtype)
        return as_set(self, surprise - stretch, self, X)

    @available_if(_density_has("aic"))
    def aic(self, X: MatrixLike, sample_weight: ArrayLike | None = None) -> float:
        """Akaike's information criterion; the lower, the better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows that the density was fitted to.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        float
            Minus twice the total log likelihood in nats, plus twice the
            number of free parameters, including powers of the transformer.
        """
        return self._criterion("aic", X, sample_weight, lambda n: 2)

    @available_if(_density_has("bic"))
    def bic(self, X: MatrixLike, sample_weight: ArrayLike | None = None) -> float:
        """Bayesian information criterion; the lower, the better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows that the density was fitted to.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        float
            Minus twice the total log likelihood in nats, plus log n for each
            free parameter, including powers of the transformer.
        """
        return self._criterion("bic", X, sample_weight, math.log)

    # Methods of the density, for transformed rows.

    @available_if(_density_has("predict"))
    @in_kind
    def predict(self, X: MatrixLike) -> IntArray:
        """Predict with the density, for example the most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to assign.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``estimator_.predict`` of the transformed rows.
        """
        transformed, _ = self._within(X)
        return self.estimator_.predict(transformed)

    @available_if(_density_has("predict_proba"))
    @in_kind
    def predict_proba(self, X: MatrixLike) -> FloatArray:
        """Responsibilities: the posterior probability of each component of the density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to assign.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            ``estimator_.predict_proba`` of the transformed rows.
        """
        transformed, _ = self._within(X)
        return self.estimator_.predict_proba(transformed)

    @in_kind
    def transform(self, X: MatrixLike) -> FloatArray:
        """Transform rows with the density, for example to posterior means of z.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to transform.

        Returns
        -------
        ndarray of shape (n_samples, n_latent)
            ``estimator_.transform`` of the transformed rows.
        """
        transformed, _ = self._within(X)
        return np.asarray(self.estimator_.transform(transformed))

    @available_if(_density_has("sample"))
    def sample(self, n_samples: int = 1, random_state: RandomState = None) -> tuple[Tabular, Array]:
        """Draw rows in the units of X.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows, at least 1.
        random_state : int, Generator, RandomState or None, default=None
            None uses the density's own ``random_state``, if it has one; if
            that is an integer, every call returns the same draws.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features), or a frame after ``set_output``
            Draws of the density, transformed back. Draws outside the image of
            the transformer are rejected and replaced.
        Z : ndarray of shape (n_samples, ...) or None
            What the density returns with its draws: components, or points z.

        Raises
        ------
        ValueError
            If a FunctionTransformer has no ``inverse_func``, or almost all
            draws of the density fall outside the image.
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        own = getattr(self.estimator_, "random_state", None)
        rng = check_random_state(own if random_state is None else random_state)
        X, Z = self._draw(n_samples, rng)
        return as_set(self, X, self), Z

    # Shared by all of these.

    @property
    def _n_features_out(self) -> int:
        return len(self.estimator_.get_feature_names_out())

    def _draw(self, n: int, rng: Any) -> tuple[Any, Any]:
        return draw_within(self.bijection_, self.estimator_, n, math.exp(self.log_mass_), rng)

    def _log_density(self, answer: Callable[[Any, bool], Any], X: Any, return_std: bool) -> Any:
        """Convert scores that ``estimator_`` gives to transformed rows into the units of X."""
        X = self._rows(X)
        transformed, log_abs_det = self.bijection_.forward(X)
        inside = log_abs_det != -np.inf
        value, std = np.empty(0), np.empty(0)
        if inside.any():
            answered = answer(transformed, return_std)
            value, std = answered if return_std else (answered, std)
        log_density = np.full(len(inside), -np.inf, dtype=value.dtype)
        log_density[inside] = value + log_abs_det[inside] - self.log_mass_
        error = np.zeros_like(log_density)
        if return_std:
            error[inside] = std
        return with_error(log_density, error, return_std)

    def _within(self, X: Any) -> tuple[Any, Any]:
        """Transformed rows and their log volumes; ValueError unless all rows are in the domain."""
        X = self._rows(X)
        transformed, log_abs_det = self.bijection_.forward(X)
        self._check_domain(self.bijection_, X, log_abs_det, "is 0, and it has no transform")
        return transformed, log_abs_det - self.log_mass_

    def _check_domain(
        self, bijection: Bijection, X: Any, log_abs_det: Any, consequence: str
    ) -> None:
        """Raise ValueError if a row lies outside the domain; name its column if possible."""
        for i in np.flatnonzero(log_abs_det == -np.inf):
            what = f"Row {i} of X"
            if bijection.acts_by_column:
                row = _safe_indexing(X, [i])
                _, log_slopes = bijection.by_columns(row)
                j = int(np.isneginf(log_slopes[0]).argmax())
                value = np.asarray(row)[0, j : j + 1].tolist()[0]
                name = getattr(self, "feature_names_in_", range(X.shape[1]))[j]
                what = f"Column {name} holds {value!r} in row {i}, which"
            raise ValueError(
                f"{what} is not in the domain of {self.transformer!r}: its density {consequence}. "
                "Leave the row out, add a constant to the column, or choose another transformer."
            )

    def _criterion(
        self, name: str, X: Any, sample_weight: Any, price: Callable[[float], float]
    ) -> float:
        """A criterion of ``estimator_`` in the units of X; ``price`` is its cost per parameter."""
        transformed, log_volume = self._within(X)
        weight = check_weights(sample_weight, log_volume)
        n = len(log_volume) if weight is None else float(weight.sum())
        weights = {} if weight is None else {"sample_weight": weight}
        criterion = getattr(self.estimator_, name)(transformed, **weights)
        gain = 2 * weighted_sum(log_volume, weight) - price(n) * self.bijection_.n_parameters
        return float(criterion - gain)

    def _rows(self, X: Any, *, reset: bool = False) -> Any:
        """Valid rows: numbers, or the unchanged frame, since a ColumnTransformer may use names."""
        if not reset:
            check_is_fitted(self)
        check_in_memory(X)
        X = as_numpy(X)
        if hasattr(X, "columns"):
            validated(self, X, skip_check_array=True, reset=reset)
            check_no_gaps(X)
            return X
        return check_rows(self, X, numeric=True, reset=reset, n_min=1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if not hasattr(self, "transform"):
            tags.transformer_tags = None
        return tags


# Without ``transform`` of the density, this class must have none, either. The condition is added
# here because scikit-learn wraps ``transform`` for ``set_output`` and would drop it in the class.
for _name in ("transform", "fit_transform", "get_feature_names_out"):
    _method = available_if(_density_has("transform"))(getattr(DensityInOriginalUnits, _name))
    setattr(DensityInOriginalUnits, _name, _method)
