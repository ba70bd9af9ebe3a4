"""Thread regions for code that uses torch; in each of their threads torch uses only one.

Splitting each product of a few hundred rows over threads gains little, and is
a hundred times slower if other processes keep the cores busy, because waiting
threads spin. Computing whole parts of a batch in parallel, in an order that
does not depend on the number of threads, gains more and gives the same result
everywhere.
"""

from __future__ import annotations

import torch

from skemvae.engine.passes.threads import Region, Setting, give_back_also, in_region

__all__ = ["Region", "in_region"]

give_back_also(
    Setting("torch", torch.get_num_threads, torch.set_num_threads, True, is_of_thread=False),
    # An interrupt at the end of torch.no_grad() would leave gradients switched off.
    Setting("graphs", torch.is_grad_enabled, torch.set_grad_enabled, False, is_of_thread=True),
)
