"""Fit from several starts and keep the best one, even after Ctrl-C."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skemvae.callbacks import FitProgress, LoopProgress
from skemvae.core.iterate import (
    SLOWEST_RATE,
    Aitken,
    Ascent,
    Result,
    State,
    Status,
    StoppingRule,
    conclude,
    iterate,
)
from skemvae.engine.climbs.acceleration import Accelerator

S = TypeVar("S", bound=State)
E = TypeVar("E")


@contextmanager
def fitting(estimator: E) -> Iterator[E]:
    """Fit a draft, and finally move its attributes to the estimator.

    Parameters
    ----------
    estimator : estimator
        Unchanged until the end, or if an error is raised within. A single
        assignment sets all new attributes, so after an interrupt the fitted
        attributes are either all old or all new.

    Yields
    ------
    estimator
        The draft, a shallow copy.
    """
    before = estimator.__dict__.copy()
    draft = object.__new__(type(estimator))
    draft.__dict__ = before.copy()
    yield draft
    after = draft.__dict__
    new = {name: value for name, value in after.items() if before.get(name, draft) is not value}
    kept = {
        name: value
        for name, value in estimator.__dict__.items()
        if name in after or name not in before
    }
    estimator.__dict__ = {**kept, **new}


def best_of_starts(
    estimator: Any,
    ascent: Ascent[S],
    attributes: Callable[[S], dict[str, Any]],
    *,
    n_init: int,
    earlier: Any,
    told: dict[str, Any],
    look_back: Callable[[Result[S]], None],
) -> Result[S]:
    """Iterate from each of ``n_init`` starts, and set the fitted attributes of the best result.

    Parameters
    ----------
    estimator : estimator
        With ``tol``, ``max_iter``, ``acceleration``, ``verbose``, ``verbose_interval``.
    ascent : Ascent
    attributes : callable
        Returns the fitted parameters of a state, by name of the attribute.
    n_init : int
    earlier : sequence of float
        Bounds of an earlier fit, which a warm start on the same data continues.
    told : dict
        Data as passed to callbacks: ``X``, ``y``, ``metadata``.
    look_back : callable
        Computes statistics of the best result once its attributes are set; skipped
        if the user interrupts it.

    Raises
    ------
    KeyboardInterrupt
        If the user interrupts before there is anything to keep.
    """

    def all_attributes(so_far: Result[S]) -> dict[str, Any]:
        return attributes(so_far.state) | {
            "lower_bounds_": np.array(so_far.bounds),
            "lower_bound_": so_far.bounds[-1],
            "converged_": so_far.status is Status.CONVERGED,
            "status_": str(so_far.status),
            "n_iter_": so_far.n_iter,
            "_mean_surprise": None,  # until ``look_back`` sets it
        }

    progress = FitProgress(estimator, n_init, estimator.max_iter, told)
    best: Result[S] | None = None
    try:
        for number, start in enumerate(ascent.starts(n_init)):
            loop = progress.begin_init(number)
            result = _climb(estimator, ascent, start, all_attributes, earlier, loop)
            if best is None or ascent.prefers(result.state, best.state):
                best = result
            progress.end_init(loop, result.status, result.n_iter, result.bounds[-1])
            if result.status is Status.INTERRUPTED:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        if best is None:  # there is nothing to keep
            raise
        best = replace(best, status=Status.INTERRUPTED)
    assert best is not None
    reached = best

    def close() -> None:
        progress.end()
        look_back(reached)

    return conclude(reached, lambda result: estimator._set(**all_attributes(result)), close)


def _climb(
    estimator: Any,
    ascent: Ascent[S],
    start: tuple[S, bool],
    attributes: Callable[[Result[S]], dict[str, Any]],
    earlier: Any,
    loop: LoopProgress,
) -> Result[S]:
    state, interrupted = start
    # The E step of a warm start may raise the bound above that of the last iteration.
    rise = state.bound - earlier[-1] if len(earlier) else np.nan
    same_data = -1e-6 <= rise / max(1.0, abs(state.bound)) <= 1e-2

    def on_step(so_far: Result[S]) -> bool:
        return loop.end_step(so_far.n_iter, so_far.bounds[-1], lambda: attributes(so_far))

    step: Callable[[S], S] = ascent.step
    stop: StoppingRule = Aitken(estimator.tol, SLOWEST_RATE)
    if estimator.acceleration == "auto" and ascent.accelerable is not None:
        accelerator = Accelerator(ascent.accelerable, estimator.tol)
        step, stop = accelerator.step, accelerator.has_converged
    result = iterate(
        loop.step(step),
        state,
        stop=stop,
        max_iter=0 if interrupted else estimator.max_iter,
        jump=ascent.jump,
        on_step=on_step,
        history=tuple(earlier[:-1]) if same_data else (),
    )
    return replace(result, status=Status.INTERRUPTED) if interrupted else result


def warn_unless_converged(result: Result[S], max_iter: int, remedy: str) -> None:
    """Warn if a fit was interrupted or did not converge; must be called by ``fit`` itself."""
    if result.status is Status.INTERRUPTED:
        message = f"Interrupted after {result.n_iter} iterations: the best parameters are kept."
    elif result.status is Status.MAX_ITER and max_iter > 0:
        message = f"Best performing initialization did not converge. {remedy}"
    else:
        return
    warnings.warn(message, ConvergenceWarning, stacklevel=3)
