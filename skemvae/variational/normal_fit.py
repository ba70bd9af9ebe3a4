"""Factor analysis from the covariance of a table: the fit for normal columns."""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from torch import Tensor

from skemvae.likelihoods.continuous import Gaussian
from skemvae.variational.blocks import Blocks
from skemvae.variational.factor_ascent import FactorState
from skemvae.variational.factor_parameters import Factors
from skemvae.variational.maximise import maximise

# Quasi-Newton iterations per step.
_QUASI_NEWTON = 20


class NormalAscent:
    """Ascent of log p(u) itself, from the mean and covariance of the codes.

    q is the posterior, so the bound equals the log density. Given the noise
    variances, the best loadings are eigenvectors of the covariance in units of
    the noise. The result is a function of the noise variances alone, which a
    quasi-Newton method maximises.

    Parameters
    ----------
    u : Tensor of shape (n, d)
    weight : Tensor of shape (n,)
    log_volume : float
        Log volume of a unit of the codes, in the units of X.

    References
    ----------
    Joreskog (1967), "Some contributions to maximum likelihood factor
    analysis"; Tipping and Bishop (1999), "Probabilistic principal component
    analysis".
    """

    def __init__(self, u: Tensor, weight: Tensor, log_volume: float):
        share, blocks = weight / weight.sum(), Blocks(len(u), u.shape[1])
        (self._mean,) = blocks.sums(lambda rows: (share[rows] @ u[rows],))

        def squares(rows: slice) -> tuple[Tensor]:
            centred = u[rows] - self._mean
            return ((centred.mT * share[rows]) @ centred,)

        (self._covariance,) = blocks.sums(squares)
        self._log_volume = log_volume

    def begin(self, factors: Factors) -> FactorState:
        """The state with the best loadings for the given noise variances."""
        factors.set_intercept(self._mean)
        return self._state(factors)

    def step(self, state: FactorState) -> FactorState:
        """Improve the noise variances, then find the best loadings for them."""
        factors = copy.deepcopy(state.factors)
        own = list(factors.heads.parameters())

        def value_and_gradients(values: list[Tensor]) -> tuple[float, list[Tensor]]:
            for parameter, value in zip(own, values, strict=True):
                parameter.data.copy_(value)
            with torch.enable_grad():
                log_density = self._log_density(factors)
            return float(log_density.detach()), list(torch.autograd.grad(log_density, own))

        factors.heads.requires_grad_(True)
        best = maximise(
            [parameter.detach().clone() for parameter in own], value_and_gradients, _QUASI_NEWTON
        )
        factors.heads.requires_grad_(False)
        for parameter, value in zip(own, best, strict=True):
            parameter.copy_(value)
        new = self._state(factors)
        return new if new.bound >= state.bound else state

    def _state(self, factors: Factors) -> FactorState:
        scale, relative = self._in_units_of_noise(factors)
        values, vectors = torch.linalg.eigh(relative)
        k = min(factors.n_factors, len(values))
        size = (values[-k:] - 1).clamp(min=0).sqrt()
        loadings = scale[:, None] * vectors[:, -k:] * size
        factors.set_loadings(torch.nn.functional.pad(loadings, (0, factors.n_factors - k)))
        bound = float(self._log_density(factors)) - self._log_volume
        return FactorState(factors, None, bound)

    def _log_density(self, factors: Factors) -> Tensor:
        """log p(u) at the best loadings, in nats per row and the units of the codes."""
        scale, relative = self._in_units_of_noise(factors)
        values = torch.linalg.eigvalsh(relative)
        k = min(factors.n_factors, len(values))
        explained, rest = values[-k:], values[:-k]
        # log det Sigma plus the trace of Sigma^-1 C, which is 1 along each explained direction.
        of_factors = torch.where(explained > 1, 1 + explained.clamp(min=1).log(), explained)
        constant = 2 * scale.log().sum() + len(scale) * math.log(2 * math.pi)
        return -0.5 * (constant + of_factors.sum() + rest.sum())

    def _in_units_of_noise(self, factors: Factors) -> tuple[Tensor, Tensor]:
        """Standard deviations of the noise, and the covariance of the codes divided by them."""
        logs = [
            cast(Gaussian, block.head).moments(block.intercept)[1].expand(len(block.intercept))
            for block in factors.blocks
        ]
        scale = torch.exp(torch.cat(logs) / 2)
        return scale, self._covariance / scale[:, None] / scale
