"""Factor-analytic covariances: a few factors explain what d features share."""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any, ClassVar, Self

import numpy as np

from skemvae.core.arrays import TINY, AnyArray, Array
from skemvae.core.covariance import Axes, Covariance
from skemvae.core.moments import Moments
from skemvae.core.scan import Scan
from skemvae.structures.dense import Full
from skemvae.structures.factor_scan import ExpandedFactorScan, FactorMoments, FactorScan

_ROOT_2 = float(np.sqrt(2))
# Finding the factors nearest to a matrix takes at most _STEPS iterations, and ends when the
# relative changes of the noise variances fall below _STILL.
_STEPS, _STILL = 10, 1e-6


class FactorAnalytic(Covariance):
    """Λ Λ^T + Ψ for each component: each feature has q loadings and a noise variance.

    Attributes
    ----------
    values : array of shape (K, d, q + 1)
        The loadings Λ, and the diagonal of Ψ in the last column.
    n_factors : int
        q.

    References
    ----------
    Ghahramani and Hinton (1996), "The EM algorithm for mixtures of factor analyzers"; Liu, Rubin
    and Wu (1998), "Parameter expansion to accelerate EM"; Jöreskog (1967), "Some contributions to
    maximum likelihood factor analysis".
    """

    name = "factor_analytic"
    least_ridge = 1e-10
    n_factors: ClassVar[int] = 1

    # The structure.

    @classmethod
    def with_factors(cls, n_factors: int) -> type[Self]:
        bound: type[Self] = _with_factors(cls, int(n_factors))
        return bound

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.n_factors, self.values)

    @classmethod
    def identity(cls, n_components: int, n_features: int) -> Self:
        values = np.zeros((n_components, n_features, cls.n_factors + 1))
        values[:, :, -1] = 1.0
        return cls(values)

    @classmethod
    def races_as(cls) -> type[Any]:
        return Full

    @classmethod
    def nearest(cls, covariance: Any, noise: Array) -> Self:
        return cls(np.array([_factorised(one, cls.n_factors, noise) for one in covariance.dense()]))

    @classmethod
    def missing(cls, n_rows: Array, n_features: int) -> float:
        # Rows must span the factors; the noise variances need no more rows.
        return float(np.clip(1 - n_rows[0] / min(cls.n_factors, n_features), 0.0, 1.0))

    @classmethod
    def fitted_shapes(cls, n_components: int, n_features: int) -> dict[str, tuple[int, ...]]:
        shape = n_components, n_features
        return {"loadings_": (*shape, cls.n_factors), "noise_variances_": shape}

    @classmethod
    def from_fitted(cls, n_components: int, n_features: int, *arrays: Array) -> Self:
        loadings, noise = arrays
        return cls(np.concatenate([loadings, noise[:, :, None]], axis=2))

    def fitted(self) -> dict[str, Array]:
        return {
            "loadings_": self.loadings.copy(),
            "noise_variances_": self.own_variances.copy(),
            "covariances_": self.dense(),
            "precisions_": self._precisions,
        }

    @property
    def n_parameters(self) -> int:
        k, d, q = self.loadings.shape
        # A rotation of the factors changes nothing.
        free = min(q, d)
        return int(k * min(d + d * free - free * (free - 1) // 2, d * (d + 1) // 2))

    # The algebra.

    @property
    def loadings(self) -> Array:
        """Λ, shape (K, d, q)."""
        return self.values[:, :, :-1]

    @property
    def own_variances(self) -> Array:
        return self.values[:, :, -1]

    @cached_property
    def _roots(self) -> Array:
        """L, lower triangular, with L L^T = I + Λ^T Ψ^-1 Λ."""
        information = self.loadings.transpose(0, 2, 1) @ self._scaled_loadings
        unit = np.eye(self.loadings.shape[2])
        return np.asarray(np.linalg.cholesky(information + unit), dtype=np.float64)

    @property
    def _scaled_loadings(self) -> Array:
        scaled: Array = self.loadings / self.own_variances[:, :, None]
        return scaled

    @cached_property
    def _directions(self) -> Array:
        """T = L^-1 Λ^T Ψ^-1, shape (K, q, d): the precision is Ψ^-1 - T^T T."""
        scaled = self._scaled_loadings.transpose(0, 2, 1)
        return np.asarray(np.linalg.solve(self._roots, scaled), dtype=np.float64)

    @property
    def log_det(self) -> Array:
        roots = self._roots.diagonal(axis1=1, axis2=2)
        log_det: Array = np.log(self.own_variances).sum(1) + 2 * np.log(roots).sum(1)
        return log_det

    def trace_precision(self, noise: Array) -> Array:
        precisions = 1 / self.own_variances - (self._directions**2).sum(1)
        trace: Array = precisions @ noise
        return trace

    @property
    def variances(self) -> Array:
        variances: Array = (self.loadings**2).sum(2) + self.own_variances
        return variances

    def dense(self) -> Array:
        dense = self.loadings @ self.loadings.transpose(0, 2, 1)
        dense.reshape(len(dense), -1)[:, :: self.n_features + 1] += self.own_variances
        return dense

    @property
    def _precisions(self) -> Array:
        precisions = -self._directions.transpose(0, 2, 1) @ self._directions
        precisions.reshape(len(precisions), -1)[:, :: self.n_features + 1] += 1 / self.own_variances
        return precisions

    def scan(self, means: Array) -> Scan:
        extent = means**2 + (self.loadings**2).sum(2)
        largest = (extent / self.own_variances).max()
        scan = ExpandedFactorScan if largest <= ExpandedFactorScan.LIMIT**2 else FactorScan
        return scan(means, self.loadings, self.own_variances, self._directions, self._roots)

    def axes(self) -> Axes:
        return FactorAxes(self)

    def near(self, values: Array, weights: Array) -> Self:
        return type(self)(values)

    def above(self, noise: Array) -> Self:
        return type(self)(_clipped(self.values, noise))

    def is_singular(self) -> bool:
        return not bool((self.own_variances > 0).all())

    def scaled(self, scale: Array) -> Self:
        values = self.values * scale[:, None]
        values[:, :, -1] *= scale
        return type(self)(values)

    def marginal(self, columns: AnyArray) -> Self:
        return type(self)(self.values[:, columns])

    def condition(self, free: AnyArray, given: AnyArray) -> tuple[Array, Self]:
        known, rest = self.marginal(given), self.marginal(free)
        # Given some features, the factors have mean L^-T t and covariance L^-T L^-1.
        upper = np.linalg.inv(known._roots).transpose(0, 2, 1)
        loadings = rest.loadings @ upper
        values = np.concatenate([loadings, rest.values[:, :, -1:]], axis=2)
        return loadings @ known._directions, type(self)(values)

    def draw(self, labels: AnyArray, rng: Any) -> Array:
        normal: Array = rng.standard_normal((len(labels), self.n_features))
        # A symmetric root, Ψ^1/2 (I + A A^T)^1/2 with A = Ψ^-1/2 Λ: as many numbers as features.
        rows = np.empty_like(normal)
        for k, (turn, stretch) in enumerate(zip(*self._stretches, strict=True)):
            own = normal[labels == k]
            rows[labels == k] = own + ((own @ turn) * (stretch - 1)) @ turn.T
        rows *= np.sqrt(self.own_variances)[labels]
        return rows

    @cached_property
    def _stretches(self) -> tuple[Array, Array]:
        """Orthonormal directions of Ψ^-1/2 Λ, and the standard deviations along them."""
        scaled = self.loadings / np.sqrt(self.own_variances)[:, :, None]
        turns, lengths, _ = np.linalg.svd(scaled, full_matrices=False)
        return turns, np.sqrt(1 + lengths**2)

    # The M step.

    def scatter(self, noise: Array) -> Array:
        seen = self.loadings @ (self._directions @ self.loadings).transpose(0, 2, 1)
        seen += (self.own_variances - noise)[:, :, None] * self._directions.transpose(0, 2, 1)
        return np.concatenate([seen, (self.variances - noise)[:, :, None]], axis=2)

    def maximise(self, moments: Moments, noise: Array) -> Self:
        """Take one parameter-expanded EM step; noise variances stay at or above ``noise``.

        Moments along the directions of these covariances allow that step. For moments that
        are matrices, return the nearest factor-analytic covariances.
        """
        if not isinstance(moments, FactorMoments):
            matrices = moments.where_counted(moments.covariances, self.dense) + np.diag(noise)
            return self.nearest(Full(matrices), noise)
        seen = moments.where_counted(moments.covariances, lambda: self.scatter(noise))
        turned = self._directions.transpose(0, 2, 1)
        inverse = np.linalg.inv(self._roots)  # factors have mean L^-T t and covariance L^-T L^-1
        products = (seen[:, :, :-1] + noise[:, None] * turned) @ inverse
        expected = inverse.transpose(0, 2, 1) @ (self._directions @ products + inverse)
        values, axes = np.linalg.eigh((expected + expected.transpose(0, 2, 1)) / 2)
        root = (axes / np.sqrt(np.maximum(values, TINY))[:, None, :]) @ axes.transpose(0, 2, 1)
        loadings = products @ root
        own = seen[:, :, -1] + noise - (loadings**2).sum(2)
        return type(self)(_clipped(np.concatenate([loadings, own[:, :, None]], axis=2), noise))


class FactorAxes(Axes):
    """Coordinates: means in standard deviations, loadings and log variances relative to Ψ.

    Parameters
    ----------
    covariance : FactorAnalytic
    """

    def __init__(self, covariance: FactorAnalytic):
        self._loadings = covariance.loadings
        self._deviations = np.sqrt(covariance.own_variances)
        self._turns, self._stretch = covariance._stretches

    def whitened(self, differences: Array) -> Array:
        return self._stretched(differences / self._deviations, 1 / self._stretch)

    def unwhitened(self, whitened: Array) -> Array:
        unwhitened: Array = self._stretched(whitened, self._stretch) * self._deviations
        return unwhitened

    def _stretched(self, vectors: Array, stretch: Array) -> Array:
        along = np.einsum("kdq,kd->kq", self._turns, vectors) * (stretch - 1)
        stretched: Array = vectors + np.einsum("kdq,kq->kd", self._turns, along)
        return stretched

    def log_ratios(self, covariance: Any) -> Array:
        moved = (covariance.loadings - self._loadings) / self._deviations[:, :, None]
        log_ratios = np.log(covariance.own_variances / self._deviations**2) / _ROOT_2
        return np.concatenate([moved.reshape(len(moved), -1), log_ratios], axis=1)

    def values(self, log_ratios: Array) -> Array:
        k, d, q = self._loadings.shape
        moved = log_ratios[:, : d * q].reshape(k, d, q) * self._deviations[:, :, None]
        own = self._deviations**2 * np.exp(_ROOT_2 * log_ratios[:, d * q :])
        return np.concatenate([self._loadings + moved, own[:, :, None]], axis=2)


@cache
def _with_factors(structure: type[Any], n_factors: int) -> Any:
    return type(structure.__name__, (structure,), {"n_factors": n_factors})


def _made(n_factors: int, values: Array) -> FactorAnalytic:
    return FactorAnalytic.with_factors(n_factors)(values)


def _clipped(values: Array, noise: Array) -> Array:
    values[:, :, -1] = np.maximum(values[:, :, -1], noise)
    return values


def _factorised(matrix: Array, n_factors: int, floor: Array) -> Array:
    """Find the Λ and Ψ of maximum likelihood for a covariance matrix; shape (d, q + 1).

    Given Ψ, the best Λ has a closed form (Jöreskog 1967); the steps for Ψ never lower the
    likelihood.
    """
    d = len(matrix)
    variances = matrix.diagonal()
    floor = np.maximum(floor, 1e-12 * variances)
    q = min(n_factors, d)
    own = np.maximum(variances / 2, floor)
    loadings = np.zeros((d, n_factors))
    for _ in range(_STEPS):
        deviations = np.sqrt(own)
        values, axes = np.linalg.eigh(matrix / np.outer(deviations, deviations))
        lengths = np.sqrt(np.maximum(values[-q:] - 1, 0.0))
        loadings[:, :q] = deviations[:, None] * axes[:, -q:] * lengths
        new = np.maximum(variances - (loadings**2).sum(1), floor)
        moved = np.abs(new / own - 1).max()
        own = new
        if moved < _STILL:
            break
    return np.concatenate([loadings, own[:, None]], axis=1)
