"""Progress of a fit: scikit-learn's callbacks where they exist, and printed lines."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9 has no callbacks: everything below does nothing

    class _NoContext:
        def subcontext(self, **kwargs: Any) -> _NoContext:
            return self

        def call_on_fit_task_begin(self, **kwargs: Any) -> _NoContext:
            return self

        def call_on_fit_task_end(self, **kwargs: Any) -> bool:
            return False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's mixin."""

        def _init_callback_context(self, **kwargs: Any) -> _NoContext:
            return _NoContext()

    def with_callbacks(method: Any) -> Any:
        """Stand in for scikit-learn's decorator, with as many frames as it has."""

        @functools.wraps(method)
        def undecorated(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return undecorated


__all__ = ["CallbackSupportMixin", "FitProgress", "with_callbacks"]


class FitProgress:
    """Reports a fit as a tree of tasks: the fit, its initialisations, their iterations.

    Parameters
    ----------
    estimator : estimator
        Needs ``verbose`` and ``verbose_interval``.
    n_init, max_iter : int
    data : dict
        What the callbacks are told of the data: ``X``, ``y``, ``metadata``.
    """

    def __init__(self, estimator: Any, n_init: int, max_iter: int, data: dict[str, Any]):
        self._estimator = estimator
        self._max_iter = max_iter
        self._data = {"estimator": estimator, **data}
        self._root = estimator._init_callback_context(max_subtasks=n_init)
        self._root.call_on_fit_task_begin(**self._data)

    def begin_init(self, number: int) -> None:
        """An initialisation begins."""
        self._print(f"Initialization {number}")
        self._init = self._root.subcontext(task_name="initialization", max_subtasks=self._max_iter)
        self._init.call_on_fit_task_begin(**self._data)
        self._last: float | None = None
        self._clock = time.perf_counter()

    def iteration(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Wrap a step so that a task begins with it; ``end_iteration`` ends the task."""

        def step_in_task(state: Any) -> Any:
            self._task = self._init.subcontext(task_name="iteration")
            self._task.call_on_fit_task_begin(**self._data)
            return step(state)

        return step_in_task

    def end_iteration(self, n_iter: int, bound: float, attributes: Callable[[], Any]) -> bool:
        """An iteration has ended; return whether a callback wants to stop.

        ``attributes`` makes the fitted attributes of these parameters.
        """
        if n_iter % self._estimator.verbose_interval == 0:
            gain = "" if self._last is None else f"\t gain {bound - self._last:.5e}"
            seconds = time.perf_counter() - self._clock
            self._print(f"  Iteration {n_iter}", f"\t bound {bound:.6f}{gain}\t {seconds:.3f}s")
        self._last = bound
        stop = self._task.call_on_fit_task_end(reconstruction_attributes=attributes, **self._data)
        return bool(stop)

    def end_init(self, status: str, n_iter: int, bound: float) -> None:
        """An initialisation has ended."""
        self._print(f"Initialization ended: {status}, {n_iter} iterations", f", bound {bound:.6f}")
        self._init.call_on_fit_task_end(**self._data)

    def end(self) -> None:
        """The fit has ended."""
        self._root.call_on_fit_task_end(**self._data)

    def _print(self, text: str, details: str = "") -> None:
        if self._estimator.verbose:
            print(text + (details if self._estimator.verbose > 1 else ""), flush=True)
