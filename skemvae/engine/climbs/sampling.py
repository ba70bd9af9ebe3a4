"""EM that can run on a sample of the rows first."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Self

import numpy as np

from skemvae.core.em import MixtureEM
from skemvae.core.rows import Rows
from skemvae.engine.samples.sketch import Sketch

# A sample is worthwhile if it holds less than this fraction of the rows. It may hold at most
# _MOST_NUMBERS values (16 MiB), so that memory stays bounded.
_WORTH_SAMPLING, _MOST_NUMBERS = 1 / 8, 2**21


class SampledEM(MixtureEM):
    """EM on a table, which can also run on a sample of it."""

    def sampled(self, size: int) -> Self | None:
        """The same EM on ``size`` representative rows, or None if that saves little.

        The sample does not depend on the order of the rows or the division into parts.
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
