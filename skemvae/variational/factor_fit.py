"""Variational EM for generalised factor models."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from skemvae.core.iterate import Fit
from skemvae.latent.distributions import FullGaussian
from skemvae.likelihoods.table import Table, assign_columns
from skemvae.variational.ascent import climb
from skemvae.variational.blocks import Blocks
from skemvae.variational.expectations import Points
from skemvae.variational.factor_bound import FactorState, LogJoint, NewtonSums, expected_values
from skemvae.variational.factors import Block, Factors, all_normal
from skemvae.variational.normal_fit import NormalAscent

# Steps that take q from the prior to its place.
_FIRST_STEPS = 50
# Newton steps that would lower the bound are halved so many times at most.
_HALVINGS = 8
# L-BFGS iterations of an M step without closed form.
_QUASI_NEWTON = 3


class FactorAscent:
    """Coordinate ascent of the bound on the codes of a table.

    Parameters
    ----------
    u : Tensor of shape (n, d)
    weight : Tensor of shape (n,)
    points : Points
        Where likelihoods that are not separable are looked at.
    log_volume : float
        Of a unit of the codes, in the units of X.
    """

    def __init__(self, u: Tensor, weight: Tensor, points: Points, log_volume: float):
        self._u = u
        self._weight = weight
        self._points = points
        self._log_volume = log_volume

    def start(self, factors: Factors) -> FactorState:
        """q from the prior."""
        q = FullGaussian.standard(len(self._u), factors.n_factors)
        return self._climb(factors, q, n_steps=_FIRST_STEPS)

    def step(self, state: FactorState) -> FactorState:
        """An M step for each output, a change of scale of z, then an E step for each row.

        Newton steps are trusted until the bound falls; then each is checked.
        """
        for n_halvings in (0, _HALVINGS):
            q, factors = state.q, copy.deepcopy(state.factors)
            for block, sums in zip(factors.blocks, state.sums, strict=True):
                self._newton_step(block, q, sums, n_halvings)
                self._maximise_others(block, q)
            q = self._rescale(factors, q)
            new = self._climb(factors, q)
            if new.bound >= state.bound:  # also refuses NaN
                return new
        return state  # by theory the bound never falls: this catches rounding

    def _climb(self, factors: Factors, q: FullGaussian, n_steps: int = 1) -> FactorState:
        """The E step, from q; the last look at each row tells what the M step has to know."""
        log_joint = LogJoint(factors, self._u, self._points)

        def climb_block(rows: slice) -> tuple[FullGaussian, Tensor, tuple[NewtonSums, ...]]:
            block, start, weight = log_joint.rows(rows), q.rows(rows), self._weight[rows]
            found, expected = climb(block, start, block(start), n_steps=n_steps)
            bound = weight @ (expected.value + found.entropy)
            return found, bound, block.newton_sums(found, expected, weight)

        found, bounds, sums = zip(*self._blocks(factors).map(climb_block), strict=True)
        bound = float(sum(bounds) / self._weight.sum()) - self._log_volume
        total = (
            NewtonSums(*map(sum, zip(*parts, strict=True))) for parts in zip(*sums, strict=True)
        )
        return FactorState(factors, FullGaussian.of_blocks(found), bound, tuple(total))

    # The M step.

    def _newton_step(
        self, block: Block, q: FullGaussian, sums: NewtonSums, n_halvings: int
    ) -> None:
        """A Newton step for W_j and b_j of each output j, halved where its column gets worse."""
        value, gradient, hessian = sums
        size = hessian.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=1e-100)
        ridge = 1e-10 * size[:, None, None] * torch.eye(hessian.shape[-1], dtype=hessian.dtype)
        step = torch.linalg.solve(hessian + ridge, gradient)
        loadings, intercept = block.loadings.clone(), block.intercept.clone()
        block.loadings.add_(step[:, :-1])
        block.intercept.add_(step[:, -1])
        column = block.head.columns_of_outputs(len(value))
        for i in range(n_halvings):
            worse = ~(self._values(block, q) >= value)[column]
            if not worse.any():
                break
            length = 0.5 ** (i + 1) if i + 1 < n_halvings else 0.0
            block.loadings[worse] = loadings[worse] + length * step[worse, :-1]
            block.intercept[worse] = intercept[worse] + length * step[worse, -1]

    def _values(self, block: Block, q: FullGaussian) -> Tensor:
        """sum_i w_i E_q[log p(u_ij | z)] of the columns of a block."""
        (values,) = self._blocks(block).sums(lambda rows: (self._of_rows(block, q, rows),))
        return values

    def _of_rows(self, block: Block, q: FullGaussian, rows: slice) -> Tensor:
        values = expected_values(block, self._u[rows], q.rows(rows), self._points)
        return self._weight[rows] @ values

    def _maximise_others(self, block: Block, q: FullGaussian) -> None:
        """The likelihood's own parameters, in closed form or by a quasi-Newton method."""
        own, total = list(block.head.parameters()), self._weight.sum()
        if not own:
            return
        u, linear = self._u[:, block.where], block.linear(q)
        if not block.head.maximise_own(u, linear.mean, linear.scale, self._weight):
            self._blocks(block).climb_parameters(
                own, lambda rows: self._of_rows(block, q, rows).sum() / total, _QUASI_NEWTON
            )

    def _blocks(self, part: Factors | Block) -> Blocks:
        return Blocks(len(self._u), part.width(self._points))

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
        root, failed = torch.linalg.cholesky_ex(covariance.flip(0, 1))
        if failed:  # all rows nearly agree on a factor
            return q
        scale = root.flip(0, 1)
        factors.stretch(shift, scale)
        mean = torch.linalg.solve_triangular(scale, centred.mT, upper=True).mT
        return FullGaussian(mean, scale.mT @ q.precision_cholesky)


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
            table = Table.of(blocks, X, names, weight, standardize=True)
            # The order of the rows, which turns columns round, does not matter here.
            upright = tuple(units.upright() for units in table.blocks)
            self._table = replace(table, blocks=upright)
            self._seed = int(rng.randint(2**31))
            self._points = Points.of_dimension(model.n_factors, int(rng.randint(2**31)))
        else:
            self._check_design()
            self._table, self._seed = previous._table, previous._seed
            self._points = previous._points
        self._u = torch.from_numpy(self._table.encode(X, np.float64, exact=True))
        self._weight = torch.ones(len(self._u), dtype=torch.float64)
        if weight is not None:
            self._weight = torch.tensor(weight, dtype=torch.float64)
        log_volume = self._table.log_volume
        self._ascent: FactorAscent | NormalAscent
        if all_normal(self._heads):
            self._ascent = NormalAscent(self._u, self._weight, log_volume)
        else:
            self._ascent = FactorAscent(self._u, self._weight, self._points, log_volume)

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
            factors = copy.deepcopy(self._previous._as_fitted)
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

    def step(self, state: FactorState) -> FactorState:
        return self._ascent.step(state)

    def fitted(self, state: FactorState) -> Any:
        return clone(self._model)._set(
            copy.deepcopy(state.factors), self._table, self._points, self._seed, self._design
        )
