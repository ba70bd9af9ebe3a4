"""Likelihoods of real numbers."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from skemvae.likelihoods.base import (
    Likelihood,
    check_floor,
    positive,
    weighted_mean,
    weighted_variance,
)
from skemvae.likelihoods.quadrature import expectation
from skemvae.likelihoods.units import Continuous, Logarithmic, Units
from skemvae.typing import Array, FloatArray

_LOG_2PI = math.log(2 * math.pi)


def _log1p_square(x: Tensor) -> Tensor:
    """log(1 + x²); the value and its gradient are finite even where x² overflows."""
    far = x.abs() > 1e6
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    near_value = torch.log1p(torch.where(far, zero, x) ** 2)
    return torch.where(far, 2 * torch.where(far, x, one).abs().log(), near_value)


def _log1p_square_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """log(1 + x²) and its derivative, without overflow."""
    root = torch.hypot(x, torch.ones_like(x[:1]))
    slope = (x / root).div_(root).mul_(2)
    return root.log_().mul_(2), slope


class _Real(Likelihood):
    """Base of likelihoods of real numbers, which share their units."""

    real = True

    def units(
        self, X: Array, names: tuple[str, ...], weight: FloatArray | None, standardize: bool
    ) -> Units:
        return Continuous.standard(names, X, weight) if standardize else Continuous.raw(names)


class Gaussian(_Real):
    """Normal distribution with a learned variance.

    Parameters
    ----------
    variance : {"feature", "shared", "row"}, default="feature"
        One variance for each column, one for all, or one for each column and
        row, which the decoder outputs.
    min_variance : float, default=1e-6
        Floor of the variance; relative to the variance of the column if
        columns are standardised.
    """

    def __init__(self, variance: str = "feature", min_variance: float = 1e-6):
        super().__init__()
        if variance not in ("feature", "shared", "row"):
            raise ValueError(f"variance={variance!r} is not one of 'feature', 'row', 'shared'.")
        self.variance = variance
        self.min_variance = check_floor("min_variance", min_variance)
        self.separable = variance != "row"

    n_nodes = 1

    def extra_repr(self) -> str:
        return f"variance={self.variance!r}, min_variance={self.min_variance!r}"

    def bind(self, u: Tensor, weight: Tensor, units: Units) -> Tensor:
        d = u.shape[1]
        mean, variance = weighted_mean(u, weight), weighted_variance(u, weight)
        if self.variance == "shared":
            variance = variance.mean()[None]
        free = (variance - self.min_variance).clamp(min=self.min_variance)
        if self.variance == "row":
            self.n_outputs = 2 * d
            return torch.cat([mean, free.log()])
        self.n_outputs = d
        self.log_variance = nn.Parameter(
            (free.mean()[None] if self.variance == "shared" else free).log()
        )
        return mean

    def moments(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of each column."""
        if self.variance == "row":
            mean, log_variance = eta.chunk(2, -1)
        else:
            mean, log_variance = eta, self.log_variance
        return mean, positive(log_variance, self.min_variance)

    def log_probs(self, u: Tensor, eta: Tensor) -> Tensor:
        mean, log_variance = self.moments(eta)
        standard = (u - mean) * torch.exp(-log_variance / 2)
        return -0.5 * (standard**2 + log_variance + _LOG_2PI) - self.log_stretch(u)

    def log_stretch(self, u: Tensor) -> Tensor:
        """Log length of a unit of the codes at u, relative to its length at 0."""
        return torch.zeros_like(u)

    def expected_log_probs(self, u: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        _, log_variance = self.moments(mean)
        return self.log_probs(u, mean) - 0.5 * scale**2 * torch.exp(-log_variance)

    @torch.no_grad()
    def expected(self, u: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        precision = torch.exp(-self.moments(mean)[1])
        slope = (u - mean) * precision
        return self.expected_log_probs(u, mean, scale), slope, precision.expand(slope.shape)

    def maximise_own(self, u: Tensor, mean: Tensor, scale: Tensor, weight: Tensor) -> bool:
        if self.variance == "row":
            return False
        variance = weighted_mean((u - mean) ** 2 + scale**2, weight)
        if self.variance == "shared":
            variance = variance.mean()[None]
        free = (variance - self.min_variance).clamp(min=1e-3 * self.min_variance)
        self.log_variance.data.copy_(free.log())
        return True

    def mean(self, eta: Tensor) -> Tensor:
        return self.moments(eta)[0]

    def sample(self, eta: Tensor, rng: np.random.RandomState) -> FloatArray:
        mean, log_variance = self.moments(eta)
        scale = torch.exp(log_variance / 2).expand(mean.shape)
        return rng.normal(mean.numpy(), scale.numpy())


class LogNormal(Gaussian):
    """Positive numbers whose logarithm is normal, such as amounts, prices and times.

    Densities are those of x itself and include the factor 1 / x:
    ``p(x) = N(log x | mean, variance) / x``.

    Parameters
    ----------
    variance : {"feature", "shared", "row"}, default="feature"
        Variance of log x: one for each column, one for all, or one for each
        column and row, which the decoder outputs.
    min_variance : float, default=1e-6
        Floor of the variance; relative to the variance of log x if columns
        are standardised.
    """

    def units(
        self, X: Array, names: tuple[str, ...], weight: FloatArray | None, standardize: bool
    ) -> Units:
        return Logarithmic.standard(names, X, weight) if standardize else Logarithmic.raw(names)

    def bind(self, u: Tensor, weight: Tensor, units: Units) -> Tensor:
        assert isinstance(units, Logarithmic)
        self.spread = units.scale.tolist()
        return super().bind(u, weight, units)

    def log_stretch(self, u: Tensor) -> Tensor:
        return self._spread_like(u) * u

    def mean(self, eta: Tensor) -> Tensor:
        """The code of E[x | η], which is larger than exp(E[log x | η])."""
        mean, log_variance = self.moments(eta)
        return mean + self._spread_like(mean) * torch.exp(log_variance) / 2

    def _spread_like(self, u: Tensor) -> Tensor:
        return torch.tensor(self.spread, dtype=u.dtype, device=u.device)


class StudentT(_Real):
    """Student's t with a learned scale and learned degrees of freedom for each column.

    Its heavy tails make it robust to outliers. The degrees of freedom stay
    above 1, so that the mean exists.

    Parameters
    ----------
    min_scale : float, default=1e-3
        Floor of the scale; in standard deviations if columns are standardised.
    """

    def __init__(self, min_scale: float = 1e-3):
        super().__init__()
        self.min_scale = check_floor("min_scale", min_scale)

    def extra_repr(self) -> str:
        return f"min_scale={self.min_scale!r}"

    def bind(self, u: Tensor, weight: Tensor, units: Units) -> Tensor:
        self.n_outputs = u.shape[1]
        scale = weighted_variance(u, weight).sqrt()
        self.log_scale = nn.Parameter((scale - self.min_scale).clamp(min=self.min_scale).log())
        # log of 1 / (df - 1); below a thousandth the distribution is practically normal.
        self.log_tail = nn.Parameter(torch.full_like(scale, -2.0))
        return weighted_mean(u, weight)

    @property
    def df(self) -> Tensor:
        """Degrees of freedom of each column."""
        return 1 + torch.exp(-positive(self.log_tail, 1e-3))

    def log_probs(self, u: Tensor, eta: Tensor) -> Tensor:
        df, log_scale = self.df, positive(self.log_scale, self.min_scale)
        constant = (
            torch.lgamma((df + 1) / 2)
            - torch.lgamma(df / 2)
            - 0.5 * torch.log(math.pi * df)
            - log_scale
        )
        standard = (u - eta) * torch.exp(-log_scale) / df.sqrt()
        return constant - (df + 1) / 2 * _log1p_square(standard)

    def expected_log_probs(self, u: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        df = self.df
        unit = torch.exp(positive(self.log_scale, self.min_scale)) * df.sqrt()
        fall = expectation(_log1p_square_and_slope, (mean - u) / unit, scale / unit)
        return self.log_probs(u, u) - (df + 1) / 2 * fall

    def mean(self, eta: Tensor) -> Tensor:
        return eta

    def sample(self, eta: Tensor, rng: np.random.RandomState) -> FloatArray:
        scale = torch.exp(positive(self.log_scale, self.min_scale))
        noise = rng.standard_t(self.df.expand(eta.shape).numpy())
        return eta.numpy() + scale.numpy() * noise
