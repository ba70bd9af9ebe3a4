"""Methods of a fitted Gaussian mixture: densities, components, samples, smaller mixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skemvae.array_api import in_kind
from skemvae.base import weighted_sum, with_error
from skemvae.core.arrays import quietly
from skemvae.core.bound import Posterior, free_energy
from skemvae.core.decomposition import BoundDecomposition
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.rows import Rows
from skemvae.engine.passes.numpy_pass import map_conditionals, map_rows
from skemvae.mixture_parameters import MixtureParameters
from skemvae.tables.reading import check_rows
from skemvae.typing import (
    Array,
    ArrayLike,
    Columns,
    FloatArray,
    IntArray,
    MatrixLike,
    Scores,
)
from skemvae.validation import (
    check_columns,
    check_parameter_array,
    check_weights,
)


class MixtureDensity(MixtureParameters):
    """Methods of a Gaussian mixture that need only its fitted parameters.

    Densities are computed from the current ``weights_``, ``means_`` and
    ``covariances_``. To set these, use ``from_parameters``, which also sets all
    dependent attributes.
    """

    # Density.

    @in_kind
    def score_samples(self, X: MatrixLike, return_std: bool = False) -> Scores:
        """Log density log p(x) of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        return_std : bool, default=False
            Whether to also return standard errors.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Nats, in the units of X, with the dtype of X. The lower, the more
            anomalous the row. ``-inf`` if even the log density is beyond the
            range of float64.
        std : ndarray of shape (n_samples,)
            Zeros, since the density is exact. Only if ``return_std``.

        Examples
        --------
        >>> from skemvae import EMGaussianMixture
        >>> standard_normal = EMGaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
        >>> standard_normal.score_samples([[0.0], [2.0]]).round(4)
        array([-0.9189, -2.9189])
        """
        log_density = self._by_rows(
            X, (), lambda posterior: posterior.log_evidence, is_density=True
        )
        return with_error(log_density, None, return_std)

    @in_kind
    def elbo(self, X: MatrixLike) -> FloatArray:
        """Bound E_q[log p(x, z)] + H[q] (free energy) of each row, under the exact posterior q.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        ndarray of shape (n_samples,)
            Nats, in the units of X. EM's posterior is exact, so this equals
            ``score_samples(X)``: the gap KL(q || p(z | x)) is 0.
        """

        def bound(posterior: Posterior) -> Any:
            return free_energy(posterior.log_joint, posterior.log_q, posterior.weight)

        return self._by_rows(X, (), bound, is_density=True)

    @in_kind
    def decompose_bound(self, X: MatrixLike) -> BoundDecomposition:
        """Decompose log p(x) of each row into expected log likelihood and KL divergence.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to explain.

        Returns
        -------
        BoundDecomposition
            Nats for each row. The gaps are 0, since the posterior is exact.
        """
        log_prior = quietly(np.log, self._mixture().weights)
        kl = self._by_rows(X, (), lambda posterior: posterior.kl(log_prior))
        log_likelihood, exact = self.score_samples(X, return_std=True)
        return BoundDecomposition.own_posteriors(log_likelihood, exact, self.elbo(X), exact, kl)

    def icl(self, X: MatrixLike, sample_weight: ArrayLike | None = None) -> float:
        """Integrated completed likelihood; the lower, the better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows that the mixture was fitted to.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        float
            ``bic(X)`` plus twice the total entropy of the responsibilities in
            nats, which penalises components that overlap.

        References
        ----------
        Biernacki, Celeux and Govaert (2000), "Assessing a mixture model for
        clustering with the integrated completed likelihood".
        """
        entropy = self._by_rows(X, (), lambda posterior: posterior.entropy)
        total = weighted_sum(entropy, check_weights(sample_weight, entropy))
        return self.bic(X, sample_weight) + 2 * total

    # Components.

    @in_kind
    def predict_proba(self, X: MatrixLike) -> FloatArray:
        """Responsibilities: the posterior probability of each component.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to assign.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Each row sums to 1; with the dtype of X.
        """
        columns = (len(self._mixture().weights),)
        return self._by_rows(X, columns, lambda posterior: posterior.weight)

    @in_kind
    def transform(self, X: MatrixLike) -> FloatArray:
        """Responsibilities, as features for the next step of a Pipeline.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to transform.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            The posterior expectation of z: ``predict_proba(X)``.
        """
        return self.predict_proba(X)

    @in_kind
    def predict(self, X: MatrixLike) -> IntArray:
        """Predict the most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to assign.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels from 0 to n_components - 1.
        """
        labels = self._by_rows(X, (), lambda posterior: posterior.log_joint.argmax(1), dtype=int)
        return labels

    @in_kind
    def inverse_transform(self, X: MatrixLike) -> Array:
        """Expected rows E[x] under given responsibilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Responsibilities, as ``transform`` returns them.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            ``X @ means_``, in the units of the data.
        """
        mixture = self._mixture()
        responsibilities = check_array(X, dtype=[np.float64, np.float32])
        if responsibilities.shape[1] != len(mixture.means):
            raise ValueError(
                f"X has shape {responsibilities.shape}, expected responsibilities of shape "
                f"(n_samples, {len(mixture.means)}), as transform returns them."
            )
        return responsibilities @ mixture.means.astype(responsibilities.dtype)

    # Smaller mixtures.

    def marginal(self, columns: Columns) -> Self:
        """Return the fitted mixture of some of the features.

        Parameters
        ----------
        columns : array-like of int, bool or str, slice
            Positions, a mask or names of the features to keep, in this order.

        Returns
        -------
        estimator
            Fitted, over these features.

        Examples
        --------
        >>> from skemvae import EMGaussianMixture
        >>> covariances = [[[1.0, 0.5], [0.5, 2.0]]]
        >>> both = EMGaussianMixture.from_parameters([1.0], [[0.0, 5.0]], covariances)
        >>> both.marginal([1]).covariances_
        array([[[2.]]])
        """
        positions = check_columns(self, columns)
        return self._smaller(self._mixture().marginal(positions), positions)

    def condition(self, columns: Columns, values: ArrayLike) -> Self:
        """Return the fitted mixture of the other features, given the values of some.

        Parameters
        ----------
        columns : array-like of int, bool or str, slice
            Positions, a mask or names of the features that are known.
        values : array-like of shape (n_columns,)
            Their values, in the units of X.

        Returns
        -------
        estimator
            Fitted, over the remaining features: p(x_rest | x_columns = values).

        Examples
        --------
        >>> from skemvae import EMGaussianMixture
        >>> covariances = [[[1.0, 0.5], [0.5, 2.0]]]
        >>> both = EMGaussianMixture.from_parameters([1.0], [[0.0, 5.0]], covariances)
        >>> both.condition([1], [7.0]).means_
        array([[0.5]])
        """
        given = check_columns(self, columns)
        values = check_parameter_array("values", np.atleast_1d(values), given.shape)
        mixture = self._mixture()
        free = np.setdiff1d(np.arange(self.n_features_in_), given)
        if len(free) == 0:
            raise ValueError("columns names every feature: leave at least one free.")
        frame = mixture.frame()
        standardised = (values - frame.origin[given]) / frame.scale[given]
        conditional = mixture.into(frame).condition(given, standardised)
        return self._smaller(conditional.out_of(frame.columns(free)), free)

    def _smaller(self, mixture: GaussianMixture, features: Any) -> Self:
        fitted_to_all = ("weights_init", "means_init", "precisions_init")
        parameters = {**self.get_params(deep=False), **dict.fromkeys(fitted_to_all)}
        if not isinstance(self.init_params, str):
            parameters["init_params"] = "auto"
        smaller = clone(self).set_params(**parameters)._set(**self._parameters(mixture))
        if hasattr(self, "feature_names_in_"):
            smaller.feature_names_in_ = self.feature_names_in_[features]
        return smaller

    @property
    def _n_features_out(self) -> int:
        return len(self.means_)

    # Passes over rows.

    def _rows(self, X: Any) -> Any:
        check_is_fitted(self, "means_")
        return check_rows(self, X, numeric=True, reset=False, n_min=1)

    def _draw(self, n: int, rng: Any) -> tuple[Any, Any]:
        return self._mixture().sample(n, rng)

    def _log_conditionals(self, rows: Any) -> Any:
        mixture = self._mixture()
        frame = mixture.frame()
        out = np.empty(rows.shape, dtype=rows.dtype)
        return map_conditionals(mixture.into(frame), Rows(rows, None, frame), out)

    def _by_rows(
        self,
        X: Any,
        columns: tuple[int, ...],
        function: Callable[[Posterior], Any],
        *,
        is_density: bool = False,
        dtype: Any = None,
    ) -> Any:
        """Apply a function of the exact posterior to all rows, block by block."""
        X = self._rows(X)
        mixture = self._mixture()
        frame = mixture.frame()
        offset = frame.log_volume if is_density else 0
        out = np.empty((X.shape[0], *columns), dtype=X.dtype if dtype is None else dtype)
        rows = Rows(X, None, frame)
        return map_rows(
            mixture.into(frame), rows, lambda posterior: function(posterior) - offset, out
        )
