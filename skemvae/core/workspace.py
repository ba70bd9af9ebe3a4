"""Scratch memory that is reused from block to block."""

from __future__ import annotations

from math import prod

import numpy as np

from skemvae.core.arrays import AnyArray


class Workspace:
    """Arrays by name; the same name returns the same memory.

    New memory for each temporary of a block would cost more than the
    arithmetic, since the operating system maps every page anew. Each thread
    needs its own workspace.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, type], AnyArray] = {}

    def array(self, name: str, *shape: int, dtype: type = np.float64) -> AnyArray:
        """An uninitialised contiguous array, valid until the next call with ``name``."""
        size = prod(shape)
        buffer = self._buffers.get((name, dtype))
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name, dtype] = np.empty(size, dtype)
        return buffer[:size].reshape(shape)
