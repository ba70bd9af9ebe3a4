"""The fitted parameters of a Gaussian mixture: public arrays, and the model that they describe."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skemvae.base import LatentDensityEstimator
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.structures.registry import STRUCTURES
from skemvae.typing import ArrayLike, RandomState
from skemvae.validation import (
    LARGEST_SQUARE,
    check_choice,
    check_mixture_weights,
    check_parameter_array,
    check_positive_definite,
)


class MixtureParameters(LatentDensityEstimator):
    """What stands between the public parameters of a mixture and its model."""

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


def _of_structures() -> set[str]:
    """Fitted attributes that a mixture has or has not, as its structure wants."""
    own = {name for one in STRUCTURES.values() for name in one.fitted_shapes(1, 1)}
    return own | {"precisions_cholesky_"}
