"""Torch has one thread in a region, with all that it carries."""

import re

import torch
from threadpoolctl import threadpool_limits

from skemvae.posteriors.threads import in_region


def threads_of_mkl():
    """That of torch, which threadpoolctl does not see; none where torch has another library."""
    return re.findall(r"mkl_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())


def test_a_region_holds_mkl_even_where_openmp_is_held():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threadpool_limits(1):
            assert torch.get_num_threads() == 1
            assert set(threads_of_mkl()) <= {"2"}
            inside = in_region(lambda _: threads_of_mkl())
    finally:
        torch.set_num_threads(before)
    assert set(inside) <= {"1"}
