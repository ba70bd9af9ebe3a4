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
factor_analytic: _Pass

# level, tile, n_runs, n_threads, n_iter, tol, is_shared, total, X, weight, origin, per_unit, noise,
# then of each route, twice: weights, means, values; once: bound, counts -> of each route how many
# steps are left to do, and whether the next place is known
_Climbs: TypeAlias = Callable[
    [
        str,
        int,
        int,
        int,
        int,
        float,
        bool,
        float,
        AnyArray,
        Array | None,
        Array,
        Array,
        Array,
        Array,
        Array,
        Array,
        Array,
        Array,
    ],
    list[tuple[int, bool]],
]

climb_dense: _Climbs
climb_axes: _Climbs

# level, threads, X, weight, origin, per_unit, slope, shift, keys
def keys(
    level: str,
    n_threads: int,
    X: AnyArray,
    weight: Array | None,
    origin: Array,
    per_unit: Array,
    slope: Array,
    shift: float,
    keys: Array,
) -> None: ...

# level, tile, threads, divisions, K, d, trials, steps, X, weight, draws, centres, labels
def divide(
    level: str,
    tile: int,
    n_threads: int,
    n_divisions: int,
    k: int,
    d: int,
    n_trials: int,
    n_steps: int,
    X: Array,
    weight: Array,
    draws: Array,
    centres: Array,
    labels: AnyArray,
) -> None: ...

# level, threads, starts, K, is_shared, few_rows, X, weight, labels, noise, weights, means, values
# -> of each start whether it is ordinary
_Beginnings: TypeAlias = Callable[
    [
        str,
        int,
        int,
        int,
        bool,
        float,
        Array,
        Array,
        AnyArray,
        Array,
        Array,
        Array,
        Array,
    ],
    list[bool],
]

begin_dense: _Beginnings
begin_axes: _Beginnings

# level, K, d, matrices, factors, inverses -> smallest unexplained part
def factorise(
    level: str, k: int, d: int, matrices: Array, factors: Array, inverses: Array
) -> float: ...

# level, K, d, factors, sums, first, second
def unwhiten(
    level: str, k: int, d: int, factors: Array, sums: Array, first: Array, second: Array
) -> None: ...

# level, K, d, inverses, factors, coordinates
def relate(
    level: str, k: int, d: int, inverses: Array, factors: Array, coordinates: Array
) -> None: ...

# level, K, d, factors, coordinates, matrices
def restore(
    level: str, k: int, d: int, factors: Array, coordinates: Array, matrices: Array
) -> None: ...

# level, oldest, number, moves, bends, curvatures, step
def two_loops(
    level: str, first: int, n: int, moves: Array, bends: Array, curvatures: Array, step: Array
) -> None: ...
def levels() -> list[str]: ...
