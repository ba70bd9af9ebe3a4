"""EM for Gaussian mixtures with whole steps in the compiled kernel.

The Python code around a pass takes longer than a pass over a few thousand rows. So the kernel takes
the E step and the M step in one call, and for races many steps from several starts. It handles only
ordinary steps and leaves the others to ``MixtureEM``: components that are about to vanish, singular
covariances, and means that move so far that the pass must be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.covariance import Covariance, KernelForm
from skemvae.core.em import EMState, MixtureEM
from skemvae.core.expectation import (
    Expectation,
    PassChoice,
    expectation,
)
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.iterate import Aitken, Status, iterate
from skemvae.core.rows import Rows
from skemvae.core.table import Table
from skemvae.engine.climbs.sampling import SampledEM
from skemvae.engine.passes.choice import fastest_pass, roughest_pass
from skemvae.engine.passes.compiled_pass import TYPES, Cost
from skemvae.engine.passes.threads import in_region
from skemvae.kernel import native
from skemvae.kernel.small_matrices import SMALL, readable

# Passes of up to _SHORT multiplications ignore that components or features share parameters, or
# that rows are float32, for which there are special passes. Up to _SHORT_FOR_MANY, several starts
# run in one call (measured).
_SHORT, _SHORT_FOR_MANY = 2**22, 2**24
# The cost of a step in the interpreter, besides its pass (a tenth of a millisecond).
_INTERPRETED = 2**20


@dataclass(frozen=True)
class Place:
    """The result of some EM steps.

    Attributes
    ----------
    model : GaussianMixture
    bound : float
        The bound at ``model``, nats per sample, in the units of the data.
    count : array of shape (K,)
        The weight of the rows that each component holds.
    """

    model: GaussianMixture
    bound: float
    count: Array


@dataclass(frozen=True)
class CompiledState(Place):
    """A place whose next M step the kernel has already taken.

    Attributes
    ----------
    maximised : GaussianMixture
        The parameters after the M step.
    rows : Rows
    """

    maximised: GaussianMixture
    rows: Rows

    @cached_property
    def expectation(self) -> Expectation:
        """The result of the E step, which is repeated when this is first read."""
        return expectation(self.model, self.rows, fastest_pass)


State = EMState[GaussianMixture]


@dataclass(frozen=True)
class CompiledEM(SampledEM):
    """EM on rows in memory, with whole steps in the kernel."""

    table: Rows

    def start(self, model: Any) -> Any:
        """Take the E step at given parameters."""
        level = native.level
        if level is not None:
            ((state, _),) = _steps(level, [model], self.table, 0, 0.0)
            if isinstance(state, CompiledState):
                return state
        return super().start(model)

    def step(self, state: Any) -> Any:
        """Take one iteration; after a step that the kernel refused, without the kernel."""
        start = self.start if isinstance(state, CompiledState) else super().start
        return start(state.maximised)


def em_on(
    table: Table, choose: PassChoice, structure: type[Covariance], n_components: int
) -> SampledEM:
    """Choose the EM implementation for Gaussian mixtures on a table."""
    if choose is fastest_pass and isinstance(table, Rows) and native.level is not None:
        unit = structure.identity(n_components, table.X.shape[1])
        if _serves(unit, table):
            return CompiledEM(table, choose)
    return SampledEM(table, choose)


def _serves(covariance: Covariance, rows: Rows) -> bool:
    """Whether whole steps in the kernel are as fast as its passes."""
    X, form, cost = rows.X, covariance.kernel_form, _cost(covariance)
    if (
        form is None
        or X.dtype not in TYPES
        or not X.flags.aligned
        or rows.n_rows > cost.n_rows_heard
    ):
        return False
    if form is KernelForm.DENSE and covariance.n_features > SMALL:
        return False
    is_plain = X.dtype == np.float64 and covariance.copies == 1
    return is_plain or rows.n_rows * cost.work_per_row <= _SHORT


def _cost(covariance: Covariance) -> Cost:
    cost = Cost.dense if covariance.values.ndim == 3 else Cost.axes
    return cost(covariance.n_components, covariance.n_features)


def work_of_step(covariance: Covariance, n_rows: float) -> float:
    """The approximate cost of a step in a race, in multiplications of the kernel."""
    around = _INTERPRETED if native.level is None else 0
    return n_rows * _cost(covariance).work_per_row + around


def begin(
    unit: Covariance, labels: AnyArray, rows: Rows, noise: Array, few_rows: int
) -> list[GaussianMixture | None]:
    """Take the M step for several divisions of a small table into groups.

    The scatter of each group is averaged with the pooled one, which counts as ``few_rows`` rows.

    Parameters
    ----------
    unit : Covariance
        Unit matrices of the desired structure and size.
    labels : array of shape (n, m), of integers
        The groups of the rows, in each of n divisions.
    rows : Rows
        In their own units.
    noise : array of shape (d,)
        The ridge.
    few_rows : int

    Returns
    -------
    list
        One model per division, or None where the kernel does not handle the step.
    """
    level, (n, m), (k, d) = native.level, labels.shape, unit.values.shape[:2]
    form = unit.kernel_form
    if level is None or form is None or (form is KernelForm.DENSE and d > SMALL):
        return [None] * n
    kernel = native.kernel
    take = kernel.begin_dense if form is KernelForm.DENSE else kernel.begin_axes
    weights, means, values = (
        np.empty((n, k)),
        np.empty((n, k, d)),
        np.empty((n, *unit.values.shape)),
    )
    are_ordinary = in_region(
        lambda region: take(
            level,
            region.n_workers,
            n,
            k,
            unit.copies > 1,
            few_rows,
            readable(rows.X),
            np.ones(m) if rows.weight is None else readable(rows.weight),
            np.ascontiguousarray(labels, dtype=np.int32),
            readable(noise),
            weights,
            means,
            values,
        )
    )
    return [
        GaussianMixture(weights[i], means[i], type(unit)(values[i]), noise) if is_ordinary else None
        for i, is_ordinary in enumerate(are_ordinary)
    ]


def climb(models: Sequence[GaussianMixture], rows: Rows, n_iter: int, tol: float) -> list[Place]:
    """Take up to ``n_iter`` steps of EM from each model.

    Parameters
    ----------
    models : sequence of GaussianMixture
        Models of one structure, in the frame of the rows.
    rows : Rows
    n_iter : int
    tol : float
        Stop when less remains to be gained by Aitken's rule, nats per sample.

    Raises
    ------
    KeyboardInterrupt
    """
    level = native.level
    work = work_of_step(models[0].covariance, rows.n_rows)
    if level is None or models[0].covariance.kernel_form is None or work > _SHORT_FOR_MANY:
        return [_step_by_step(model, rows, n_iter, tol) for model in models]
    return [
        _step_by_step(place.model, rows, n_left, tol) if n_left else place
        for place, n_left in _steps(level, models, rows, n_iter, tol)
    ]


def _step_by_step(model: GaussianMixture, rows: Rows, n_iter: int, tol: float) -> Place:
    em = MixtureEM(rows, roughest_pass)
    result = iterate(em.step, em.start(model), stop=Aitken(tol), max_iter=n_iter)
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    state = result.state
    # Drop cached factors, since many places are kept at a time.
    return Place(state.model.bare, state.bound, state.expectation.moments.count)


def _steps(
    level: str, models: Sequence[GaussianMixture], rows: Rows, n_iter: int, tol: float
) -> list[tuple[Place, int]]:
    """Take steps in the kernel; return the place reached from each model, and the steps left.

    A place is a ``CompiledState``, unless the kernel does not handle its next step.
    """
    first = models[0]
    kernel, form = native.kernel, first.covariance.kernel_form
    take = kernel.climb_dense if form is KernelForm.DENSE else kernel.climb_axes
    # The current parameters of each model, and those after the next M step.
    routes = len(models), 2
    weights = np.empty(routes + first.weights.shape)
    means = np.empty(routes + first.means.shape)
    values = np.empty(routes + first.covariance.values.shape)
    bounds, counts = np.empty(len(models)), np.empty((len(models), len(first.weights)))
    for i, model in enumerate(models):
        weights[i, 0], means[i, 0] = model.weights, model.means
        values[i, 0] = model.covariance.values
    X, frame, cost = rows.X, rows.frame, _cost(first.covariance)
    n_runs = cost.n_runs(rows.n_rows) if len(models) == 1 else 1
    arrivals = in_region(
        lambda region: take(
            level,
            cost.tile,
            n_runs,
            min(region.n_workers, max(n_runs, len(models))),
            n_iter,
            tol,
            first.covariance.copies > 1,
            rows.total,
            X if X.dtype in TYPES and X.flags.aligned else readable(X),
            None if rows.weight is None else readable(rows.weight),
            frame.origin,
            1 / frame.scale,
            first.noise,
            weights,
            means,
            values,
            bounds,
            counts.reshape(-1),
        )
    )
    structure = type(first.covariance)

    def model_at(i: int, j: int) -> GaussianMixture:
        return GaussianMixture(weights[i, j], means[i, j], structure(values[i, j]), first.noise)

    steps: list[tuple[Place, int]] = []
    for i, (n_left, knows_next) in enumerate(arrivals):
        here = models[i] if n_iter == 0 else model_at(i, 0)
        place = here, float(bounds[i]) - frame.log_volume, counts[i]
        reached = CompiledState(*place, model_at(i, 1), rows) if knows_next else Place(*place)
        steps.append((reached, n_left))
    return steps
