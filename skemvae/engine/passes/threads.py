"""Threads over blocks of rows; meanwhile BLAS and OpenMP are limited to one thread.

One pool of threads is faster than two nested ones: each thread takes whole
blocks through all steps, while BLAS would split each small product.

Ctrl-C can occur between any two instructions, even in ``__exit__`` or in a
``finally``, which then does not finish. So a region records each setting before
it changes it, and restores settings in two nested ``finally`` blocks
(``surely``): if an interrupt cuts one short, the other still runs. Restoring can
be repeated, and continues where it was cut off. Only a second interrupt within
the same microseconds could leave a setting changed.
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

# Seconds between checks whether other threads are still at work: usually they signal their end,
# but an interrupt may prevent that.
_LOOK_AGAIN = 0.05


def surely(body: Callable[[], R], undo: Callable[[], None]) -> R:
    """Call ``body``, then ``undo``, wherever an interrupt occurs.

    Parameters
    ----------
    body : callable
    undo : callable
        Called twice, as an interrupt may cut the first call short. So it must
        accept that things are already undone, or were never done.
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
    """A setting of the process or of the calling thread that a region restores.

    Attributes
    ----------
    name : str
    read, write : callable
    is_pool : bool
        Whether it is a number of threads, which a region sets to one.
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
        # Some versions of threadpoolctl let only one thread of the process limit BLAS, but the
        # last region may close in another thread than the one that opened the first.
        let_go = getattr(library, "clear_controlling_thread", None)
        if let_go is not None:
            let_go(force=True)
        library.set_num_threads(n_threads)
        if let_go is not None:
            let_go(force=True)

    by_openmp = "openmp" in (library.user_api, getattr(library, "threading_layer", None))
    return Setting(library.filepath, library.get_num_threads, write, True, by_openmp)


_ERRORS = Setting(
    "errors",  # an interrupt at the end of np.errstate would leave it changed
    np.geterr,
    lambda kinds: np.seterr(**kinds),
    is_pool=False,
    is_of_thread=True,
)
_added = {_ERRORS.name: _ERRORS}


@cache
def _settings() -> list[Setting]:
    """The settings that regions restore; cached, since finding the libraries takes long."""
    libraries = ThreadpoolController().lib_controllers
    return [*map(_pool, libraries), *_added.values()]


class Region:
    """The threads that one caller may use, each with its scratch memory."""

    def __init__(self, n_workers: int = 1):
        self.n_workers = n_workers
        self.before: dict[Setting, Any] = {}  # the thread's own settings
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
        """Apply ``function`` to all items and return the results in the same order."""
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
            at_work.add(threading.get_ident())  # before taking an item, so that stop() sees it
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
            """Drop waiting items and wait until no thread is at work."""
            waiting.clear()
            while at_work:
                with suppress(Empty):
                    bell.get(timeout=_LOOK_AGAIN)

        surely(work_together, stop)
        if errors:
            raise errors[0]
        return results

    def _ask(self, n_helpers: int, task: Callable[[], None]) -> None:
        """Let other threads run a task; start them when they are first needed."""
        while self._n_threads < n_helpers:
            self._n_threads += 1
            threading.Thread(
                target=_serve, args=(self._tasks,), name="skemvae", daemon=True
            ).start()
        for _ in range(n_helpers):
            self._tasks.put(task)

    def end_threads(self) -> None:
        """Let the threads end when they are done."""
        if self._n_threads:
            self._tasks.put(None)

    def forget_threads(self) -> None:
        """Start without other threads: in a new region, and in a forked child."""
        self._n_threads = 0
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()


def _serve(tasks: SimpleQueue[Callable[[], None] | None]) -> None:
    """Run tasks until the first None, which is put back for the other threads."""
    while (task := tasks.get()) is not None:
        task()
    tasks.put(None)


class _Regions:
    """The open regions of the process, at most one per thread.

    Settings of the process stay changed while any region is open, settings of a
    thread while its own region is open.
    """

    def __init__(self) -> None:
        self._before: dict[Setting, Any] = {}  # the settings of the process
        self.by_thread: dict[int, Region] = {}
        self.forget_other_threads()

    def open(self, thread: int) -> Region:
        """Open a region for the calling thread, which has none yet."""
        region = Region()

        def open_it() -> None:
            is_first = not self.by_thread
            self.by_thread[thread] = region
            allowed = self._borrow(region)
            if is_first:  # otherwise another thread uses the cores
                region.n_workers = max(1, min(allowed, default=1))

        self._alone(open_it)
        return region

    def widen(self, thread: int) -> None:
        """Let the region of the calling thread, if there is one, also change new settings."""
        region = self.by_thread.get(thread)
        if region is not None:
            self._alone(lambda: self._borrow(region))

    def _borrow(self, region: Region) -> list[int]:
        """Record and change the remaining settings; return how many threads each allowed."""
        borrowed: dict[Setting, Any] = {}
        for setting in _settings():
            before = region.before if setting.is_of_thread else self._before
            if setting not in before:
                borrowed[setting] = before[setting] = setting.read()
        allowed = {setting: n for setting, n in borrowed.items() if setting.is_pool}
        for setting in allowed:
            # Set it even if it is 1 already: setting OpenMP alone does not limit torch's MKL, which
            # threadpoolctl cannot see.
            setting.write(1)
        return list(allowed.values())

    def close(self, thread: int) -> None:
        """Restore the settings that the calling thread's region has changed, if it is open."""
        region = self.by_thread.get(thread)
        if region is None:
            return

        def give_back() -> None:
            region.end_threads()
            if len(self.by_thread) == 1:
                _give_back(self._before)
            _give_back(region.before)  # last, since process settings may change those of the thread
            self.by_thread.pop(thread, None)  # until here, closing can be repeated

        self._alone(give_back)

    def _alone(self, change: Callable[[], object]) -> None:
        """Make a change while no other thread can make one."""

        def change_alone() -> None:
            self._lock.acquire()
            change()

        surely(change_alone, self._release)

    def _release(self) -> None:
        """Release the lock, if this thread holds it."""
        with suppress(RuntimeError):  # raised once the thread no longer holds it
            while True:
                self._lock.release()

    def forget_other_threads(self) -> None:
        """Keep only the calling thread's region, as a forked child has no other threads."""
        thread = threading.get_ident()
        self._lock = threading.RLock()
        self.by_thread = {t: region for t, region in self.by_thread.items() if t == thread}
        for region in self.by_thread.values():
            region.forget_threads()


def _give_back(before: dict[Setting, Any]) -> None:
    for setting, value in list(before.items()):
        if not (setting.is_pool and value == 1):  # otherwise it is unchanged
            setting.write(value)
        before.pop(setting, None)


_regions = _Regions()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_regions.forget_other_threads)


def give_back_also(*settings: Setting) -> None:
    """Add settings of a library that was just loaded, perhaps inside a region."""
    _added.update((setting.name, setting) for setting in settings)
    _settings.cache_clear()
    _regions.widen(threading.get_ident())


def in_region(function: Callable[[Region], R]) -> R:
    """Call a function with as many threads as BLAS and OpenMP may use; limit these to one.

    So limits by threadpoolctl, by variables such as ``OMP_NUM_THREADS`` and by
    joblib's workers hold. A region inside a region is the same region. If several
    threads open regions at once, the first gets the cores, the others one thread
    each.
    """
    thread = threading.get_ident()
    region = _regions.by_thread.get(thread)
    if region is not None:
        return function(region)
    return surely(lambda: function(_regions.open(thread)), lambda: _regions.close(thread))
