"""Covariances that are stored as matrices, or as their diagonals."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.covariance import Covariance


class MatrixCovariance(Covariance):
    """Covariances whose ``values`` are the matrices, or their diagonals.

    There are two ways to do the algebra, ``DenseCovariance`` and ``AxisAlignedCovariance``. What
    a structure adds is what its components or features share, in ``pool``.

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
        # Rows span as many directions as they are; structures without correlations need not span
        # all. What components share has the rows of all.
        block_size = cls.identity(1, n_features).block_size
        if block_size == 1:
            return 0.0
        return float(np.clip(1 - cls.observations(n_rows, n_features)[0] / block_size, 0.0, 1.0))

    def near(self, values: Array, weights: Array) -> Self:
        return type(self)(self.pool(values, weights))

    # What a structure shares between components.

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
        """Share what the structure shares of the covariances about the means."""

    @classmethod
    @abstractmethod
    def observations(cls, count: Array, n_features: int) -> Array:
        """How many squares each parameter averages over, shape (K,), of components so large."""

    # The algebra.

    @property
    @abstractmethod
    def precision_cholesky(self) -> Array:
        """U with precision = U U^T (upper triangular, or its diagonal), shaped as ``values``."""

    @property
    @abstractmethod
    def precisions(self) -> Array:
        """The inverses, shaped as ``values``."""

    @property
    @abstractmethod
    def block_size(self) -> int:
        """Each matrix is block diagonal, with blocks of so many features: d or 1."""

    @property
    @abstractmethod
    def block_log_dets(self) -> Array:
        """log |block|, shape (K, d / block_size)."""

    @abstractmethod
    def block_traces(self, values: Array) -> Array:
        """tr(values precision) of each block, for ``values`` of the shape of the instance's."""

    @abstractmethod
    def sandwich(self, values: Array) -> Array:
        """V precision V of symmetric matrices V, one or K of them, laid out as ``values``."""

    @classmethod
    @abstractmethod
    def balance(cls, linear: Array, inverse: Array, log: float) -> Array:
        """The X that maximises ``log log|X| - tr(linear X) - tr(inverse X^-1)``.

        ``linear`` is positive definite, ``inverse`` may be singular; both are laid out as one of
        ``values``, and so is X.
        """

    @abstractmethod
    def squared_lengths(self, vectors: Array) -> Array:
        """v^T precision v of a vector for each component, shape (K,)."""

    @property
    def radial_size(self) -> int:
        """So many features at a time have a common scale that is uncertain: d or 1."""
        return self.n_features
