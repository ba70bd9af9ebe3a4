"""Threads over blocks of rows, with BLAS and OpenMP held to one thread meanwhile.

One pool of threads is faster than two that meet: each thread takes whole
blocks through all their steps, instead of BLAS splitting each small product.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from skemvae.core.workspace import Workspace

T = TypeVar("T")
R = TypeVar("R")


@cache
def _libraries() -> Any:
    """The thread pools of BLAS and OpenMP; to find them takes too long to do it often."""
    return ThreadpoolController()


class Region:
    """The threads that one caller may use, and the scratch memory of each of them."""

    def __init__(self, n_workers: int):
        self.n_workers = n_workers
        self._pool: ThreadPoolExecutor | None = None  # made when first needed
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

        def work() -> None:
            while True:
                try:
                    i, item = waiting.popleft()
                except IndexError:
                    return
                results[i] = function(item)

        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.n_workers - 1, "skemvae")
        others = [self._pool.submit(work) for _ in range(n_workers - 1)]
        try:
            work()  # the calling thread is one of the workers
        finally:  # after an error or Ctrl-C nothing is left to run
            waiting.clear()
            wait(others)
        for other in others:
            other.result()
        return results

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


class _Regions:
    """All regions of the process: other pools are limited from the first to the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._limit: Any = None
        self.current = threading.local()

    def open(self) -> Region:
        with self._lock:
            self._count += 1
            if self._count > 1:  # another thread has the cores already
                return Region(1)
            allowed = [library.num_threads for library in _libraries().lib_controllers]
            self._limit = _libraries().limit(limits=1)
            return Region(max(1, min(allowed, default=1)))

    def close(self, region: Region) -> None:
        region.close()
        with self._lock:
            self._count -= 1
            if self._count == 0:
                self._limit.restore_original_limits()


_regions = _Regions()


def _forget_regions() -> None:
    """A forked child has none of its parent's threads."""
    global _regions
    _regions = _Regions()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_regions)


@contextmanager
def parallel_region() -> Iterator[Region]:
    """Use as many threads as BLAS and OpenMP were allowed to, and hold them to one.

    So the limits of threadpoolctl, of ``OMP_NUM_THREADS`` and its like and of
    joblib's workers are obeyed. A region inside a region is the same region; of
    regions in several threads at once, the first has the cores and the others
    one thread each.
    """
    regions = _regions
    region: Region | None = getattr(regions.current, "region", None)
    if region is not None:
        yield region
        return
    region = regions.current.region = regions.open()
    try:
        yield region
    finally:
        regions.current.region = None
        regions.close(region)
