"""The arithmetic of a block on a torch device, as the NumPy scans define it.

Each class here takes its parameters from a NumPy scan and computes the same
with whole torch operations, since a GPU is fastest with few large ones. Only
the NumPy scan turns the sums over blocks into moments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from skemvae.core.arrays import AnyArray
from skemvae.core.scan import Scan
from skemvae.structures.axis_scan import AxisScan, ExpandedScan, SphericalScan
from skemvae.structures.dense_scan import (
    DenseScan,
    DifferenceScan,
    SingleScan,
    TiedScan,
    UnitScan,
    WhitenedScan,
)
from skemvae.structures.factor_scan import ExpandedFactorScan, FactorScan


class TorchScan(ABC):
    """A ``core.scan.Scan`` on a device: z is (d + 1, n), ending with ones; weights are (K, n)."""

    def __init__(self, device: torch.device):
        self._device = device

    def _constant(self, array: AnyArray) -> Tensor:
        return torch.tensor(array, dtype=torch.float64, device=self._device)

    @abstractmethod
    def features(self, z: Tensor) -> Tensor:
        """What the structure needs to compute from a block."""

    @abstractmethod
    def squared_distances(self, features: Tensor) -> Tensor:
        """-2 log density, up to a constant, shape (K, n)."""

    @abstractmethod
    def second(self, features: Tensor, weight: Tensor) -> Tensor:
        """Weighted second moments in the scan's own coordinates; may overwrite ``features``."""


class _Standardised(TorchScan):
    """Features are standardised differences, of shape (K, d, n)."""

    def squared_distances(self, features: Tensor) -> Tensor:
        # This takes one pass and needs no array of squares.
        lengths: Tensor = torch.linalg.vector_norm(features, dim=1)
        return lengths.square_()


class _Dense(_Standardised):
    def second(self, features: Tensor, weight: Tensor) -> Tensor:
        features *= weight.sqrt()[:, None, :]
        return features @ features.transpose(1, 2)


class _Whitened(_Dense):
    def __init__(self, scan: WhitenedScan, device: torch.device):
        super().__init__(device)
        self._shape = scan.means.shape
        upper, means = self._constant(scan.precision_cholesky), self._constant(scan.means)
        constant = -(means[:, None, :] @ upper)
        whitener = torch.cat([upper, constant], 1).transpose(1, 2)
        self._whitener = whitener.reshape(-1, whitener.shape[2])

    def features(self, z: Tensor) -> Tensor:
        return (self._whitener @ z).reshape(*self._shape, -1)


class _Differences(_Dense):
    def __init__(self, scan: DenseScan, device: torch.device):
        super().__init__(device)
        self._means = self._constant(scan.means)[:, :, None]
        self._whitener = self._constant(scan.precision_cholesky).transpose(1, 2)

    def features(self, z: Tensor) -> Tensor:
        return self._whitener @ (z[:-1] - self._means)


class _Axis(_Standardised):
    def __init__(self, scan: AxisScan, device: torch.device):
        super().__init__(device)
        self._means = self._constant(scan.means)[:, :, None]
        self._deviations = self._constant(scan.variances).sqrt()[:, :, None]

    def features(self, z: Tensor) -> Tensor:
        return (z[:-1] - self._means).div_(self._deviations)

    def second(self, features: Tensor, weight: Tensor) -> Tensor:
        return (features.square_() @ weight[:, :, None])[:, :, 0]


class _Linear(TorchScan):
    """Squared distances are linear in the features."""

    def __init__(self, scan: ExpandedScan | TiedScan, device: torch.device):
        super().__init__(device)
        self._coefficients = self._constant(scan.coefficients)

    def squared_distances(self, features: Tensor) -> Tensor:
        return self._coefficients @ features


