"""EM that can go ahead on a sample of the rows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Self

import numpy as np

from skemvae.core.em import MixtureEM
from skemvae.core.rows import Rows
from skemvae.engine.samples.sketch import Sketch

# A sample is worth it, if it holds less than such a part of the rows; and memory stays bounded,
# if it holds at most so many numbers: 16 MiB.
_WORTH_SAMPLING, _MOST_NUMBERS = 1 / 8, 2**21


class SampledEM(MixtureEM):
    """EM on a table, of which a sample may go ahead."""

    def sampled(self, size: int) -> Self | None:
        """The same on so many rows that stand for all of them; None if that saves little.

        Neither the order of the rows nor how the table is cut into parts matters.
        """
        d = len(self.table.frame.origin)
        if size * d > _MOST_NUMBERS:
            return None
        if isinstance(self.table, Rows) and self.table.n_rows < size / _WORTH_SAMPLING:
            return None
        sketch = self.table.fold(
            partial(Sketch.of, origin=np.zeros(d), scale=np.ones(d), size=size)
        )
        if sketch.fraction > _WORTH_SAMPLING:
            return None
        return replace(self, table=sketch.sample)
