"""Covariances with off-diagonal elements, computed through Cholesky factors."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy.linalg import solve_triangular

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.covariance import Axes, Covariance, KernelForm
from skemvae.core.moments import Moments
from skemvae.core.scan import Scan
from skemvae.kernel.small_matrices import Factors, factorise
from skemvae.structures.coordinates import DenseAxes
from skemvae.structures.dense_scan import DifferenceScan, TiedScan, WhitenedScan
from skemvae.structures.matrices import MatrixCovariance

# A matrix counts as singular if the others determine some feature up to this
# fraction of its variance.
_SINGULAR = 1e-10
# Smaller gains, in nats per row, cannot be told from the rounding error of the
# determinant of a nearly singular matrix.
_RESOLVED = 1e-4


class DenseCovariance(MatrixCovariance):
    """Covariances with off-diagonal elements, computed through Cholesky factors."""

    @cached_property
    def _factors(self) -> Factors:
        return factorise(self.values)

    @property
    def cholesky(self) -> Array:
        """Lower factors, shape (K, d, d)."""
        return self._factors.lower

    @property
    def precision_cholesky(self) -> Array:
        return self._factors.upper

    @property
    def precisions(self) -> Array:
        upper = self.precision_cholesky
        precisions: Array = upper @ upper.transpose(0, 2, 1)
        return precisions

    @property
    def log_det(self) -> Array:
        log_det: Array = 2 * np.log(self.cholesky.diagonal(axis1=1, axis2=2)).sum(1)
        return log_det

    def trace_precision(self, noise: Array) -> Array:
        upper = self.precision_cholesky
        trace: Array = np.einsum("i,kij,kij->k", noise, upper, upper)
        return trace

    @property
    def block_size(self) -> int:
        return self.n_features

    @property
    def block_log_dets(self) -> Array:
        return self.log_det[:, None]

    def block_traces(self, values: Array) -> Array:
        upper = self.precision_cholesky
        traces: Array = ((values @ upper) * upper).sum((1, 2))[:, None]
        return traces

    def sandwich(self, values: Array) -> Array:
        half = values @ self.precision_cholesky
        sandwich: Array = half @ half.transpose(0, 2, 1)
        return sandwich

    @classmethod
    def balance(cls, linear: Array, inverse: Array, log: float) -> Array:
        # In coordinates where ``linear`` is the identity, all three share their eigenvectors.
        lower = factorise(linear[None]).lower[0]
        values, axes = np.linalg.eigh(lower.T @ inverse @ lower)
        roots = (log + np.sqrt(log**2 + 4 * np.maximum(values, 0.0))) / 2
        half = solve_triangular(lower, axes * np.sqrt(roots), lower=True, trans="T")
        balance: Array = half @ half.T
        return balance

    def squared_lengths(self, vectors: Array) -> Array:
        whitened = vectors[:, None, :] @ self.precision_cholesky
        lengths: Array = (whitened**2).sum((1, 2))
        return lengths

    @property
    def variances(self) -> Array:
        return self.values.diagonal(axis1=1, axis2=2)

    def dense(self) -> Array:
        return np.array(self.values)

    def scan(self, means: Array) -> Scan:
        furthest = np.abs(means[:, None, :] @ self.precision_cholesky).max()
        scan = WhitenedScan if furthest <= WhitenedScan.LIMIT else DifferenceScan
        return scan(means, self.cholesky, self.precision_cholesky)

    def axes(self) -> Axes:
        return DenseAxes(self.cholesky, self.precision_cholesky)

    def scaled(self, scale: Array) -> Self:
        return type(self)(scale[:, None] * self.values * scale)

    def marginal(self, columns: AnyArray) -> Self:
        return type(self)(self.values[:, columns[:, None], columns])

    def condition(self, free: AnyArray, given: AnyArray) -> tuple[Array, Self]:
        # In the Cholesky factor of (given, free), the last block is the conditional factor.
        d_given = len(given)
        lower, upper, _ = self.marginal(np.concatenate([given, free]))._factors
        gain = lower[:, d_given:, :d_given] @ upper[:, :d_given, :d_given].transpose(0, 2, 1)
        rest = lower[:, d_given:, d_given:]
        return gain, type(self)(rest @ rest.transpose(0, 2, 1))

    def draw(self, labels: AnyArray, rng: Any) -> Array:
        normal: Array = rng.standard_normal((len(labels), self.n_features))
        rows = np.empty_like(normal)
        for k, factor in enumerate(self.cholesky):
            rows[labels == k] = normal[labels == k] @ factor.T
        return rows

    @classmethod
    def identity(cls, n_components: int, n_features: int) -> Self:
        return cls(np.broadcast_to(np.eye(n_features), (n_components, n_features, n_features)))

    def scatter(self, noise: Array) -> Array:
        scatter: Array = self.values - np.diag(noise)
        return scatter

    def maximise(self, moments: Moments, noise: Array) -> Self:
        cls = type(self)
        covariances = moments.where_counted(moments.covariances, lambda: self.scatter(noise))
        pooled = cls.pool(covariances, moments.count)
        values = (pooled + pooled.transpose(0, 2, 1)) / 2
        values.reshape(len(values), -1)[:, :: len(noise) + 1] += noise
        new = cls(values)
        if not new.is_singular():
            return new
        repaired = [cls._repair(*pair) for pair in zip(values, self.values, strict=True)]
        return cls(np.array(repaired))

    def is_singular(self, tolerance: float = _SINGULAR) -> bool:
        return not self._factors.unexplained > tolerance

    @classmethod
    def _repair(cls, maximiser: Array, previous: Array) -> Array:
        """Inflate a singular maximiser a little, or keep the previous matrix if that is as good.

        Either way the expected log likelihood does not fall, so the bound does
        not either, and no matrix becomes so ill-conditioned that its determinant
        is rounding error.
        """
        if not cls(maximiser[None]).is_singular():
            return maximiser
        inflated = maximiser + np.diag(_SINGULAR * np.diagonal(maximiser))
        if cls(inflated[None]).is_singular(0.0):
            return previous

        def loss(covariance: Array) -> float:
            one = cls(covariance[None])
            upper = one.precision_cholesky[0]
            return 0.5 * float(one.log_det[0] + ((upper.T @ maximiser) * upper.T).sum())

        return inflated if loss(inflated) < loss(previous) - _RESOLVED else previous


class Full(DenseCovariance):
    """One matrix for each component."""

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


def as_matrices(covariance: Covariance) -> MatrixCovariance:
    """The same covariances as matrices, computed in full if the structure stores no matrices."""
    if isinstance(covariance, MatrixCovariance):
        return covariance
    return Full(covariance.dense())