class _Expanded(_Linear):
    def features(self, z: Tensor) -> Tensor:
        return torch.cat([z[:-1].square(), z])

    def second(self, features: Tensor, weight: Tensor) -> Tensor:
        return weight @ features[: len(features) // 2].T


class _Spherical(_Linear):
    def features(self, z: Tensor) -> Tensor:
        return torch.cat([z[:-1].square().sum(0, keepdim=True), z])

    def second(self, features: Tensor, weight: Tensor) -> Tensor:
        return weight @ features[:1].T


class _Tied(_Linear):
    def __init__(self, scan: TiedScan, device: torch.device):
        super().__init__(scan, device)
        self._whitener = self._constant(scan.whitener)

    def features(self, z: Tensor) -> Tensor:
        y = self._whitener @ z
        return torch.cat([y, y[:-1].square().sum(0, keepdim=True)])

    def second(self, features: Tensor, weight: Tensor) -> Tensor:
        y = features[:-2]
        return (y * weight.sum(0)) @ y.T


class _Factors(TorchScan):
    """Features are differences, then their projections on the directions; (K, d + q, n)."""

    def __init__(self, scan: FactorScan, device: torch.device):
        super().__init__(device)
        self._means = self._constant(scan.means)[:, :, None]
        self._loadings = self._constant(scan.loadings)
        self._deviations = self._constant(scan.noise).sqrt()[:, :, None]
        self._directions = self._constant(scan.directions)
        self._roots = self._constant(scan.roots).transpose(1, 2)

    def features(self, z: Tensor) -> Tensor:
        differences = z[:-1] - self._means
        return torch.cat([differences, self._directions @ differences], 1)

    def squared_distances(self, features: Tensor) -> Tensor:
        d = self._loadings.shape[1]
        factors = torch.linalg.solve_triangular(self._roots, features[:, d:], upper=True)
        residuals = (features[:, :d] - self._loadings @ factors).div_(self._deviations)
        lengths: Tensor = residuals.square_().sum(1) + factors.square_().sum(1)
        return lengths

    def second(self, features: Tensor, weight: Tensor) -> Tensor:
        d = self._loadings.shape[1]
        differences = features[:, :d]
        weighted = differences * weight[:, None, :]
        seen = weighted @ features[:, d:].transpose(1, 2)
        return torch.cat([seen, (weighted * differences).sum(2, keepdim=True)], 2)


class _ExpandedFactors(TorchScan):
    """Features are squares, z with its ones, and projections on the directions of components."""

    def __init__(self, scan: ExpandedFactorScan, device: torch.device):
        super().__init__(device)
        self._shape = scan.loadings.shape
        self._projection = self._constant(scan.projection)
        self._coefficients = self._constant(scan.coefficients)

    def features(self, z: Tensor) -> Tensor:
        return torch.cat([z[:-1].square(), z, self._projection @ z])

    def squared_distances(self, features: Tensor) -> Tensor:
        k, d, q = self._shape
        seen = features[2 * d + 1 :].reshape(k, q, -1).square().sum(1)
        distances = self._coefficients @ features[: 2 * d + 1] - seen
        return distances.nan_to_num_(torch.inf, torch.inf).clamp_(0.0)

    def second(self, features: Tensor, weight: Tensor) -> Tensor:
        k, d, q = self._shape
        seen = features[2 * d + 1 :].reshape(k, q, -1) * weight[:, None, :]
        products = seen @ features[d : 2 * d].T
        squares = weight @ features[:d].T
        return torch.cat([products.transpose(1, 2), squares[:, :, None]], 2)


def on_device(scan: Scan, device: torch.device) -> TorchScan:
    """The same arithmetic, on a device.

    Raises
    ------
    ValueError
        If the scan is of a class that torch does not know.
    """
    if type(scan) not in _SCANS:
        raise ValueError(
            f"device={device.type!r}: a GPU knows the built-in covariance types only, not "
            f"{type(scan).__name__}: set device='cpu'."
        )
    return _SCANS[type(scan)](scan, device)


# By the very class: one that derives from another may compute something else.
_SCANS: dict[type[Scan], Callable[[Any, torch.device], TorchScan]] = {
    WhitenedScan: _Whitened,
    SingleScan: _Whitened,
    DifferenceScan: _Differences,
    UnitScan: _Differences,
    TiedScan: _Tied,
    AxisScan: _Axis,
    ExpandedScan: _Expanded,
    SphericalScan: _Spherical,
    FactorScan: _Factors,
    ExpandedFactorScan: _ExpandedFactors,
}
