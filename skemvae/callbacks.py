"""Progress of a fit: scikit-learn's callbacks, printed lines, or one line on a terminal."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sklearn.base import BaseEstimator

from skemvae.progress_line import ProgressLine
from skemvae.typing import CallbackContext, MatrixLike

Method = TypeVar("Method", bound=Callable[..., Any])

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    CALLBACKS_EXIST = True
except ImportError:  # scikit-learn < 1.9 has no callbacks: the stand-ins below do nothing
    CALLBACKS_EXIST = False

    class _NoContext:
        def subcontext(self, **kwargs: Any) -> _NoContext:
            return self

        def call_on_fit_task_begin(self, **kwargs: Any) -> _NoContext:
            return self

        def call_on_fit_task_end(self, **kwargs: Any) -> bool:
            return False

        @contextmanager
        def propagate_callback_context(self, estimator: Any) -> Iterator[None]:
            yield

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in for scikit-learn's mixin."""

        def _init_callback_context(self, **kwargs: Any) -> _NoContext:
            return _NoContext()

    def with_callbacks(method: Method) -> Method:
        """Stand-in for scikit-learn's decorator, with the same number of stack frames."""

        @functools.wraps(method)
        def undecorated(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return cast(Method, undecorated)


__all__ = [
    "CALLBACKS_EXIST",
    "CallbackSupportMixin",
    "FitProgress",
    "LoopProgress",
    "Step",
    "ended_step",
    "fit_part",
    "with_callbacks",
]


T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """State of a fit at the end of a step.

    scikit-learn passes a fitted estimator to callbacks, which means copying
    networks. This holds the bound at no cost, and makes the estimator on
    demand.

    Attributes
    ----------
    bound : float
        Nats per sample, in the units of X.
    fitted : callable
        Makes the estimator as if the fit had stopped here.
    """

    bound: float
    fitted: Callable[[], BaseEstimator]


def ended_step(context: CallbackContext) -> Step | None:
    """Return the step that a callback's task stands for, or None if it is not a step."""
    step: Step | None = getattr(context, "skemvae_step", None)
    return step


@contextmanager
def fit_part(
    context: CallbackContext,
    task: str,
    whole: BaseEstimator,
    part: BaseEstimator,
    X: MatrixLike,
    y: object,
) -> Iterator[None]:
    """Report the fit of a part of an estimator as a task, and pass callbacks on to the part.

    Parameters
    ----------
    context : callback context
        Context of the fit of the whole.
    task : str
        Name of the task.
    whole, part : estimator
        The body of the ``with`` statement fits the part.
    X, y : array-like
        Data that the part is fitted to.
    """
    subcontext = context.subcontext(task_name=task)
    with subcontext.propagate_callback_context(part):
        subcontext.call_on_fit_task_begin(estimator=whole, X=X, y=y)
        yield
        subcontext.call_on_fit_task_end(estimator=whole, X=X, y=y)


def _once(make: Callable[[], T]) -> Callable[[], T]:
    """Call a function only once, when first needed; cheaper than ``functools.cache``."""
    made: list[T] = []

    def get() -> T:
        if not made:
            made.append(make())
        return made[0]

    return get


class LoopProgress:
    """Reports a loop as tasks of a scikit-learn callback context, and as printed lines.

    Parameters
    ----------
    estimator : estimator
        With ``verbose`` and ``max_iter``.
    context : callback context
        Context of the task that stands for the loop.
    unit : str
        Name of a step, such as "iteration".
    interval : int
        Number of steps between printed lines.
    data : dict
        Estimator and data, as passed to callbacks.
    line : ProgressLine, optional
        Progress line of the whole fit, if the loop is a part of it.
    n_later : int, default=0
        Number of steps that later loops may take.
    """

    def __init__(
        self,
        estimator: BaseEstimator,
        context: CallbackContext,
        unit: str,
        interval: int,
        data: Mapping[str, object],
        line: ProgressLine | None = None,
        n_later: int = 0,
    ):
        self._line = ProgressLine(estimator) if line is None else line
        self._n_later = n_later
        self._estimator = estimator
        self._context = context
        self._unit = unit
        self._interval = interval
        self._data = data
        self._last: float | None = None
        self._clock = time.perf_counter()
        context.call_on_fit_task_begin(**data)

    def step(self, step: Callable[[T], T]) -> Callable[[T], T]:
        """Wrap a step so that it begins a task; ``end_step`` ends the task."""

        def step_in_task(state: T) -> T:
            self._task = self._context.subcontext(task_name=self._unit)
            self._task.call_on_fit_task_begin(**self._data)
            try:
                return step(state)
            except BaseException:  # so that later output begins on a new line
                self._line.erase()
                raise

        return step_in_task

    def end_step(
        self, number: int, bound: float, attributes: Callable[[], dict[str, object]]
    ) -> bool:
        """Report the end of a step; return whether a callback wants to stop.

        ``attributes`` makes the fitted attributes after this step.
        """
        if number % self._interval == 0:
            gain = "" if self._last is None else f"\t gain {bound - self._last:.5e}"
            seconds = time.perf_counter() - self._clock
            self.print(
                f"  {self._unit.capitalize()} {number}",
                f"\t bound {bound:.6f}{gain}\t {seconds:.3f}s",
            )
        most = self._estimator.max_iter
        left = most - number + self._n_later
        self._line.step(f"{self._unit} {number} of at most {most}", bound, left)
        self._last = bound
        attributes = _once(attributes)
        self._task.skemvae_step = Step(
            bound, lambda: copy.copy(self._estimator)._set(**attributes())
        )
        stop = self._task.call_on_fit_task_end(reconstruction_attributes=attributes, **self._data)
        del self._task.skemvae_step  # the task lives as long as the fit; free the state
        return bool(stop)

    def end(self) -> None:
        """Report the end of the loop."""
        self._line.erase()
        self._context.call_on_fit_task_end(**self._data)

    def print(self, text: str, details: str = "") -> None:
        """Print as much as ``verbose`` asks for."""
        if self._estimator.verbose:
            print(text + (details if self._estimator.verbose > 1 else ""), flush=True)


class FitProgress:
    """Reports a fit from several starts: the fit, its starts and their iterations.

    Parameters
    ----------
    estimator : estimator
        With ``verbose`` and ``verbose_interval``.
    n_init, max_iter : int
    data : dict
        Data as passed to callbacks: ``X``, ``y``, ``metadata``.
    """

    def __init__(
        self, estimator: BaseEstimator, n_init: int, max_iter: int, data: Mapping[str, object]
    ):
        self._estimator = estimator
        self._n_init = n_init
        self._max_iter = max_iter
        self._data = {"estimator": estimator, **data}
        self._line = ProgressLine(estimator)
        self._root = estimator._init_callback_context(max_subtasks=n_init)
        self._root.call_on_fit_task_begin(**self._data)

    def begin_init(self, number: int) -> LoopProgress:
        """Report the beginning of a start."""
        context = self._root.subcontext(task_name="initialization", max_subtasks=self._max_iter)
        interval = self._estimator.verbose_interval
        n_later = (self._n_init - number - 1) * self._max_iter
        loop = LoopProgress(
            self._estimator, context, "iteration", interval, self._data, self._line, n_later
        )
        loop.print(f"Initialization {number}")
        return loop

    def end_init(self, loop: LoopProgress, status: str, n_iter: int, bound: float) -> None:
        """Report the end of a start."""
        loop.print(f"Initialization ended: {status}, {n_iter} iterations", f", bound {bound:.6f}")
        loop.end()

    def end(self) -> None:
        """Report the end of the fit."""
        self._root.call_on_fit_task_end(**self._data)
