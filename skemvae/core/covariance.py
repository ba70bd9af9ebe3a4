"""Covariance structures: the only home of their algebra.

An instance holds K covariance matrices that share a structure. There are two
ways to do the algebra, ``Dense`` and ``AxisAligned``; ``structures`` completes
each of them with what its components share and with its public layout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from scipy.linalg.lapack import dtrtri

from skemvae.core.arrays import AnyArray, Array, power_of_two
from skemvae.core.axis_scan import AxisScan, ExpandedScan
from skemvae.core.chart import AlignedAxes, Axes, DenseAxes
from skemvae.core.dense_scan import DifferenceScan, WhitenedScan
from skemvae.core.moments import Moments
from skemvae.core.scan import Metric, Scan
from skemvae.core.student_metric import StudentMetric

# A matrix counts as singular when some feature is determined by the others up
# to this fraction of its variance.
_SINGULAR = 1e-10
# Gains of less than this many nats per row cannot be told from the rounding
# error of a determinant that is nearly singular.
_RESOLVED = 1e-4


@dataclass(frozen=True)
class Covariance(ABC):
    """K covariance matrices of d features with one structure.

    Attributes
    ----------
    values : array of shape (K, d, d) or (K, d)
        The matrices, or their diagonals if the structure has nothing else.
        Structures that share parameters broadcast them.
    """

    name: ClassVar[str]
    values: Array

    @property
    def n_components(self) -> int:
        """K."""
        return int(self.values.shape[0])

    @property
    def n_features(self) -> int:
        """d."""
        return int(self.values.shape[1])

    @classmethod
    def units(cls, scale: Array) -> Array:
        """Powers of two near ``scale`` that may rescale the features of this structure."""
        return power_of_two(scale)

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

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """The number of free parameters in all K matrices together."""

    @classmethod
    @abstractmethod
    def pool(cls, covariances: Array, count: Array) -> Array:
        """Share what the structure shares of the covariances about the means."""

    @classmethod
    @abstractmethod
    def observations(cls, count: Array, n_features: int) -> Array:
        """How many squares each parameter averages over, shape (K,), of components so large."""

    @property
    @abstractmethod
    def copies(self) -> int:
        """How many times ``values`` repeats a parameter that is shared."""

    # The algebra.

    @property
    @abstractmethod
    def log_det(self) -> Array:
        """log |covariance|, shape (K,)."""

    @property
    @abstractmethod
    def precision_cholesky(self) -> Array:
        """U with precision = U U^T (upper triangular, or its diagonal), shaped as ``values``."""

    @property
    @abstractmethod
    def precisions(self) -> Array:
        """The inverses, shaped as ``values``."""

    @abstractmethod
    def trace_precision(self, noise: Array) -> Array:
        """tr(diag(noise) precision), shape (K,), for variances ``noise`` of shape (d,)."""

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
    def squared_lengths(self, vectors: Array) -> Array:
        """v^T precision v of a vector for each component, shape (K,)."""

    @property
    @abstractmethod
    def variances(self) -> Array:
        """The diagonals, shape (K, d)."""

    @abstractmethod
    def dense(self) -> Array:
        """The matrices written out, shape (K, d, d)."""

    @abstractmethod
    def scan(self, means: Array) -> Scan:
        """The arithmetic of a pass over rows, under components with these means."""

    @abstractmethod
    def axes(self) -> Axes:
        """Coordinates in which these are unit matrices."""

    @abstractmethod
    def is_singular(self) -> bool:
        """Whether some feature is determined by others, as far as floating point can tell."""

    @property
    def radial_size(self) -> int:
        """So many features at a time have a common scale that is uncertain: d or 1."""
        return self.n_features

    def student_metric(self, means: Array, power: Array, shrinkage: Array) -> Metric:
        """The arithmetic of scoring, where the scale is uncertain."""
        return StudentMetric(self.scan(means), power, shrinkage)

    @abstractmethod
    def scaled(self, scale: Array) -> Self:
        """The covariances of ``scale * x``, for ``scale`` of shape (d,)."""

    @abstractmethod
    def marginal(self, columns: AnyArray) -> Self:
        """The covariances of some features."""

    @abstractmethod
    def condition(self, free: AnyArray, given: AnyArray) -> tuple[Array, Self]:
        """The regression of the free features on the given ones.

        Returns
        -------
        gain : array of shape (K, n_free, n_given)
        covariance : Covariance
            Of the free features about the regression.
        """

    @abstractmethod
    def draw(self, labels: AnyArray, normal: Array) -> Array:
        """Turn standard normal rows into rows with the covariance of their component."""

    @classmethod
    @abstractmethod
    def identity(cls, n_components: int, n_features: int) -> Self:
        """Identity matrices."""

    @abstractmethod
    def scatter(self, noise: Array) -> Array:
        """The central second moments that ``maximise`` makes these of, shaped as ``values``."""

    @abstractmethod
    def maximise(self, moments: Moments, noise: Array) -> Self:
        """The covariances that maximise the expected regularised log likelihood.

        ``noise`` of shape (d,) is added to the variances: the exact maximiser
        of E[log N(x | mean, C) - tr(diag(noise) C^-1) / 2]. Components that
        hold no weight keep their covariance.
        """


def inverse_transposed(lower: Array) -> Array:
    """L^-T of each lower triangle L, by substitution, which keeps features of any scale apart."""
    return np.array([dtrtri(factor.T)[0] for factor in lower])


class Dense(Covariance):
    """Covariances with off-diagonal elements: Cholesky factors."""

    @cached_property
    def cholesky(self) -> Array:
        """Lower factors, shape (K, d, d)."""
        factors: Array = np.linalg.cholesky(self.values).astype(np.float64, copy=False)
        return factors

    @cached_property
    def precision_cholesky(self) -> Array:
        return inverse_transposed(self.cholesky)

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
        # Cholesky of (given, free): the last block is the conditional factor.
        d_given = len(given)
        factor = self.marginal(np.concatenate([given, free])).cholesky
        lower = factor[:, d_given:, :d_given]
        gain: Array = (
            np.linalg.solve(
                factor[:, :d_given, :d_given].transpose(0, 2, 1), lower.transpose(0, 2, 1)
            )
            .transpose(0, 2, 1)
            .astype(np.float64)
        )
        rest = factor[:, d_given:, d_given:]
        return gain, type(self)(rest @ rest.transpose(0, 2, 1))

    def draw(self, labels: AnyArray, normal: Array) -> Array:
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
        try:
            unexplained = self.cholesky.diagonal(axis1=1, axis2=2) ** 2
        except np.linalg.LinAlgError:
            return True
        return bool((unexplained <= tolerance * self.variances).any())

    @classmethod
    def _repair(cls, maximiser: Array, previous: Array) -> Array:
        """Inflate a singular maximiser a little, if that is clearly better than to stay.

        Either way the expected log likelihood does not fall, so the bound
        stays monotone, and no matrix ever becomes so ill-conditioned that its
        determinant is noise.
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


class AxisAligned(Covariance):
    """Covariances without off-diagonal elements: only their diagonals are stored."""

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

    def draw(self, labels: AnyArray, normal: Array) -> Array:
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
