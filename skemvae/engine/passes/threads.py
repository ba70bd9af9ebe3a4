"""Threads over blocks of rows, with BLAS and OpenMP held to one thread meanwhile.

One pool of threads is faster than two that meet: each thread takes whole
blocks through all their steps, instead of BLAS splitting each small product.

Ctrl-C can strike between any two instructions, also in ``__exit__`` or in a
``finally``, which then does not run. So what a region borrows is noted before it
is changed, and is given back by two ``finally``, one around the other
(``surely``): an interrupt that cuts one of them short finds the other. Giving
back can be repeated and goes on where it was cut off. Only a second interrupt
within the same microseconds could leave something behind.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from skemvae.core.workspace import Workspace

T = TypeVar("T")
R = TypeVar("R")

# Seconds after which who waits for other threads looks whether they are still at work: usually
# they tell, but an interrupt may have come between.
_LOOK_AGAIN = 0.05


def surely(body: Callable[[], R], undo: Callable[[], None]) -> R:
    """Call ``body``, then ``undo``, wherever an interrupt strikes.

    Parameters
    ----------
    body : callable
    undo : callable
        Called twice, the second time after an interrupt of the first, perhaps:
        so it must not mind what is undone already, or has never been done.
    """
    try:
        try:
            return body()
        finally:
            undo()
    finally:
        undo()


@dataclass(frozen=True)
class Setting:
    """Something of the process, or of the calling thread, that a region gives back as it was.

    Attributes
    ----------
    name : str
    read, write : callable
    is_pool : bool
        Whether it is a number of threads, which is held to one meanwhile.
    is_of_thread : bool
        Whether each thread has its own.
    """

    name: str
    read: Callable[[], Any] = field(compare=False)
    write: Callable[[Any], object] = field(compare=False)
    is_pool: bool = field(compare=False)
    is_of_thread: bool = field(compare=False)


def _pool(library: Any) -> Setting:
    """The number of threads of a library that threadpoolctl has found."""

    def write(n_threads: int) -> None:
        # Some versions of threadpoolctl let only one thread of the process set the limit of BLAS,
        # but the last region may close in another one than the first has opened in.
        let_go = getattr(library, "clear_controlling_thread", None)
        if let_go is not None:
            let_go(force=True)
        library.set_num_threads(n_threads)
        if let_go is not None:
            let_go(force=True)

    by_openmp = "openmp" in (library.user_api, getattr(library, "threading_layer", None))
    return Setting(library.filepath, library.get_num_threads, write, True, by_openmp)


_ERRORS = Setting(
    "errors",  # an interrupt at the end of np.errstate would leave it so
    np.geterr,
    lambda kinds: np.seterr(**kinds),
    is_pool=False,
    is_of_thread=True,
)
_added = {_ERRORS.name: _ERRORS}


@cache
def _settings() -> list[Setting]:
    """What regions give back; to find the libraries takes too long to do it often."""
    libraries = ThreadpoolController().lib_controllers
    return [*map(_pool, libraries), *_added.values()]


class Region:
    """The threads that one caller may use, and the scratch memory of each of them."""

    def __init__(self, n_workers: int = 1):
        self.n_workers = n_workers
        self.before: dict[Setting, Any] = {}  # what the thread had set
        self.forget_threads()
        self._local = threading.local()

    @property
    def workspace(self) -> Workspace:
        """The scratch memory of the calling thread."""
        if not hasattr(self._local, "workspace"):
            self._local.workspace = Workspace()
        workspace: Workspace = self._local.workspace
        return workspace

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Apply ``function`` to all items, and return the results in their order."""
        n_workers = min(self.n_workers, len(items))
        if n_workers <= 1:
            return [function(item) for item in items]
        results: list[Any] = [None] * len(items)
        waiting = deque(enumerate(items))
        at_work: set[int] = set()
        bell: SimpleQueue[None] = SimpleQueue()
        errors: list[BaseException] = []

        def work() -> None:
            while True:
                try:
                    i, item = waiting.popleft()
                except IndexError:
                    return
                results[i] = function(item)

        def help_out() -> None:
            at_work.add(threading.get_ident())  # before it takes an item
            try:
                work()
            except BaseException as error:
                waiting.clear()
                errors.append(error)
            finally:
                at_work.discard(threading.get_ident())
                bell.put(None)

        def work_together() -> None:
            self._ask(n_workers - 1, help_out)
            work()  # the calling thread is one of the workers

        def stop() -> None:
            """After an error or Ctrl-C nothing is left to run."""
            waiting.clear()
            while at_work:
                with suppress(Empty):
                    bell.get(timeout=_LOOK_AGAIN)

        surely(work_together, stop)
        if errors:
            raise errors[0]
        return results

    def _ask(self, n_helpers: int, task: Callable[[], None]) -> None:
        """Let other threads, made when first needed, run a task."""
        while self._n_threads < n_helpers:
            self._n_threads += 1
            threading.Thread(
                target=_serve, args=(self._tasks,), name="skemvae", daemon=True
            ).start()
        for _ in range(n_helpers):
            self._tasks.put(task)

    def end_threads(self) -> None:
        """Let the threads end, once they are done."""
        if self._n_threads:
            self._tasks.put(None)

    def forget_threads(self) -> None:
        """There are none: at first, and in a forked child."""
        self._n_threads = 0
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()


