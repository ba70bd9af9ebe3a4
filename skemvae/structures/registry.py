"""The covariance structures, and their registry: the one place where a name becomes a class."""

from __future__ import annotations

from functools import cached_property
from typing import Self

import numpy as np

from skemvae.core.arrays import Array, power_of_two
from skemvae.core.covariance import Covariance, KernelForm
from skemvae.core.scan import Scan
from skemvae.kernel.small_matrices import Factors, factorise
from skemvae.structures.axis import AxisAlignedCovariance
from skemvae.structures.axis_scan import ExpandedScan, SphericalScan
from skemvae.structures.dense import DenseCovariance
from skemvae.structures.dense_scan import TiedScan


class Full(DenseCovariance):
    """A matrix of its own for each component."""

    name = "full"
    kernel_form = KernelForm.DENSE
    is_conjugate = True

    @classmethod
    def public_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features, n_features)

    @classmethod
    def from_public(cls, public: Array, n_components: int, n_features: int) -> Self:
        return cls(public)

    def public(self, values: Array) -> Array:
        return np.array(values)

    @property
    def n_parameters(self) -> int:
        return self.n_components * self.n_features * (self.n_features + 1) // 2

    @classmethod
    def pool(cls, covariances: Array, count: Array) -> Array:
        return covariances

    @classmethod
    def observations(cls, count: Array, n_features: int) -> Array:
        return count

    @property
    def copies(self) -> int:
        return 1


class Tied(DenseCovariance):
    """One matrix for all components."""

    name = "tied"
    kernel_form = KernelForm.DENSE
    is_conjugate = True
    is_shared = True

    @classmethod
    def public_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_features, n_features)

    @classmethod
    def from_public(cls, public: Array, n_components: int, n_features: int) -> Self:
        return cls(np.broadcast_to(public, (n_components, *public.shape)))

    def public(self, values: Array) -> Array:
        return np.array(values[0])

    @cached_property
    def _factors(self) -> Factors:
        lower, upper, unexplained = factorise(self.values[:1])
        shape = self.values.shape
        return Factors(np.broadcast_to(lower, shape), np.broadcast_to(upper, shape), unexplained)

    def scan(self, means: Array) -> Scan:
        whitened = means @ self.precision_cholesky[0]
        if (whitened * whitened).sum(1).max() > TiedScan.LIMIT**2:
            return super().scan(means)
        return TiedScan(means, self.cholesky, self.precision_cholesky)

    @property
    def n_parameters(self) -> int:
        return self.n_features * (self.n_features + 1) // 2

    @classmethod
    def pool(cls, covariances: Array, count: Array) -> Array:
        pooled = (count / count.sum()) @ covariances.reshape(len(count), -1)
        return np.broadcast_to(pooled.reshape(covariances.shape[1:]), covariances.shape)

    @classmethod
    def observations(cls, count: Array, n_features: int) -> Array:
        return np.full_like(count, count.sum())

    @property
    def copies(self) -> int:
        return self.n_components


class Diagonal(AxisAlignedCovariance):
    """A variance for each feature of each component."""

    name = "diag"
    kernel_form = KernelForm.AXES
    is_conjugate = True

    @classmethod
    def public_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features)

    @classmethod
    def from_public(cls, public: Array, n_components: int, n_features: int) -> Self:
        return cls(public)

    def public(self, values: Array) -> Array:
        return np.array(values)

    @property
    def n_parameters(self) -> int:
        return self.n_components * self.n_features

    @property
    def radial_size(self) -> int:
        return 1

    @classmethod
    def pool(cls, covariances: Array, count: Array) -> Array:
        return covariances

    @classmethod
    def observations(cls, count: Array, n_features: int) -> Array:
        return count

    @property
    def copies(self) -> int:
        return 1


class Spherical(AxisAlignedCovariance):
    """One variance for each component."""

    name = "spherical"
    kernel_form = KernelForm.AXES
    is_conjugate = True

    @classmethod
    def units(cls, scale: Array) -> Array:
        # One variance for all features stays one only in a common unit.
        largest = scale.max()
        common = largest * np.sqrt(((scale / largest) ** 2).mean())
        return np.full(len(scale), power_of_two(common))

    @classmethod
    def public_shape(cls, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components,)

    @classmethod
    def from_public(cls, public: Array, n_components: int, n_features: int) -> Self:
        return cls(np.broadcast_to(public[:, None], (n_components, n_features)))

    def public(self, values: Array) -> Array:
        return np.array(values[:, 0])

    def scan(self, means: Array) -> Scan:
        scan = super().scan(means)
        return SphericalScan(means, self.values) if isinstance(scan, ExpandedScan) else scan

    @property
    def n_parameters(self) -> int:
        return self.n_components

    @classmethod
    def pool(cls, covariances: Array, count: Array) -> Array:
        d = covariances.shape[1]
        return np.repeat(covariances.sum(1, keepdims=True) / d, d, axis=1)

    @classmethod
    def observations(cls, count: Array, n_features: int) -> Array:
        return count * n_features

    @property
    def copies(self) -> int:
        return self.n_features


STRUCTURES: dict[str, type[Covariance]] = {
    structure.name: structure for structure in (Full, Tied, Diagonal, Spherical)
}
