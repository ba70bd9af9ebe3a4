from collections.abc import Callable
from typing import TypeAlias

from skemvae.core.arrays import AnyArray, Array

# level, tile, X, weight, origin, per_unit, log_normaliser, means, factors, sums -> evidence
_Pass: TypeAlias = Callable[
    [str, int, AnyArray, Array | None, Array, Array, Array, AnyArray, AnyArray, Array], float
]

dense: _Pass
dense_single: _Pass
shared: _Pass
axes: _Pass

def levels() -> list[str]: ...
