from skemvae.core.arrays import AnyArray, Array

def levels() -> list[str]: ...
def dense(
    level: str,
    tile: int,
    X: AnyArray,
    weight: Array | None,
    origin: Array,
    per_unit: Array,
    log_normaliser: Array,
    means: Array,
    factors: Array,
    sums: Array,
) -> float: ...
def dense_single(
    level: str,
    tile: int,
    X: AnyArray,
    weight: Array | None,
    origin: Array,
    per_unit: Array,
    log_normaliser: Array,
    means: AnyArray,
    factors: AnyArray,
    sums: Array,
) -> float: ...
def shared(
    level: str,
    tile: int,
    X: AnyArray,
    weight: Array | None,
    origin: Array,
    per_unit: Array,
    log_normaliser: Array,
    means: Array,
    factors: Array,
    sums: Array,
) -> float: ...
def axes(
    level: str,
    tile: int,
    X: AnyArray,
    weight: Array | None,
    origin: Array,
    per_unit: Array,
    log_normaliser: Array,
    means: Array,
    factors: Array,
    sums: Array,
) -> float: ...
