"""Likelihoods of bits, counts and labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skemvae.likelihoods.base import (
    Likelihood,
    check_floor,
    positive,
    weighted_mean,
    weighted_variance,
)
from skemvae.likelihoods.units import Binary, Categories, Counts, Units

# exp of it is 3e8: more than a count may be, and far from the overflow of float32.
_LARGEST_LOG_RATE = 19.5


class Bernoulli(Likelihood):
    """0 or 1, with probability sigmoid(η) of 1.

    Probabilities in (0, 1), such as grey values, are drawn as 0 or 1 anew for
    each batch in training. Only 0 and 1 have a probability to score.
    """

    def units(self, X: Any, names: tuple[str, ...], weight: Any, standardize: bool) -> Units:
        return Binary(names)

    def bind(self, u: Tensor, weight: Tensor, units: Units) -> Tensor:
        self.n_outputs = u.shape[1]
        total = weight.sum()
        return torch.logit((weight @ u + 0.5) / (total + 1))

    def draw(self, u: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(u.shape, generator=generator, dtype=u.dtype, device=u.device)
        return uniform.lt_(u)  # in place: memory is what it costs

    def log_probs(self, u: Tensor, eta: Tensor) -> Tensor:
        return F.logsigmoid((2 * u - 1) * eta)

    def mean(self, eta: Tensor) -> Tensor:
        return torch.sigmoid(eta)

    def sample(self, eta: Tensor, rng: Any) -> Any:
        return rng.binomial(1, torch.sigmoid(eta).numpy()).astype(float)


class _Count(Likelihood):
    """What likelihoods of counts share: a logarithmic link."""

    def units(self, X: Any, names: tuple[str, ...], weight: Any, standardize: bool) -> Units:
        return Counts(names)

    def features(self, u: Tensor) -> Tensor:
        return torch.log1p(u)

    def mean(self, eta: Tensor) -> Tensor:
        return torch.exp(eta.clamp(max=_LARGEST_LOG_RATE))

    @staticmethod
    def _log_mean(u: Tensor, weight: Tensor) -> Tensor:
        # Half a count more: a column of zeros has a finite rate.
        return ((weight @ u + 0.5) / weight.sum()).log()


class Poisson(_Count):
    """Poisson distribution with rate exp(η)."""

    def bind(self, u: Tensor, weight: Tensor, units: Units) -> Tensor:
        self.n_outputs = u.shape[1]
        return self._log_mean(u, weight)

    def log_probs(self, u: Tensor, eta: Tensor) -> Tensor:
        eta = eta.clamp(max=_LARGEST_LOG_RATE)
        # Around the likeliest rate, u, so that large terms do not cancel.
        wide = u.double().clamp(min=1)
        peak = torch.where(u > 0, wide * wide.log() - wide - torch.lgamma(wide + 1), 0.0)
        x = eta - wide.log().to(eta.dtype)
        fall = torch.where(u > 0, u * (x - torch.expm1(x)), -torch.exp(eta))
        return fall + peak.to(eta.dtype)

    def sample(self, eta: Tensor, rng: Any) -> Any:
        return rng.poisson(self.mean(eta).numpy()).astype(float)


class NegativeBinomial(_Count):
    """Negative binomial distribution with mean exp(η).

    Its variance is mean + mean² · dispersion, with a learned dispersion for
    each column.

    Parameters
    ----------
    min_dispersion : float, default=1e-3
        Floor of the dispersion; 0 would be the Poisson distribution.
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
        eta = eta.clamp(max=_LARGEST_LOG_RATE)
        log_size = size.log()
        # Large terms cancel: in float64, once for all samples.
        wide, many = u.double(), size.double()
        choices = torch.lgamma(wide + many) - torch.lgamma(many) - torch.lgamma(wide + 1)
        zero, odds = torch.zeros_like(eta), eta - log_size
        stop, go_on = torch.logaddexp(odds, zero), torch.logaddexp(-odds, zero)
        return choices.to(eta.dtype) - size * stop - u * go_on

    def sample(self, eta: Tensor, rng: Any) -> Any:
        size = self.size.expand(eta.shape).numpy()
        rate = rng.gamma(size, self.mean(eta).numpy() / size)
        return rng.poisson(rate).astype(float)


class Categorical(Likelihood):
    """Labels, with probabilities softmax(η) for those seen in fit.

    All labels that fit has not seen share the mass 1 / (n + 2), where n is
    the total weight of the training rows: Laplace's rule for "an event not seen in n
    trials".
    """

    numeric = False
    separable = False

    def units(self, X: Any, names: tuple[str, ...], weight: Any, standardize: bool) -> Units:
        return Categories.of(names, X)

    def bind(self, u: Tensor, weight: Tensor, units: Units) -> Tensor:
        assert isinstance(units, Categories)
        self.sizes = [len(labels) for labels in units.labels]
        self.n_outputs = sum(self.sizes)
        self.unseen_mass = 1 / (float(weight.sum()) + 2)
        counts = weight @ self.features(u) + 0.5
        return torch.cat([part.log() - part.sum().log() for part in counts.split(self.sizes)])

    def features(self, u: Tensor) -> Tensor:
        """One column of 0 and 1 for each label; an unseen one is nowhere 1."""
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

    def mean(self, eta: Tensor) -> Tensor:
        modes = [logits.argmax(-1, keepdim=True) for logits in eta.split(self.sizes, -1)]
        return torch.cat(modes, -1).to(eta.dtype)

    def sample(self, eta: Tensor, rng: Any) -> Any:
        """Draw from the labels seen in fit: what else there is cannot be named."""
        columns = []
        for logits in eta.split(self.sizes, -1):
            gumbel = rng.gumbel(size=logits.shape)
            columns.append((logits.numpy() + gumbel).argmax(-1))
        return np.stack(columns, -1).astype(float)
