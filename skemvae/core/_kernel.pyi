from collections.abc import Callable
from typing import TypeAlias

from skemvae.core.arrays import AnyArray, Array

# level, tile, n_runs, n_threads, X, weight, origin, per_unit, log_normaliser, means, factors,
# scratch, sums -> evidence
_Pass: TypeAlias = Callable[
    [
        str,
        int,
        int,
        int,
        AnyArray,
        Array | None,
        Array,
        Array,
        Array,
        AnyArray,
        AnyArray,
        Array,
        Array,
    ],
    float,
]

dense: _Pass
dense_single: _Pass
shared: _Pass
axes: _Pass
spherical: _Pass

def levels() -> list[str]: ...
