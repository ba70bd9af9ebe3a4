"""Covariances that are stored as matrices, or as their diagonals."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.covariance import Covariance


class MatrixCovariance(Covariance):
    """Covariances whose ``values`` are the matrices, or their diagonals.

    ``DenseCovariance`` and ``AxisAlignedCovariance`` implement the algebra. A structure adds, in
    ``pool``, which parameters its components or features share.

    Attributes
    ----------
    values : array of shape (K, d, d) or (K, d)
    is_shared : bool
        Whether components share one matrix.
    """

    goes_online: ClassVar[bool] = True
    is_shared: ClassVar[bool] = False

    @classmethod
    def races_as(cls) -> type[Any]:
        return cls

    @classmethod
    def nearest(cls, covariance: Any, noise: Array) -> Any:
        return covariance

    @classmethod
    def missing(cls, n_rows: Array, n_features: int) -> float:
        # n rows span n directions; structures without correlations do not need all directions.
        # A shared matrix uses the rows of all components.
        block_size = cls.identity(1, n_features).block_size
        if block_size == 1:
            return 0.0
        return float(np.clip(1 - cls.observations(n_rows, n_features)[0] / block_size, 0.0, 1.0))

    def near(self, values: Array, weights: Array) -> Self:
        return type(self)(self.pool(values, weights))

    # What components or features share.

    @classmethod
    @abstractmethod
    def public_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        """The shape of ``public``."""

    @classmethod
    @abstractmethod
    def from_public(cls, public: Array, n_components: int, n_features: int) -> Self:
        """Build from scikit-learn's layout of ``covariances_``."""

    @abstractmethod
    def public(self, values: Array) -> Array:
        """Lay ``values`` (covariances, precisions or factors) out as scikit-learn does."""

    @classmethod
    def fitted_shapes(cls, n_components: int, n_features: int) -> dict[str, tuple[int, ...]]:
        return {"covariances_": cls.public_shape(n_components, n_features)}

    @classmethod
    def from_fitted(cls, n_components: int, n_features: int, *arrays: Array) -> Self:
        return cls.from_public(arrays[0], n_components, n_features)

    def fitted(self) -> dict[str, Array]:
        return {
            "covariances_": self.public(self.values),
            "precisions_": self.public(self.precisions),
            "precisions_cholesky_": self.public(self.precision_cholesky),
        }

    @classmethod
    @abstractmethod
    def pool(cls, covariances: Array, count: Array) -> Array:
        """Pool covariances over the components or features that share parameters."""

    @classmethod
    @abstractmethod
    def observations(cls, count: Array, n_features: int) -> Array:
        """How many squares each parameter averages, shape (K,), if components have ``count``."""

    # The algebra.

    @property
    @abstractmethod
    def precision_cholesky(self) -> Array:
        """U, upper triangular or its diagonal, with precision = U U^T, shaped as ``values``."""

    @property
    @abstractmethod
    def precisions(self) -> Array:
        """The inverses, in the shape of ``values``."""

    @property
    @abstractmethod
    def block_size(self) -> int:
        """The number of features in a block, d or 1, as each matrix is block diagonal."""

    @property
    @abstractmethod
    def block_log_dets(self) -> Array:
        """log |block|, shape (K, d / block_size)."""

    @abstractmethod
    def block_traces(self, values: Array) -> Array:
        """tr(values precision) of each block, for ``values`` in the shape of ``self.values``."""

    @abstractmethod
    def sandwich(self, values: Array) -> Array:
        """V precision V of symmetric matrices V, one or K of them, laid out as ``values``."""

    @classmethod
    @abstractmethod
    def balance(cls, linear: Array, inverse: Array, log: float) -> Array:
        """The X that maximises ``log log|X| - tr(linear X) - tr(inverse X^-1)``.

        ``linear`` is positive definite; ``inverse`` may be singular. Both, and X, have the layout
        of one of ``values``.
        """

    @abstractmethod
    def squared_lengths(self, vectors: Array) -> Array:
        """v^T precision v, for one vector v per component, shape (K,)."""

    @property
    def radial_size(self) -> int:
        """How many features share a common uncertain scale: d or 1."""
        return self.n_features
