"""Likelihoods of bits, counts and labels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skemvae.likelihoods.base import (
    Likelihood,
    check_floor,
    over_points,
    positive,
    weighted_mean,
    weighted_variance,
)
from skemvae.likelihoods.quadrature import expectation, softplus
from skemvae.likelihoods.units import Binary, Categories, Counts, Units
from skemvae.typing import Array, FloatArray

# Its exp is 3e8: larger than any allowed count, and far from the overflow of float32.
_LARGEST_LOG_RATE = 19.5


class Bernoulli(Likelihood):
    """0 or 1, where 1 has probability sigmoid(η).

    In training, probabilities in (0, 1), such as grey values, are drawn as 0 or
    1 anew for each batch. Only 0 and 1 can be scored.
    """

    def units(
        self, X: Array, names: tuple[str, ...], weight: FloatArray | None, standardize: bool
    ) -> Units:
        return Binary(names)

    def bind(self, u: Tensor, weight: Tensor, units: Units) -> Tensor:
        self.n_outputs = u.shape[1]
        total = weight.sum()
        return torch.logit((weight @ u + 0.5) / (total + 1))

    def draw(self, u: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(u.shape, generator=generator, dtype=u.dtype, device=u.device)
        return uniform.lt_(u)  # in place, to save memory

    def log_probs(self, u: Tensor, eta: Tensor) -> Tensor:
        return F.logsigmoid((2 * u - 1) * eta)

    def expected_log_probs(self, u: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        return u * mean - expectation(softplus, mean, scale)

    def mean(self, eta: Tensor) -> Tensor:
        return torch.sigmoid(eta)

    def sample(self, eta: Tensor, rng: np.random.RandomState) -> FloatArray:
        return rng.binomial(1, torch.sigmoid(eta).numpy()).astype(float)


class _Count(Likelihood):
    """Base of likelihoods of counts, which share a logarithmic link."""

    def units(
        self, X: Array, names: tuple[str, ...], weight: FloatArray | None, standardize: bool
    ) -> Units:
        return Counts(names)

    def features(self, u: Tensor) -> Tensor:
        return torch.log1p(u)

    def mean(self, eta: Tensor) -> Tensor:
        return torch.exp(eta.clamp(max=_LARGEST_LOG_RATE))

    @staticmethod
    def _log_mean(u: Tensor, weight: Tensor) -> Tensor:
        # Half a count more, so that a column of zeros has a finite log rate.
        return ((weight @ u + 0.5) / weight.sum()).log()


class Poisson(_Count):
    """Poisson distribution with rate exp(η)."""

    n_nodes = 1

    def bind(self, u: Tensor, weight: Tensor, units: Units) -> Tensor:
        self.n_outputs = u.shape[1]
        return self._log_mean(u, weight)

    def log_probs(self, u: Tensor, eta: Tensor) -> Tensor:
        eta = eta.clamp(max=_LARGEST_LOG_RATE)
        return self._log_probs(u, eta, eta)

    @staticmethod
    def _log_probs(u: Tensor, eta: Tensor, log_rate: Tensor) -> Tensor:
        """u η - exp(log rate) - log u!, relative to the best rate u, so no large terms cancel."""
        wide = u.double().clamp(min=1)
        log_peak = wide.log()
        peak = torch.where(u > 0, wide * log_peak - wide - torch.lgamma(wide + 1), 0.0)
        log_peak = log_peak.to(eta.dtype)
        rise, beyond = eta - log_peak, torch.expm1(log_rate - log_peak)
        fall = torch.where(u > 0, u * (rise - beyond), -torch.exp(log_rate))
        return fall + peak.to(eta.dtype)

    def expected_log_probs(self, u: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        return self._log_probs(u, mean, mean + scale**2 / 2)

    @torch.no_grad()
    def expected(self, u: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rate = torch.exp(mean + scale**2 / 2)
        return self.expected_log_probs(u, mean, scale), u - rate, rate

    def sample(self, eta: Tensor, rng: np.random.RandomState) -> FloatArray:
        return rng.poisson(self.mean(eta).numpy()).astype(float)


class NegativeBinomial(_Count):
    """Negative binomial distribution with mean exp(η).

    Its variance is mean + mean² · dispersion, with a learned dispersion for
    each column.

    Parameters
    ----------
    min_dispersion : float, default=1e-3
        Floor of the dispersion; a dispersion of 0 would be the Poisson
        distribution.
    """

    def __init__(self, min_dispersion: float = 1e-3):
        super().__init__()
        self.min_dispersion = check_floor("min_dispersion", min_dispersion)

    def extra_repr(self) -> str:
        return f"min_dispersion={self.min_dispersion!r}"

    def bind(self, u: Tensor, weight: Tensor, units: Units) -> Tensor:
        self.n_outputs = u.shape[1]
        mean = weighted_mean(u, weight)
        excess = weighted_variance(u, weight) - mean
        dispersion = excess / mean.clamp(min=1e-3) ** 2
        self.log_dispersion = nn.Parameter(dispersion.clamp(1e-2, 1e2).log())
        return self._log_mean(u, weight)

    @property
    def size(self) -> Tensor:
        """1 / dispersion of each column."""
        return torch.exp(-positive(self.log_dispersion, self.min_dispersion))

    def log_probs(self, u: Tensor, eta: Tensor) -> Tensor:
        size = self.size
        zero, odds = torch.zeros_like(eta), eta - size.log()
        stop, go_on = torch.logaddexp(odds, zero), torch.logaddexp(-odds, zero)
        return self._log_choices(u).to(eta.dtype) - size * stop - u * go_on

    def _log_choices(self, u: Tensor) -> Tensor:
        # In float64, because large terms cancel; computed once for all samples.
        wide, many = u.double(), self.size.double()
        return torch.lgamma(wide + many) - torch.lgamma(many) - torch.lgamma(wide + 1)

    def expected_log_probs(self, u: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        size = self.size
        odds = mean - size.log()
        fall = (u + size) * expectation(softplus, odds, scale)
        return self._log_choices(u) + u * odds - fall

    def sample(self, eta: Tensor, rng: np.random.RandomState) -> FloatArray:
        size = self.size.expand(eta.shape).numpy()
        rate = rng.gamma(size, self.mean(eta).numpy() / size)
        return rng.poisson(rate).astype(float)


class Categorical(Likelihood):
    """Labels, with probabilities softmax(η) for those seen in fit.

    All labels that fit has not seen share the mass 1 / (n + 2), where n is the
    total weight of the training rows: Laplace's rule for an event not seen in n
    trials.

    A column may have at most 1,000 labels, because each label adds a column of
    parameters. Leave identifiers out, and group rare labels.
    """

    numeric = False
    separable = False

    def units(
        self, X: Array, names: tuple[str, ...], weight: FloatArray | None, standardize: bool
    ) -> Units:
        return Categories.of(names, X)

    def bind(self, u: Tensor, weight: Tensor, units: Units) -> Tensor:
        assert isinstance(units, Categories)
        self.sizes = [len(labels) for labels in units.labels]
        self.n_outputs = sum(self.sizes)
        self.unseen_mass = 1 / (float(weight.sum()) + 2)
        counts = weight @ self.features(u) + 0.5
        return torch.cat([part.log() - part.sum().log() for part in counts.split(self.sizes)])

    def features(self, u: Tensor) -> Tensor:
        """One column of 0 and 1 for each label; an unseen label is 0 in all of them."""
        return torch.cat(
            [
                (column == torch.arange(size, dtype=u.dtype, device=u.device)).to(u.dtype)
                for column, size in zip(u.split(1, -1), self.sizes, strict=True)
            ],
            -1,
        )

    def log_probs(self, u: Tensor, eta: Tensor) -> Tensor:
        seen, unseen = math.log1p(-self.unseen_mass), math.log(self.unseen_mass)
        columns = []
        for column, logits in zip(u.split(1, -1), eta.split(self.sizes, -1), strict=True):
            leading = torch.broadcast_shapes(column.shape[:-1], logits.shape[:-1])
            index = column.clamp(min=0).long().expand(*leading, 1)
            log_prob = torch.log_softmax(logits, -1).expand(*leading, -1).gather(-1, index)
            columns.append(torch.where(column < 0, unseen, seen + log_prob))
        return torch.cat(columns, -1)

    @torch.no_grad()
    def expected_at(self, u: Tensor, eta: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same, with p as the curvature, which is exact while p is the same everywhere."""
        seen, unseen = math.log1p(-self.unseen_mass), math.log(self.unseen_mass)
        known, index = u >= 0, u.clamp(min=0).long()[:, None]
        values = []
        for j, logits in enumerate(eta.split(self.sizes, -1)):
            of_label = logits.gather(-1, index[..., j : j + 1].expand(*logits.shape[:-1], 1))
            top = logits.amax(-1, keepdim=True)
            total = logits.sub_(top).exp_().sum(-1, keepdim=True)  # in place, so eta becomes p
            logits.div_(total)
            values.append((of_label - top - total.log_())[..., 0] @ basis[:, 0])
        value = torch.where(known, seen + torch.stack(values, -1), unseen)
        known = known.repeat_interleave(torch.tensor(self.sizes), -1)
        bend = over_points(eta, basis) * known[..., None]
        return value, self.features(u)[..., None] * basis.sum(0) - bend, bend

    def columns_of_outputs(self, d: int) -> Tensor:
        return torch.arange(d).repeat_interleave(torch.tensor(self.sizes))

    def mean(self, eta: Tensor) -> Tensor:
        modes = [logits.argmax(-1, keepdim=True) for logits in eta.split(self.sizes, -1)]
        return torch.cat(modes, -1).to(eta.dtype)

    def sample(self, eta: Tensor, rng: np.random.RandomState) -> FloatArray:
        """Draw from the labels seen in fit, because the others are unknown."""
        columns = []
        for logits in eta.split(self.sizes, -1):
            gumbel = rng.gumbel(size=logits.shape)
            columns.append((logits.numpy() + gumbel).argmax(-1))
        return np.stack(columns, -1).astype(float)
