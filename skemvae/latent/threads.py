"""Threads over batches and blocks, with torch's own held to one meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from skemvae.core.parallel import Region, parallel_region


@contextmanager
def torch_region() -> Iterator[Region]:
    """Use as many threads as BLAS and OpenMP were allowed to, each with torch on one thread.

    Splitting each product of some hundred rows gains little, and loses a
    hundredfold where other processes keep the cores busy: the threads that
    wait for each other spin. Whole parts of a batch, in an order that does not
    depend on the number of threads, gain more, and give the same result
    everywhere.
    """
    before = torch.get_num_threads()  # before others are held to one, for it looks at OpenMP
    try:
        with parallel_region() as region:
            torch.set_num_threads(1)
            yield region
    finally:
        torch.set_num_threads(before)
