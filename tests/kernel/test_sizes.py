"""No size that a caller of the compiled kernel makes up leads beyond the memory that it gives."""

from itertools import combinations

import numpy as np
import pytest

from skemvae.kernel import native

if not native.LEVELS:
    pytest.skip("the kernel was not built", allow_module_level=True)
from skemvae.kernel import _kernel

LEVEL = native.LEVELS[0]
N, K, D, TILE, RUNS, THREADS = 4, 3, 5, 32, 2, 2
TABLE = (np.ones((N, D)), np.ones(N), np.zeros(D), np.ones(D))
LABELS = np.zeros((1, N), dtype=np.int32)
MATRICES = np.tile(np.eye(D), (K, 1, 1))


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype=dtype)


def a_pass(factors, n_sums, n_kept, dtype=np.float64):
    scratch = THREADS * TILE * (D + K + 3 + n_kept) + RUNS * (n_sums + 1) + 8
    components = (zeros(K), zeros(K, D, dtype=dtype), np.ones(factors, dtype=dtype))
    return (LEVEL, TILE, RUNS, THREADS, *TABLE, *components, zeros(scratch), zeros(n_sums))


def climbs(shape):
    values = np.ones((2, *shape)) if len(shape) == 2 else np.tile(MATRICES, (2, 1, 1, 1))
    places = (np.full((2, K), 1 / K), zeros(2, K, D), values, zeros(1), zeros(K))
    return (LEVEL, TILE, RUNS, THREADS, 1, 0.0, False, 4.0, *TABLE, np.ones(D), *places)


def beginnings(shape):
    parameters = (zeros(K), zeros(K, D), zeros(*shape))
    return (LEVEL, THREADS, 1, K, False, 2.0, *TABLE[:2], LABELS, np.ones(D), *parameters)


# Valid arguments of each function, and which of them are sizes.
FUNCTIONS = {
    "dense": (a_pass((K, D, D), K * (1 + D + D * D), (K + 2) * D + 1), (1, 2, 3)),
    "dense_single": (
        a_pass((K, D, D), K * (1 + D + D * D), (K + 2) * D + 1, np.float32),
        (1, 2, 3),
    ),
    "shared": (a_pass((D, D), K * (1 + D) + D * D, 2 * D), (1, 2, 3)),
    "axes": (a_pass((K, D), K * (1 + 2 * D), D), (1, 2, 3)),
    "spherical": (a_pass((K,), K * (2 + D), 1), (1, 2, 3)),
    "factor_analytic": (a_pass((K, 3, D), K * (1 + 4 * D), 2 * K + D), (1, 2, 3)),
    "climb_dense": (climbs((K, D, D)), (1, 2, 3)),
    "climb_axes": (climbs((K, D)), (1, 2, 3)),
    "keys": ((LEVEL, THREADS, *TABLE, np.ones(D), 0.0, zeros(N)), (1,)),
    "divide": (
        (LEVEL, TILE, THREADS, 1, K, D, 2, 1, *TABLE[:2], zeros(1, K, 2), zeros(1, K, D), LABELS),
        (1, 2, 3, 4, 5, 6),
    ),
    "begin_dense": (beginnings((K, D, D)), (1, 2, 3)),
    "begin_axes": (beginnings((K, D)), (1, 2, 3)),
    "factorise": ((LEVEL, K, D, MATRICES, MATRICES.copy(), MATRICES.copy()), (1, 2)),
    "unwhiten": (
        (LEVEL, K, D, MATRICES, zeros(K, 1 + D + D * D), zeros(K, D), MATRICES.copy()),
        (1, 2),
    ),
    "relate": ((LEVEL, K, D, MATRICES, MATRICES, zeros(K, D * (D + 1) // 2)), (1, 2)),
    "restore": ((LEVEL, K, D, MATRICES, zeros(K, D * (D + 1) // 2), MATRICES.copy()), (1, 2)),
    "two_loops": ((LEVEL, 0, 2, zeros(3, 4), zeros(3, 4), np.ones(3), np.ones(4)), (1, 2)),
}


def test_every_function_is_here():
    assert {*FUNCTIONS, "levels"} == {name for name in dir(_kernel) if not name.startswith("_")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_sizes_that_are_made_up_are_refused(name):
    valid, sizes = FUNCTIONS[name]
    function = getattr(_kernel, name)
    function(*valid)
    for places in (places for n in (1, 2, 3) for places in combinations(sizes, n)):
        # Products of these are 2^60 to 2^93: some wrap to numbers that are small, or to 0.
        for huge in (2**20, 2**21, 2**30, 2**31 - 32, 2**31 - 1):
            given = [huge if i in places else value for i, value in enumerate(valid)]
            with pytest.raises(ValueError, match=r"must|cannot be counted|no n="):
                function(*given)


@pytest.mark.parametrize("name", ["factorise", "unwhiten", "relate", "restore"])
def test_products_that_wrap_to_nothing_are_refused(name):
    arrays = (zeros(0),) * (len(FUNCTIONS[name][0]) - 3)
    for k, d in ((2**22, 2**21), (2**4, 2**30), (2**30, 2**17), (2**24, 2**20)):
        with pytest.raises(ValueError, match="cannot be counted"):
            getattr(_kernel, name)(LEVEL, k, d, *arrays)


def test_scratch_memory_whose_size_wraps_to_what_is_there_is_refused():
    """16 numbers for each row of 2^30, on 2^30 threads: 2^64, which is 0."""
    valid, _ = FUNCTIONS["axes"]
    level, _, _, _, *others, scratch, sums = valid
    scratch = scratch[: 1 * (sums.size + 1) + 8]
    for tile, threads in ((2**30, 2**30), (2**29, 2**30), (4096, 2**30), (2**30, 4096)):
        with pytest.raises(ValueError, match="must"):
            _kernel.axes(level, tile, 1, threads, *others, scratch, sums)
