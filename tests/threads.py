"""A number of threads for a while."""

import sys
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def limited(n_threads):
    """Of all libraries. After it the MKL in torch, which threadpoolctl does not see, has its own.

    Else it would split each product of the tests to come, whose threads would wait for each other.
    """
    try:
        with threadpool_limits(n_threads):
            yield
    finally:
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(torch.get_num_threads())
