"""Methods of a fitted Gaussian mixture: densities, components, samples, smaller mixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skemvae.array_api import in_kind
from skemvae.base import LatentDensityEstimator, weighted_sum, with_error
from skemvae.core.arrays import quietly
from skemvae.core.bound import Posterior, free_energy
from skemvae.core.decomposition import BoundDecomposition
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.rows import Rows
from skemvae.engine.passes.numpy_pass import map_conditionals, map_rows
from skemvae.structures.registry import STRUCTURES
from skemvae.tables.reading import check_rows
from skemvae.typing import (
    Array,
    ArrayLike,
    Columns,
    FloatArray,
    IntArray,
    MatrixLike,
    RandomState,
    Scores,
)
from skemvae.validation import (
    LARGEST_SQUARE,
    check_choice,
    check_columns,
    check_mixture_weights,
    check_parameter_array,
    check_positive_definite,
    check_weights,
)


class MixtureDensity(LatentDensityEstimator):
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

    @classmethod
    def from_parameters(
        cls,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        *,
        covariance_type: str = "full",
        n_factors: int = 2,
        random_state: RandomState = None,
    ) -> Self:
        """Make a fitted estimator from known parameters, without data.

        Parameters
        ----------
        weights : array-like of shape (n_components,)
            Non-negative, summing to 1.
        means : array-like of shape (n_components, n_features)
            In the units of the rows to score.
        covariances : array-like
            In the layout of ``covariances_`` for this ``covariance_type``.
        covariance_type : str, default="full"
            Structure of the covariances: "full", "tied", "diag", "spherical" or
            "factor_analytic".
        n_factors : int, default=2
            Of "factor_analytic", which takes the nearest covariances of so many factors.
        random_state : int, Generator, RandomState or None, default=None
            For ``sample``.

        Returns
        -------
        estimator
            Fitted, but without attributes of a fit, such as ``lower_bound_``.
            With ``warm_start=True``, a fit starts from these parameters.

        Raises
        ------
        ValueError
            If shapes disagree, the weights do not sum to 1 or a covariance is
            not positive definite.
        """
        check_choice("covariance_type", covariance_type, STRUCTURES)
        structure = STRUCTURES[covariance_type].with_factors(n_factors)
        if np.ndim(means) != 2:
            raise ValueError(
                f"means has shape {np.shape(means)}, expected (n_components, n_features)."
            )
        k, d = np.shape(means)
        centres = check_parameter_array("means", means, (k, d))
        shares = check_mixture_weights("weights", weights, k)
        matrices = structure.races_as()
        shape = matrices.public_shape(k, d)
        public = check_parameter_array("covariances", covariances, shape, LARGEST_SQUARE)
        given = matrices.from_public(public, k, d)
        check_positive_definite("covariances", given.values)
        covariance = structure.nearest(given, np.zeros(d))
        estimator = cls(
            k, covariance_type=covariance_type, n_factors=n_factors, random_state=random_state
        )
        mixture = GaussianMixture(shares, centres, covariance, np.zeros(d))
        return estimator._set(**cls._parameters(mixture))

    # Between the public parameters and the model.

    def _set(self, **attributes: Any) -> Self:
        if "means_" in attributes:
            for name in _of_structures() - attributes.keys():
                if hasattr(self, name):
                    delattr(self, name)
        return super()._set(**attributes)

    def _mixture(self) -> GaussianMixture:
        """The model that the public parameters describe, in the units of X."""
        check_is_fitted(self, "means_")
        means = np.asarray(self.means_, dtype=np.float64)
        check_choice("covariance_type", self.covariance_type, STRUCTURES)
        structure = STRUCTURES[self.covariance_type].with_factors(self.n_factors)
        shapes = structure.fitted_shapes(*means.shape)
        arrays = [np.asarray(getattr(self, name, ()), dtype=np.float64) for name in shapes]
        goes = [array.shape for array in arrays] == list(shapes.values())
        if goes:
            covariance = structure.from_fitted(*means.shape, *arrays)
            mixture = GaussianMixture(
                np.asarray(self.weights_), means, covariance, np.zeros(means.shape[1])
            )
            # A square array may be one full matrix, or variances of as many components as features.
            is_square = arrays[0].ndim == 2 and arrays[0].shape[0] == arrays[0].shape[1]
            n_parameters = getattr(self, "n_parameters_", mixture.n_parameters)
            goes = not is_square or mixture.n_parameters == n_parameters
        if not goes:
            found = np.shape(np.asarray(self.covariances_))
            raise ValueError(
                f"covariance_type={self.covariance_type!r} does not go with covariances_ of shape "
                f"{found}, which have another structure: set it back, or fit again "
                "with warm_start=False."
            )
        return mixture

    @staticmethod
    def _parameters(mixture: GaussianMixture) -> dict[str, Any]:
        """The public parameters of a model in the units of X."""
        covariance = mixture.covariance
        return {
            "weights_": mixture.weights,
            "means_": mixture.means,
            **covariance.fitted(),
            "n_parameters_": mixture.n_parameters,
            "n_features_in_": mixture.means.shape[1],
        }

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


def _of_structures() -> set[str]:
    """Fitted attributes that a mixture has or has not, as its structure wants."""
    own = {name for one in STRUCTURES.values() for name in one.fitted_shapes(1, 1)}
    return own | {"precisions_cholesky_"}
