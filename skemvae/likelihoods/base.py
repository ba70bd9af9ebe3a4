"""The base class of likelihoods p(x_j | η_j), the heads of a decoder."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from skemvae.likelihoods.quadrature import N_NODES, gauss_hermite
from skemvae.likelihoods.units import Units
from skemvae.typing import Array, FloatArray


class Likelihood(nn.Module, ABC):
    """The distribution of the columns of one block, given the outputs η of a decoder.

    Columns are independent given η. Quantities that do not depend on the row
    (variances, dispersions) are parameters of the likelihood itself; ``bind``
    creates them from the training rows.

    Shapes: codes u are (..., d), outputs η (..., n_outputs), and the leading
    axes broadcast. So may those of the parameters, which are (d,) as ``bind`` makes
    them, and (n, d) where a fit asks what each row says of them.
    """

    n_outputs: int
    # Whether the values of its columns must be finite numbers.
    numeric = True
    # Whether column j depends on output j alone.
    separable = True
    # Whether the first outputs are the means of its columns, in the units of codes and features.
    real = False
    # Numbers that an expectation computes per output of a separable likelihood.
    n_nodes = N_NODES
    # What ``bind`` learns of the columns beside parameters: a file keeps it.
    kept: ClassVar[tuple[str, ...]] = ("n_outputs",)

    @abstractmethod
    def units(
        self, X: Array, names: tuple[str, ...], weight: FloatArray | None, standardize: bool
    ) -> Units:
        """The units that turn the training columns ``X`` of shape (n, d) into codes."""

    @abstractmethod
    def bind(self, u: Tensor, weight: Tensor, units: Units) -> Tensor:
        """Set the size of the block and initialise the parameters from its training rows.

        Returns the outputs η, of shape (n_outputs,), that fit the rows (nearly)
        best if they do not depend on z.
        """

    @abstractmethod
    def log_probs(self, u: Tensor, eta: Tensor) -> Tensor:
        """log p(u_j | η) of each column, (..., d), in nats, in the units of the codes."""

    def log_prob(self, u: Tensor, eta: Tensor) -> Tensor:
        """log p(u | η), summed over the columns."""
        return self.log_probs(u, eta).sum(-1)

    def scores(self, u: Tensor, eta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p(u_j | η), (..., d), with its derivative and a curvature by each output.

        The curvatures serve a separate Newton step for each output. Without a
        better approximation, they are the squares of the derivatives.
        """
        with torch.enable_grad():
            eta = eta.detach().requires_grad_(True)
            values = self.log_probs(u, eta)
            (slopes,) = torch.autograd.grad(values.sum(), eta)
        return values.detach(), slopes, slopes**2

    def expected_at(self, u: Tensor, eta: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over points η of shape (n, S, n_outputs), for a likelihood that is not separable.

        ``basis``, of shape (S, B), holds functions of the points times their weights; the
        first function is 1. Returns the mean of log p(u_j | η), of shape (n, d), and the
        means of the derivatives and curvatures of ``scores`` times each function,
        (n, n_outputs, B). May overwrite η to save memory.
        """
        values, slopes, bends = self.scores(u[:, None], eta)
        return basis[:, 0] @ values, *(over_points(each, basis) for each in (slopes, bends))

    def columns_of_outputs(self, d: int) -> Tensor:
        """The column (of d) to which each output belongs."""
        return torch.arange(self.n_outputs) % d

    def expected_log_probs(self, u: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """E[log p(u_j | η_j)] for normal η_j, (..., d), differentiable; for separable columns.

        By quadrature in one dimension, unless there is a closed form.
        """
        nodes, weights = (each.to(mean).reshape(-1, *(1,) * mean.ndim) for each in gauss_hermite())
        return (self.log_probs(u, mean + scale * nodes) * weights).sum(0)

    def expected(self, u: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """E[f], E[f'] and -E[f''] of f = log p(u_j | η_j) for normal η_j; for separable columns.

        E[f'] is the derivative of E[f] by the mean, and E[f''] is twice that by the variance
        (Bonnet; Price).
        """
        with torch.enable_grad():
            mean, scale = mean.detach().requires_grad_(True), scale.detach().requires_grad_(True)
            values = self.expected_log_probs(u, mean, scale)
            by_mean, by_scale = torch.autograd.grad(values.sum(), (mean, scale))
        return values.detach(), by_mean, -by_scale / scale.detach()

    def maximise_own(self, u: Tensor, mean: Tensor, scale: Tensor, weight: Tensor) -> bool:
        """Set the likelihood's own parameters to those that maximise E[log p(u | η)].

        For normal η_j of separable columns. Returns whether a closed form exists; without
        one it does nothing.
        """
        return False

    @abstractmethod
    def mean(self, eta: Tensor) -> Tensor:
        """E[u | η]; for labels, which have no mean, the mode."""

    @abstractmethod
    def sample(self, eta: Tensor, rng: np.random.RandomState) -> FloatArray:
        """Draw codes, an array of shape (n, d)."""

    def features(self, u: Tensor) -> Tensor:
        """The inputs of an encoder for these codes."""
        return u

    def draw(self, u: Tensor, generator: torch.Generator) -> Tensor:
        """The codes to train on, drawn where they are random themselves."""
        return u

    def extra_repr(self) -> str:
        """Constructor parameters, written as in a call."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def over_points(values: Tensor, basis: Tensor) -> Tensor:
    """Sums over the points of ``values`` (n, S, o) times ``basis`` (S, B): (n, o, B)."""
    return (values.movedim(-1, 0) @ basis).movedim(0, 1)


def check_floor(name: str, value: Any) -> float:
    """Return ``value`` as a float, if it is positive and in the range of float32."""
    if not isinstance(value, Real) or not 1e-30 <= float(value) <= 1e30:
        raise ValueError(f"{name}={value!r} must be positive, between 1e-30 and 1e30.")
    return float(value)


def positive(x: Tensor, floor: float) -> Tensor:
    """log(exp(x) + floor), the logarithm of a number above ``floor``."""
    return torch.logaddexp(x, torch.as_tensor(floor, dtype=x.dtype, device=x.device).log())


def weighted_mean(u: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over the rows."""
    return (weight @ u) / weight.sum()


def weighted_variance(u: Tensor, weight: Tensor) -> Tensor:
    """Weighted variance over the rows."""
    return weighted_mean((u - weighted_mean(u, weight)) ** 2, weight)


def head_state(head: Likelihood) -> dict[str, Any]:
    """A likelihood without its tensors, and the tensors as arrays by name."""
    weights = {name: p.numpy(force=True) for name, p in head.named_parameters(recurse=False)}
    bare = copy.deepcopy(head)
    for name in weights:
        delattr(bare, name)
    return {"likelihood": bare, "weights": weights}


def head_of(state: dict[str, Any]) -> Likelihood:
    """Rebuild a likelihood from its state."""
    head: Likelihood = copy.deepcopy(state["likelihood"])
    for name, array in state["weights"].items():
        head.register_parameter(name, nn.Parameter(torch.tensor(array)))
    return head
