"""Variational EM for generalised factor models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from skemvae.latent.distributions import FullGaussian
from skemvae.latent.importance import matched_noise
from skemvae.latent.threads import torch_region
from skemvae.likelihoods.table import Table, assign_columns
from skemvae.models.base import Fit
from skemvae.variational.ascent import climb
from skemvae.variational.expectations import N_NODES, Expected
from skemvae.variational.factors import Block, Factors, LogJoint, expected_values, newton_sums
from skemvae.variational.maximise import maximise

# Numbers in the widest intermediate array of a block of rows.
_BLOCK_NUMBERS = 2**19
# Steps that take q from the prior to its place.
_FIRST_STEPS = 50
# Newton steps that would lower the bound are halved so many times at most.
_HALVINGS = 8
# L-BFGS iterations of an M step without closed form.
_QUASI_NEWTON = 3
# Points where likelihoods that are not separable are looked at: at least so many, and so many for
# each factor, lest each row's q learns their accidents.
_DRAWS, _DRAWS_PER_FACTOR = 64, 16

T = TypeVar("T")


@dataclass(frozen=True)
class FactorState:
    """Parameters, q of each row, and the bound at them.

    Attributes
    ----------
    factors : Factors
    q : FullGaussian
    expected : Expected
        E_q[log p(u, z)].
    bound : float
        Nats per sample, in the units of X.
    """

    factors: Factors
    q: FullGaussian
    expected: Expected
    bound: float


class FactorAscent:
    """Coordinate ascent of the bound on the codes of a table.

    Parameters
    ----------
    u : Tensor of shape (n, d)
    weight : Tensor of shape (n,)
    noise : Tensor of shape (1, S, k)
        Where likelihoods that are not separable are looked at.
    log_volume : float
        Of a unit of the codes, in the units of X.
    """

    def __init__(self, u: Tensor, weight: Tensor, noise: Tensor, log_volume: float):
        self._u = u
        self._weight = weight
        self._noise = noise
        self._log_volume = log_volume

    def start(self, factors: Factors) -> FactorState:
        """q from the prior."""
        q = FullGaussian.standard(len(self._u), factors.n_factors)
        return self._state(factors, *self._climb(factors, q, None, _FIRST_STEPS))

    def step(self, state: FactorState) -> FactorState:
        """An E step for each row, then an M step for each output, then a change of scale of z."""
        q, _ = self._climb(state.factors, state.q, state.expected, 1)
        factors = copy.deepcopy(state.factors)
        self._maximise_predictors(factors, q)
        self._maximise_others(factors, q)
        q = self._rescale(factors, q)
        new = self._state(factors, *self._climb(factors, q, None, 0))
        # By theory the bound never falls: this catches rounding.
        return new if new.bound >= state.bound else state

    def _state(self, factors: Factors, q: FullGaussian, expected: Expected) -> FactorState:
        each = expected.value + q.entropy
        bound = float(self._weight @ each / self._weight.sum()) - self._log_volume
        return FactorState(factors, q, expected, bound)

    # The E step.

    def _climb(
        self, factors: Factors, q: FullGaussian, expected: Expected | None, n_steps: int
    ) -> tuple[FullGaussian, Expected]:
        log_joint = LogJoint(factors, self._u, self._noise)

        def climb_block(rows: slice) -> tuple[FullGaussian, Expected]:
            block, start = log_joint.rows(rows), q.rows(rows)
            here = block(start) if expected is None else expected.rows(rows)
            return climb(block, start, here, n_steps=n_steps)

        parts = self._map(factors, climb_block)
        return (
            FullGaussian(
                torch.cat([q.mean for q, _ in parts]),
                torch.cat([q.precision_cholesky for q, _ in parts]),
            ),
            Expected(
                torch.cat([expected.value for _, expected in parts]),
                torch.cat([expected.gradient for _, expected in parts]),
                torch.cat([expected.curvature for _, expected in parts]),
            ),
        )

    # The M step.

    def _maximise_predictors(self, factors: Factors, q: FullGaussian) -> None:
        """A Newton step for W_j and b_j of each separable output j, halved where it fails."""
        for block in factors.blocks:
            if block.head.separable:
                self._newton_step(factors, block, q)

    def _newton_step(self, factors: Factors, block: Block, q: FullGaussian) -> None:
        sums = self._map(
            factors,
            lambda rows: newton_sums(block, self._u[rows], q.rows(rows), self._weight[rows]),
        )
        value, gradient, hessian = (reduce(torch.add, part) for part in zip(*sums, strict=True))
        size = hessian.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=1e-100)
        ridge = 1e-10 * size[:, None, None] * torch.eye(hessian.shape[-1], dtype=hessian.dtype)
        step = torch.linalg.solve(hessian + ridge, gradient)
        loadings, intercept = block.loadings.clone(), block.intercept.clone()
        pending, length = torch.ones(len(step), dtype=torch.bool), 1.0
        for _ in range(_HALVINGS):
            block.loadings[pending] = loadings[pending] + length * step[pending, :-1]
            block.intercept[pending] = intercept[pending] + length * step[pending, -1]
            pending = pending & ~(self._values(factors, block, q) >= value)
            if not pending.any():
                return
            length /= 2
        block.loadings[pending], block.intercept[pending] = loadings[pending], intercept[pending]

    def _values(self, factors: Factors, block: Block, q: FullGaussian) -> Tensor:
        """sum_i w_i E_q[log p(u_ij | z)] of the outputs of a block."""

        def of_rows(rows: slice) -> Tensor:
            values = expected_values(block, self._u[rows], q.rows(rows), self._noise)
            return self._weight[rows] @ values

        return reduce(torch.add, self._map(factors, of_rows))

    def _maximise_others(self, factors: Factors, q: FullGaussian) -> None:
        """All other parameters by a quasi-Newton method."""
        for block in factors.blocks:
            others = list(block.head.parameters())
            if not block.head.separable:
                others += [block.loadings, block.intercept]
            if others:
                self._quasi_newton(factors, block, others, q)

    def _quasi_newton(
        self, factors: Factors, block: Block, parameters: Sequence[Tensor], q: FullGaussian
    ) -> None:
        total = self._weight.sum()

        def value_and_gradients(values: Sequence[Tensor]) -> tuple[float, Sequence[Tensor]]:
            for parameter, value in zip(parameters, values, strict=True):
                parameter.copy_(value)
                parameter.requires_grad_(True)
            parts = self._map(factors, of_rows)
            for parameter in parameters:
                parameter.requires_grad_(False)
            value, *gradients = (reduce(torch.add, part) for part in zip(*parts, strict=True))
            return float(value), gradients

        def of_rows(rows: slice) -> list[Tensor]:
            with torch.enable_grad():
                values = expected_values(block, self._u[rows], q.rows(rows), self._noise)
                value = (self._weight[rows] @ values).sum() / total
                return [value.detach(), *torch.autograd.grad(value, list(parameters))]

        before = [parameter.clone() for parameter in parameters]
        for parameter, value in zip(
            parameters, maximise(before, value_and_gradients, _QUASI_NEWTON), strict=True
        ):
            parameter.copy_(value)

    def _rescale(self, factors: Factors, q: FullGaussian) -> FullGaussian:
        """Fit the mean and covariance of p(z) as well, then put them into W and b.

        The predictors, and hence the likelihood, stay as they were, while
        KL(q || p(z)) falls.

        References
        ----------
        Liu, Rubin and Wu (1998), "Parameter expansion to accelerate EM: the
        PX-EM algorithm".
        """
        share = self._weight / self._weight.sum()
        shift = share @ q.mean
        centred = q.mean - shift
        covariance = (share[:, None, None] * q.covariance).sum(0) + (centred.mT * share) @ centred
        # An upper triangular root keeps the factors of q triangular.
        scale = torch.linalg.cholesky(covariance.flip(0, 1)).flip(0, 1)
        factors.stretch(shift, scale)
        mean = torch.linalg.solve_triangular(scale, centred.mT, upper=True).mT
        return FullGaussian(mean, scale.mT @ q.precision_cholesky)

    def _map(self, factors: Factors, function: Callable[[slice], T]) -> list[T]:
        """Apply a function to blocks of rows, on several threads; without a graph."""
        n_nodes = max(N_NODES, self._noise.shape[1])
        size = max(1, _BLOCK_NUMBERS // (n_nodes * factors.width))
        slices = [slice(i, i + size) for i in range(0, len(self._u), size)]

        def without_graph(rows: slice) -> Any:
            with torch.no_grad():  # a setting of each thread
                return function(rows)

        with torch_region() as region, torch.no_grad():
            return region.map(without_graph, slices)


class FactorFit(Fit):
    """A fit of ``FactorModel``: from rows to codes to parameters."""

    def __init__(self, model: Any, X: Any, weight: Any, names: Any, rng: Any, previous: Any):
        self._model = model
        self._rng = rng
        self._previous = previous
        blocks = assign_columns(model.likelihood, X, names)
        self._heads = [head for head, _ in blocks]
        self._design = {
            "n_factors": model.n_factors,
            "likelihood": [(repr(head), columns.tolist()) for head, columns in blocks],
        }
        if previous is None:
            self._table = Table.of(blocks, X, names, weight, standardize=True)
            self._seed = int(rng.randint(2**31))
        else:
            self._check_design()
            self._table, self._seed = previous._table, previous._seed
        self._u = torch.from_numpy(self._table.encode(X, np.float64, exact=True))
        self._weight = torch.ones(len(self._u), dtype=torch.float64)
        if weight is not None:
            self._weight = torch.tensor(weight / weight.max(), dtype=torch.float64)
        n_draws = max(_DRAWS, _DRAWS_PER_FACTOR * model.n_factors)
        noise = torch.from_numpy(matched_noise(n_draws, model.n_factors, self._seed))[None]
        self._ascent = FactorAscent(self._u, self._weight, noise, self._table.log_volume)
        self.step = self._ascent.step

    def _check_design(self) -> None:
        for name, asked in self._design.items():
            fitted = self._previous._design[name]
            if asked != fitted:
                raise ValueError(
                    f"The fitted model has {name} {fitted}, but the parameters now ask for "
                    f"{asked}: set warm_start=False."
                )

    def start(self) -> tuple[FactorState, bool]:
        if self._previous is not None:
            factors = copy.deepcopy(self._previous._factors)
        else:
            factors = Factors.start(
                copy.deepcopy(self._heads),
                self._table,
                self._u,
                self._weight,
                self._model.n_factors,
                self._rng,
            )
        return self._ascent.start(factors), False

    def fitted(self, state: FactorState) -> Any:
        factors = copy.deepcopy(state.factors)
        return clone(self._model)._set(factors, self._table, self._seed, self._design)