def _serve(tasks: SimpleQueue[Callable[[], None] | None]) -> None:
    """What a thread does: tasks, until the first None, which it leaves for the others."""
    while (task := tasks.get()) is not None:
        task()
    tasks.put(None)


class _Regions:
    """The open regions of the process, at most one in each thread.

    What belongs to the process is held from the first to the last of them,
    what belongs to a thread by its own.
    """

    def __init__(self) -> None:
        self._before: dict[Setting, Any] = {}  # what the process had set
        self.by_thread: dict[int, Region] = {}
        self.forget_other_threads()

    def open(self, thread: int) -> Region:
        """The region of the calling thread, which has none."""
        region = Region()

        def open_it() -> None:
            is_first = not self.by_thread
            self.by_thread[thread] = region
            allowed = self._borrow(region)
            if is_first:  # otherwise another thread has the cores
                region.n_workers = max(1, min(allowed, default=1))

        self._alone(open_it)
        return region

    def widen(self, thread: int) -> None:
        """Let the region of the calling thread, if there is one, borrow new settings as well."""
        region = self.by_thread.get(thread)
        if region is not None:
            self._alone(lambda: self._borrow(region))

    def _borrow(self, region: Region) -> list[int]:
        """Hold what is not held yet; return how many threads were allowed."""
        borrowed: dict[Setting, Any] = {}
        for setting in _settings():
            before = region.before if setting.is_of_thread else self._before
            if setting not in before:
                borrowed[setting] = before[setting] = setting.read()
        allowed = {setting: n for setting, n in borrowed.items() if setting.is_pool}
        for setting in allowed:
            # Even where it says 1: torch leaves its MKL as it was when threadpoolctl, which cannot
            # see that, sets OpenMP only.
            setting.write(1)
        return list(allowed.values())

    def close(self, thread: int) -> None:
        """Give back what the region of the calling thread has borrowed, if there still is one."""
        region = self.by_thread.get(thread)
        if region is None:
            return

        def give_back() -> None:
            region.end_threads()
            if len(self.by_thread) == 1:
                _give_back(self._before)
            _give_back(region.before)  # after that of the process, which may set the thread's, too
            self.by_thread.pop(thread, None)  # at last: until then it can be closed again

        self._alone(give_back)

    def _alone(self, change: Callable[[], object]) -> None:
        """Make a change while no other thread makes one."""

        def change_alone() -> None:
            self._lock.acquire()
            change()

        surely(change_alone, self._release)

    def _release(self) -> None:
        """Let others in, if this thread has the lock."""
        with suppress(RuntimeError):  # it has not, or not any more
            while True:
                self._lock.release()

    def forget_other_threads(self) -> None:
        """A forked child has none of its parent's, but for the one that has forked."""
        thread = threading.get_ident()
        self._lock = threading.RLock()
        self.by_thread = {t: region for t, region in self.by_thread.items() if t == thread}
        for region in self.by_thread.values():
            region.forget_threads()


def _give_back(before: dict[Setting, Any]) -> None:
    for setting, value in list(before.items()):
        if not (setting.is_pool and value == 1):  # which nothing has changed
            setting.write(value)
        before.pop(setting, None)


_regions = _Regions()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_regions.forget_other_threads)


def give_back_also(*settings: Setting) -> None:
    """Add settings of a library that has just been loaded, perhaps by what runs in a region."""
    _added.update((setting.name, setting) for setting in settings)
    _settings.cache_clear()
    _regions.widen(threading.get_ident())


def in_region(function: Callable[[Region], R]) -> R:
    """Call a function with as many threads as BLAS and OpenMP were allowed to; hold them to one.

    So the limits of threadpoolctl, of ``OMP_NUM_THREADS`` and its like and of
    joblib's workers are obeyed. A region inside a region is the same region; of
    regions in several threads at once, the first has the cores and the others
    one thread each.
    """
    thread = threading.get_ident()
    region = _regions.by_thread.get(thread)
    if region is not None:
        return function(region)
    return surely(lambda: function(_regions.open(thread)), lambda: _regions.close(thread))
