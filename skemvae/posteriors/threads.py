"""Regions of ``core.parallel`` for what uses torch: each of their threads has torch on one.

Splitting each product of some hundred rows gains little, and loses a
hundredfold where other processes keep the cores busy: the threads that
wait for each other spin. Whole parts of a batch, in an order that does not
depend on the number of threads, gain more, and give the same result
everywhere.
"""

from __future__ import annotations

import torch

from skemvae.engine.passes.threads import Region, Setting, give_back_also, in_region

__all__ = ["Region", "in_region"]

give_back_also(
    Setting("torch", torch.get_num_threads, torch.set_num_threads, True, is_of_thread=False),
    # An interrupt at the end of torch.no_grad() would leave it so.
    Setting("graphs", torch.is_grad_enabled, torch.set_grad_enabled, False, is_of_thread=True),
)
