"""Ascent of the bound of a generalised factor model: E step, M step and their state."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skemvae.posteriors.ascent import climb
from skemvae.posteriors.expectations import Points
from skemvae.posteriors.gaussians import FullGaussian
from skemvae.variational.blocks import Blocks
from skemvae.variational.factor_bound import LogJoint, NewtonSums, expected_values
from skemvae.variational.factor_chart import FactorChart, Place
from skemvae.variational.factor_parameters import Block, Factors

# Steps that take q from the prior to its optimum, and from one optimum to another after a leap.
_FIRST_STEPS, _STEPS_OF_A_LEAP = 50, 2
# Most halvings of a Newton step that would lower the bound.
_HALVINGS = 8
# L-BFGS iterations of an M step that has no closed form.
_QUASI_NEWTON = 3
# Least information on a parameter of a likelihood, per row and column, and its longest step.
_LEAST_INFORMATION, _LONGEST = 1e-3, 1.0


class HeadSums(NamedTuple):
    """Derivative with respect to a parameter of a likelihood, and the information on it."""

    slope: Tensor
    information: Tensor

    @property
    def step(self) -> Tensor:
        """The Newton step, clipped to a largest length."""
        return (self.slope / self.information).clamp(-_LONGEST, _LONGEST)


@dataclass(frozen=True)
class FactorState:
    """Parameters, the q of each row, and the bound at both.

    Attributes
    ----------
    factors : Factors
    q : FullGaussian or None
        None if it follows from the parameters.
    bound : float
        Nats per sample, in the units of X.
    sums : tuple of NewtonSums
        One for each block.
    ascent : FactorAscent or None
    """

    factors: Factors
    q: Any
    bound: float
    sums: tuple[NewtonSums, ...] = ()
    ascent: Any = None

    @property
    def model(self) -> FactorState:
        """The state itself, which stands for its model."""
        return self

    @cached_property
    def maximised(self) -> Place:
        """The parameters after one Newton step each, all taken from this state."""
        factors = copy.deepcopy(self.factors)
        for block, sums in zip(factors.blocks, self.sums, strict=True):
            block.move(sums.step)
        for parameter, of_it in zip(factors.heads.parameters(), self._of_heads, strict=True):
            parameter.add_(of_it.step)
        return Place(factors, self.q)

    def chart(self) -> FactorChart:
        """Coordinates around this state."""
        total = self.ascent.total
        of_predictors = [sums.hessian / total for sums in self.sums]
        of_heads = [sums.information / total for sums in self._of_heads]
        return FactorChart(self.factors, of_predictors, of_heads)

    @cached_property
    def _of_heads(self) -> list[HeadSums]:
        blocks = self.factors.blocks
        return [sums for block in blocks for sums in self.ascent.of_head(block, self.q)]


class FactorAscent:
    """Coordinate ascent of the bound on the codes of a table.

    Parameters
    ----------
    u : Tensor of shape (n, d)
    weight : Tensor of shape (n,)
    points : Points
        Points of q at which likelihoods that are not separable are evaluated.
    log_volume : float
        Log volume of a unit of the codes, in the units of X.
    """

    def __init__(self, u: Tensor, weight: Tensor, points: Points, log_volume: float):
        self._u = u
        self._weight = weight
        self._points = points
        self._log_volume = log_volume

    @property
    def total(self) -> float:
        """The total weight of the rows."""
        return float(self._weight.sum())

    def begin(self, factors: Factors) -> FactorState:
        """The state after an E step that starts from the prior."""
        q = FullGaussian.standard(len(self._u), factors.n_factors)
        return self._climb(factors, q, n_steps=_FIRST_STEPS)

    def start(self, place: Place) -> FactorState:
        """The state after an E step at some place."""
        return self._climb(place.factors, place.q, n_steps=_STEPS_OF_A_LEAP)

    def sampled(self, size: int) -> None:
        """None: each row has its own q, so the rows cannot be sampled."""

    def step(self, state: FactorState) -> FactorState:
        """Take an M step for each output, an E step for each row, then rescale z.

        Newton steps go unchecked unless the bound falls; then each one is checked.
        """
        for n_halvings in (0, _HALVINGS):
            q, factors = state.q, copy.deepcopy(state.factors)
            for block, sums in zip(factors.blocks, state.sums, strict=True):
                self._newton_step(block, q, sums, n_halvings)
                self._maximise_others(block, q, checked=n_halvings > 0)
            new = self._climb(factors, q)
            if new.bound >= state.bound:  # also refuses NaN
                return new
        return state  # in exact arithmetic the bound never falls; this guards against rounding

    def _climb(self, factors: Factors, q: FullGaussian, n_steps: int = 1) -> FactorState:
        """The E step from q, which also collects the sums that the next M step needs."""
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
        return self._rescaled(
            FactorState(factors, FullGaussian.of_blocks(found), bound, tuple(total), self)
        )

    # The M step.

    def _newton_step(
        self, block: Block, q: FullGaussian, sums: NewtonSums, n_halvings: int
    ) -> None:
        """Take a Newton step in W_j and b_j of each output j, halved where its column loses."""
        loadings, intercept = block.loadings.clone(), block.intercept.clone()
        step, value = sums.step, sums.value
        block.move(step)
        column = block.head.columns_of_outputs(len(value))
        for i in range(n_halvings):
            worse = ~(self._values(block, q) >= value)[column]
            if not worse.any():
                break
            length = 0.5 ** (i + 1) if i + 1 < n_halvings else 0.0
            block.loadings[worse] = loadings[worse] + length * step[worse, :-1]
            block.intercept[worse] = intercept[worse] + length * step[worse, -1]

    def _values(self, block: Block, q: FullGaussian) -> Tensor:
        """sum_i w_i E_q[log p(u_ij | z)] for each column j of a block."""
        (values,) = self._blocks(block).sums(lambda rows: (self._of_rows(block, q, rows),))
        return values

    def _of_rows(self, block: Block, q: FullGaussian, rows: slice) -> Tensor:
        values = expected_values(block, self._u[rows], q.rows(rows), self._points)
        return self._weight[rows] @ values

    def _maximise_others(self, block: Block, q: FullGaussian, *, checked: bool) -> None:
        """Update the likelihood's own parameters, in closed form or by optionally checked steps."""
        own = list(block.head.parameters())
        if not own:
            return
        u, linear = self._u[:, block.where], block.linear(q)
        if block.head.maximise_own(u, linear.mean, linear.scale, self._weight):
            return
        if checked:
            self._blocks(block).climb_parameters(
                own, lambda rows: self._of_rows(block, q, rows).sum() / self.total, _QUASI_NEWTON
            )
        else:
            for parameter, sums in zip(own, self.of_head(block, q), strict=True):
                parameter.add_(sums.step)

    def of_head(self, block: Block, q: FullGaussian) -> list[HeadSums]:
        """Derivative and information for each parameter of a likelihood."""
        names = [name for name, _ in block.head.named_parameters()]
        if not names:
            return []

        def of_rows(rows: slice) -> tuple[Tensor, ...]:
            """Give each row its own copy of the parameter, to get the derivative by row."""
            head, weight = copy.deepcopy(block.head), self._weight[rows]
            each = [getattr(head, name).expand(len(weight), -1).clone() for name in names]
            for name, parameter in zip(names, each, strict=True):
                setattr(head, name, nn.Parameter(parameter))
            own = list(head.parameters())
            with torch.enable_grad():
                values = expected_values(
                    block._replace(head=head), self._u[rows], q.rows(rows), self._points
                )
                slopes = torch.autograd.grad(values.sum(), own)
            return tuple(weight @ x for s in slopes for x in (s, s**2))

        sums = self._blocks(block).sums(of_rows)
        least = _LEAST_INFORMATION * self.total
        pairs = zip(sums[::2], sums[1::2], strict=True)
        return [HeadSums(slope, squares.clamp(min=least)) for slope, squares in pairs]

    def _blocks(self, part: Factors | Block) -> Blocks:
        return Blocks(len(self._u), part.width(self._points))

    def _rescaled(self, state: FactorState) -> FactorState:
        """Fit the mean and covariance of p(z) as well, then absorb them into W and b.

        The predictors, and hence the likelihood, do not change, while
        KL(q || p(z)) falls.

        References
        ----------
        Liu, Rubin and Wu (1998), "Parameter expansion to accelerate EM: the
        PX-EM algorithm".
        """
        q, share = state.q, self._weight / self._weight.sum()
        shift = share @ q.mean
        centred = q.mean - shift
        covariance = (share[:, None, None] * q.covariance).sum(0) + (centred.mT * share) @ centred
        # An upper triangular root keeps the factors of q triangular.
        root, failed = torch.linalg.cholesky_ex(covariance.flip(0, 1))
        if failed:  # a factor is nearly constant over the rows
            return state
        scale = root.flip(0, 1)
        less = (
            0.5 * (covariance.trace() + shift @ shift - len(shift)) - scale.diagonal().log().sum()
        )
        factors = copy.deepcopy(state.factors)
        factors.stretch(shift, scale)
        mean = torch.linalg.solve_triangular(scale, centred.mT, upper=True).mT
        sums = tuple(each.rescaled(shift, scale) for each in state.sums)
        q = FullGaussian(mean, scale.mT @ q.precision_cholesky)
        return replace(state, factors=factors, q=q, bound=state.bound + float(less), sums=sums)
