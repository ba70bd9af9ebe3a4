"""How many threads torch may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch to one thread, then give back what was set before.

    Layers of some hundred units gain little from a second thread, and lose a
    hundredfold where other processes keep the cores busy. Sums then have one
    order, so that results do not depend on the number of cores or jobs.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
