"""The compiled kernel, if it was built, and the vector width that it uses.

Its C++ source is in ``kernel/``. The kernel is optional: without it, passes and algebra use NumPy,
BLAS and LAPACK.
"""

from __future__ import annotations

import os

__all__ = ["LEVELS", "kernel", "level"]

try:
    from skemvae.kernel import _kernel as kernel

    LEVELS: tuple[str, ...] = tuple(kernel.levels())
except ImportError:  # there was no compiler when skemvae was installed
    LEVELS = ()


def _chosen_level() -> str | None:
    chosen = os.environ.get("SKEMVAE_KERNEL", "auto")
    if chosen == "auto":
        return LEVELS[0] if LEVELS else None
    if chosen != "none" and chosen not in LEVELS:
        choices = ", ".join(("auto", "none", *LEVELS))
        raise ValueError(f"The environment has SKEMVAE_KERNEL={chosen}; choose from {choices}.")
    return None if chosen == "none" else chosen


# One of LEVELS, which are sorted from fastest to slowest; None if the kernel is not used.
level: str | None = _chosen_level()
