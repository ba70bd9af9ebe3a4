"""Methods of a fitted ``VariationalEM``: densities, bounds, latent means, samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skemvae.array_api import in_kind
from skemvae.base import LatentDensityEstimator, with_error
from skemvae.core.decomposition import BoundDecomposition
from skemvae.models import Model
from skemvae.tables.reading import check_rows
from skemvae.typing import Array, ArrayLike, FloatArray, IntArray, MatrixLike, Scores


def _has_discrete_latent(estimator: Any) -> bool:
    model: Model = estimator.model_ if hasattr(estimator, "model_") else estimator._chosen_model()
    return model.has_discrete_latent


class ModelDensity(LatentDensityEstimator):
    """Methods of an estimator that has a ``model_``."""

    model_: Model

    @in_kind
    def score_samples(self, X: MatrixLike, return_std: bool = False) -> Scores:
        """log p(x) of each row: exact where possible, else an importance estimate.

        Bayesian mixtures return the predictive density, log E_q[p(x | parameters)].

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        return_std : bool, default=False
            Whether to return standard errors, too.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats and the units of X. The lower, the more anomalous.
        std : ndarray of shape (n_samples,)
            Standard error of each value, 0 if it is exact. Only if
            ``return_std``.
        """
        log_density, std = self._fitted.log_density(self._rows(X))
        return with_error(log_density, std, return_std)

    @in_kind
    def elbo(self, X: MatrixLike, return_std: bool = False) -> Scores:
        """Evidence lower bound of each row, E_q[log p(x, z)] + H[q].

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        return_std : bool, default=False
            Whether to return standard errors, too.

        Returns
        -------
        elbo : ndarray of shape (n_samples,)
            In nats and the units of X. It lies below log p(x) by
            KL(q(z|x) || p(z|x)). For a Bayesian mixture, whose q covers z and
            the parameters, it is lower by the cost of the parameters'
            uncertainty, too.
        std : ndarray of shape (n_samples,)
            Standard error of each value, 0 if no sampling is involved. Only if
            ``return_std``.
        """
        elbo, std = self._fitted.elbo(self._rows(X))
        return with_error(elbo, std, return_std)

    @in_kind
    def decompose_bound(self, X: MatrixLike) -> BoundDecomposition:
        """Split the bound of each row into what z explains, what q costs, and the gaps.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to explain.

        Returns
        -------
        BoundDecomposition
            In nats for each row. There is no amortisation gap, because each row
            has its own q. For a Bayesian mixture, q covers z and the parameters:
            the cost of the parameters is part of the gap, and exp E[log weight]
            stands for the prior of z.
        """
        rows = self._rows(X)
        return BoundDecomposition.own_posteriors(
            *self._fitted.log_density(rows),
            *self._fitted.elbo(rows),
            self._fitted.kl_to_prior(rows),
        )

    @in_kind
    def transform(self, X: MatrixLike) -> FloatArray:
        """Posterior expectation E_q[z | x] of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to transform.

        Returns
        -------
        ndarray of shape (n_samples, n_latent)
            Responsibilities if z is discrete.
        """
        return self._fitted.posterior_mean(self._rows(X))

    @in_kind
    def inverse_transform(self, Z: ArrayLike) -> Array:
        """Expected rows E[x | z].

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_latent)
            Latent points or responsibilities, such as those that ``transform``
            returns.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In the units of the training rows. Labels have no mean; their columns
            hold the most probable one.
        """
        model = self._fitted
        points = check_array(Z, dtype=[np.float64, np.float32], input_name="Z")
        if points.shape[1] != self._n_features_out:
            raise ValueError(
                f"Z has {points.shape[1]} columns, but transform returns {self._n_features_out}."
            )
        return model.expected_rows(points)

    @available_if(_has_discrete_latent)
    @in_kind
    def predict_proba(self, X: MatrixLike) -> FloatArray:
        """Responsibilities: the posterior probability of each state of z.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to assign.

        Returns
        -------
        ndarray of shape (n_samples, n_latent)
            Rows sum to 1.
        """
        return self._fitted.posterior_mean(self._rows(X))

    @available_if(_has_discrete_latent)
    @in_kind
    def predict(self, X: MatrixLike) -> IntArray:
        """The most probable state of z for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to assign.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels, starting from 0.
        """
        return self._fitted.posterior_mean(self._rows(X)).argmax(1)

    @property
    def _n_features_out(self) -> int:
        return self.model_.n_latent_

    @property
    def _fitted(self) -> Model:
        check_is_fitted(self)
        return self.model_

    def _draw(self, n: int, rng: Any) -> tuple[Any, Any]:
        return self._fitted.draw(n, rng)

    def _log_conditionals(self, rows: Any) -> Any:
        return self._fitted.log_conditionals(rows)

    def _rows(self, X: Any) -> Any:
        return check_rows(self, X, numeric=self._fitted.is_numeric, reset=False, n_min=1)
