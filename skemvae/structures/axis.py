"""Covariances without off-diagonal elements, stored as their diagonals."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import numpy as np

from skemvae.core.arrays import AnyArray, Array, power_of_two
from skemvae.core.covariance import Axes, KernelForm
from skemvae.core.moments import Moments
from skemvae.core.scan import Scan
from skemvae.structures.axis_scan import AxisScan, ExpandedScan, SphericalScan
from skemvae.structures.coordinates import AlignedAxes
from skemvae.structures.matrices import MatrixCovariance


class AxisAlignedCovariance(MatrixCovariance):
    """Covariances without off-diagonal elements, stored as their diagonals."""

    @cached_property
    def precision_cholesky(self) -> Array:
        upper: Array = 1 / np.sqrt(self.values)
        return upper

    @property
    def precisions(self) -> Array:
        precisions: Array = 1 / self.values
        return precisions

    @property
    def log_det(self) -> Array:
        log_det: Array = np.log(self.values).sum(1)
        return log_det

    def trace_precision(self, noise: Array) -> Array:
        trace: Array = (noise / self.values).sum(1)
        return trace

    @property
    def block_size(self) -> int:
        return 1

    @property
    def block_log_dets(self) -> Array:
        return np.log(self.values)

    def block_traces(self, values: Array) -> Array:
        return values / self.values

    def sandwich(self, values: Array) -> Array:
        return values**2 / self.values

    @classmethod
    def balance(cls, linear: Array, inverse: Array, log: float) -> Array:
        balance: Array = (log + np.sqrt(log**2 + 4 * linear * inverse)) / (2 * linear)
        return balance

    def squared_lengths(self, vectors: Array) -> Array:
        lengths: Array = (vectors**2 / self.values).sum(1)
        return lengths

    @property
    def variances(self) -> Array:
        return self.values

    def dense(self) -> Array:
        return self.values[:, :, None] * np.eye(self.n_features)

    def scan(self, means: Array) -> Scan:
        furthest = (np.abs(means) * self.precision_cholesky).max()
        scan = ExpandedScan if furthest <= ExpandedScan.LIMIT else AxisScan
        return scan(means, self.values)

    def axes(self) -> Axes:
        return AlignedAxes(self.values)

    def is_singular(self) -> bool:
        return not bool((self.values > 0).all())

    def scaled(self, scale: Array) -> Self:
        return type(self)(self.values * scale**2)

    def marginal(self, columns: AnyArray) -> Self:
        return type(self)(self.values[:, columns])

    def condition(self, free: AnyArray, given: AnyArray) -> tuple[Array, Self]:
        return np.zeros((self.n_components, len(free), len(given))), self.marginal(free)

    def draw(self, labels: AnyArray, rng: Any) -> Array:
        normal = rng.standard_normal((len(labels), self.n_features))
        rows: Array = normal * np.sqrt(self.values)[labels]
        return rows

    @classmethod
    def identity(cls, n_components: int, n_features: int) -> Self:
        return cls(np.ones((n_components, n_features)))

    def scatter(self, noise: Array) -> Array:
        return self.values - noise

    def maximise(self, moments: Moments, noise: Array) -> Self:
        variances = moments.where_counted(moments.covariances, lambda: self.scatter(noise))
        return type(self)(self.pool(np.maximum(variances, 0.0) + noise, moments.count))


class Diagonal(AxisAlignedCovariance):
    """One variance for each feature of each component."""

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


class Spherical(AxisAlignedCovariance):
    """One variance for each component."""

    name = "spherical"
    kernel_form = KernelForm.AXES
    is_conjugate = True

    @classmethod
    def units(cls, scale: Array) -> Array:
        # A variance that all features share stays shared only in a common unit.
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
