"""The arithmetic of a block under factor-analytic covariances, by Woodbury's identity.

A pass whitens rows in q directions of each component instead of d: ``t = T (x - mean)``, with
``T = L^-1 Λ^T Ψ^-1`` and ``L L^T = I + Λ^T Ψ^-1 Λ``. From ``t`` follow the squared distance,
``(x - mean)^T Ψ^-1 (x - mean) - |t|^2``, and the parts of the scatter S that the M step needs,
``S T^T`` and the diagonal of S, in O(d q) operations per row and component.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.moments import Moments
from skemvae.core.scan import RESOLVED, Scan
from skemvae.core.workspace import Workspace

# Squares of so much are subtracted from each other with an error of some 1e-11.
_STABLE = 1e5


@dataclass(frozen=True)
class FactorMoments(Moments):
    """Moments whose second moments are taken along some directions only.

    Attributes
    ----------
    second : array of shape (K, d, q + 1)
        ``S T^T``, and in the last column the diagonal of S, for the scatter S about ``origin``.
    directions : array of shape (K, q, d)
        T.
    """

    directions: Array

    @property
    def variances(self) -> Array:
        return self.covariances[:, :, -1]

    def _outer(self, a: Array, b: Array) -> Array:
        seen = np.einsum("kqd,kd->kq", self.directions, b)
        return np.concatenate([a[:, :, None] * seen[:, None, :], (a * b)[:, :, None]], axis=2)


@dataclass(frozen=True)
class FactorScan(Scan):
    """Computes differences and their residuals: accurate wherever the means are, but slower.

    Attributes
    ----------
    loadings : array of shape (K, d, q)
        Λ.
    noise : array of shape (K, d)
        The diagonal of Ψ.
    directions : array of shape (K, q, d)
        T.
    roots : array of shape (K, q, q)
        L, lower triangular.
    """

    loadings: Array
    noise: Array
    directions: Array
    roots: Array

    @property
    def width(self) -> int:
        k, d, q = self.loadings.shape
        return int(k * (2 * d + 2 * q))

    @property
    def is_stable(self) -> bool:
        """Whether subtracting |t|^2 is accurate: the error is about eps times the largest ratio."""
        return bool((self.loadings**2 / self.noise[:, :, None]).sum((1, 2)).max() <= _STABLE)

    def features(self, z: Array, workspace: Workspace) -> Array:
        """Differences from the means, then t; shape (K, d + q, n)."""
        k, d, q = self.loadings.shape
        features = workspace.array("features", k, d + q, z.shape[1])
        np.subtract(z[None, :-1], self.means[:, :, None], out=features[:, :d])
        np.matmul(self.directions, features[:, :d], out=features[:, d:])
        return features

    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        # |x - mean - Λ u|^2 / Ψ + |u|^2, u being the expected factors: no large squares cancel.
        d = self.loadings.shape[1]
        factors = np.linalg.solve(self.roots.transpose(0, 2, 1), features[:, d:])
        residuals = np.matmul(self.loadings, factors)
        np.subtract(features[:, :d], residuals, out=residuals)
        residuals /= np.sqrt(self.noise)[:, :, None]
        distances: Array = np.einsum("kdn,kdn->kn", residuals, residuals)
        distances += np.einsum("kqn,kqn->kn", factors, factors)
        return distances

    def residuals(self, features: Array) -> tuple[Array, Array]:
        d = self.loadings.shape[1]
        # The precision is Ψ^-1 - T^T T.
        own = 1 / self.noise - np.einsum("kqd,kqd->kd", self.directions, self.directions)
        pulled = features[:, :d] / self.noise[:, :, None]
        pulled -= self.directions.transpose(0, 2, 1) @ features[:, d:]
        return pulled**2 / own[:, :, None], 1 / own

    def second(self, features: Array, weight: Array, workspace: Workspace) -> Array:
        d = self.loadings.shape[1]
        weighted = features[:, :d] * weight[:, None, :]
        seen = weighted @ features[:, d:].transpose(0, 2, 1)
        squares = np.einsum("kdn,kdn->kd", weighted, features[:, :d])
        return np.concatenate([seen, squares[:, :, None]], axis=2)

    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        first = first - count[:, None] * self.means
        return FactorMoments(count, self.means, first, second, self.directions)

    def about(self, means: Array) -> Scan:
        return FactorScan(means, self.loadings, self.noise, self.directions, self.roots)


@dataclass(frozen=True)
class ExpandedFactorScan(FactorScan):
    """Expands the squares, which needs only a few thin matrix products for all components.

    The terms of a squared distance cancel, so this scan is used only if means and loadings are
    within ``LIMIT`` noise standard deviations of the origin.
    """

    LIMIT: ClassVar[float] = RESOLVED

    @property
    def width(self) -> int:
        k, d, q = self.loadings.shape
        return int(2 * d + 1 + 2 * k * q + k)

    @property
    def origin(self) -> Array:
        return np.zeros_like(self.means)

    @cached_property
    def projection(self) -> Array:
        """The T of all components and, in the last column, -T mean; shape (K q, d + 1)."""
        shift = np.einsum("kqd,kd->kq", self.directions, self.means)
        d = self.means.shape[1]
        return np.concatenate([self.directions.reshape(-1, d), -shift.reshape(-1, 1)], axis=1)

    @cached_property
    def coefficients(self) -> Array:
        """Coefficients of z^2, z and 1 in the distances under Ψ alone; shape (K, 2 d + 1)."""
        linear = self.means / self.noise
        constant = (linear * self.means).sum(1, keepdims=True)
        return np.concatenate([1 / self.noise, -2 * linear, constant], axis=1)

    def features(self, z: Array, workspace: Workspace) -> Array:
        """The squares, then z itself, whose last row holds ones, then t of all components."""
        d, n = self.means.shape[1], z.shape[1]
        features = workspace.array("features", 2 * d + 1 + len(self.projection), n)
        with np.errstate(over="ignore"):
            np.multiply(z[:d], z[:d], out=features[:d])
        features[d : 2 * d + 1] = z
        np.matmul(self.projection, z, out=features[2 * d + 1 :])
        return features

    def squared_distances(self, features: Array, workspace: Workspace) -> Array:
        k, d, q = self.loadings.shape
        plain, seen = features[: 2 * d + 1], features[2 * d + 1 :]
        distances = workspace.array("distances", k, features.shape[1])
        np.matmul(self.coefficients, plain, out=distances)
        seen = seen.reshape(k, q, -1)
        with np.errstate(invalid="ignore"):
            distances -= np.einsum("kqn,kqn->kn", seen, seen)
        distances[np.isnan(distances)] = np.inf  # inf - inf, for rows that are too far away
        return np.maximum(distances, 0.0, out=distances)

    def residuals(self, features: Array) -> tuple[Array, Array]:
        k, d, q = self.loadings.shape
        differences = features[d : 2 * d] - self.means[:, :, None]
        seen = features[2 * d + 1 :].reshape(k, q, -1)
        return super().residuals(np.concatenate([differences, seen], axis=1))

    def second(self, features: Array, weight: Array, workspace: Workspace) -> Array:
        k, d, q = self.loadings.shape
        seen = features[2 * d + 1 :].reshape(k, q, -1)
        seen *= weight[:, None, :]
        products = seen.reshape(k * q, -1) @ features[d : 2 * d].T
        squares = weight @ features[:d].T
        products = products.reshape(k, q, d).transpose(0, 2, 1)
        return np.concatenate([products, squares[:, :, None]], axis=2)

    def moments(self, count: Array, first: Array, second: Array) -> Moments:
        # t is already about the means, x is about 0.
        shift = first - count[:, None] * self.means
        seen = np.einsum("kqd,kd->kq", self.directions, shift)
        second = second.copy()
        second[:, :, :-1] -= self.means[:, :, None] * seen[:, None, :]
        second[:, :, -1] -= self.means * (first + shift)
        return FactorMoments(count, self.means, shift, second, self.directions)
