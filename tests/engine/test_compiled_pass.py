"""The compiled kernel: at every vector width the same as the path through NumPy."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skemvae.core.arrays import EPS
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.rows import Frame, Rows
from skemvae.engine.passes.compiled_pass import compiled
from skemvae.engine.passes.threads import in_region
from skemvae.kernel import native
from skemvae.structures.registry import STRUCTURES
from tests.levels import levels, path
from tests.passes import expectation
from tests.pooling import assert_same_expectation
from tests.strategies import ALL, covariances, mixtures, seeds, structures

if not native.LEVELS:
    pytest.skip("the kernel was not built", allow_module_level=True)
from skemvae.kernel import _kernel


def assert_same(mixture, rows, level, tolerance=1e-11):
    with path(level):
        kernel = expectation(mixture, rows)
    with path(None):
        scanned = expectation(mixture, rows)
    assert_same_expectation(mixture, kernel, scanned, tolerance)
    return kernel


@given(mixtures(max_components=9, max_features=11), seeds, levels, st.integers(1, 700), st.data())
def test_it_takes_the_pass_that_numpy_takes(mixture, seed, level, n, data):
    rng = np.random.default_rng(seed)
    d = mixture.means.shape[1]
    X, _ = mixture.sample(n, rng)
    weight = data.draw(st.sampled_from([None, rng.gamma(2.0, size=n), rng.integers(0, 3, n) + 0.0]))
    if weight is not None:
        weight[0] = 1.0
    units = mixture.covariance.units(2.0 ** rng.integers(-3, 4, d))
    frame = Frame(rng.standard_normal(d), units)
    assert_same(mixture.into(frame), Rows(X, weight, frame), level)


@given(mixtures(max_components=4, max_features=9), seeds, levels)
def test_its_moments_need_no_second_look(mixture, seed, level):
    X, _ = mixture.sample(200, np.random.default_rng(seed))
    frame = mixture.frame()
    mixture, rows = mixture.into(frame), Rows(X, None, frame)
    with path(None):
        assume((expectation(mixture, rows).moments.variances > 1e-3).all())
    scan = mixture.scan()
    with path(level):
        taken = compiled(scan, mixture.log_normaliser)
        sums = in_region(partial(taken.sums, rows))
    assert scan.sharper(taken.moments(sums)) is None


@pytest.mark.parametrize("level", native.LEVELS)
@pytest.mark.parametrize(("k", "d"), [(3, 40), (1, 65), (70, 1), (30, 16)])
@pytest.mark.parametrize("structure", ALL)
def test_many_features_and_many_components(structure, k, d, level):
    rng = np.random.default_rng(0)
    public = {
        "full": np.eye(d) + 0.5 * np.ones((k, d, d)),
        "tied": np.eye(d) + 0.5,
        "diag": rng.gamma(2.0, size=(k, d)),
        "spherical": rng.gamma(2.0, size=k),
        "factor_analytic": np.eye(d) + 0.5 * np.ones((k, d, d)),
    }[structure]
    structure = STRUCTURES[structure]
    matrices = structure.races_as()
    covariance = structure.nearest(matrices.from_public(public, k, d), np.zeros(d))
    mixture = GaussianMixture(
        np.full(k, 1 / k), rng.standard_normal((k, d)), covariance, np.zeros(d)
    )
    X, _ = mixture.sample(1000, rng)
    assert_same(mixture, Rows(X, None, Frame.identity(d)), level)


@pytest.mark.parametrize("level", native.LEVELS)
@pytest.mark.parametrize(
    "layout",
    [
        lambda X: np.asfortranarray(X),
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: np.repeat(X, 3, axis=1)[:, ::3],
        lambda X: X[::-1, ::-1][::-1, ::-1],
        lambda X: X.astype(">f8"),
        lambda X: np.frombuffer(X.tobytes()).reshape(X.shape),  # read-only
        lambda X: Sliceable(X),
    ],
)
def test_the_layout_in_memory_does_not_matter(layout, level):
    mixture, X = a_mixture(), np.random.default_rng(0).standard_normal((300, 3))
    with path(level):
        plain = expectation(mixture, Rows(X, None, Frame.identity(3)))
        other = expectation(mixture, Rows(layout(X), None, Frame.identity(3)))
    assert other.evidence == plain.evidence
    np.testing.assert_array_equal(other.moments.second, plain.moments.second)


class Sliceable:
    """Rows that are read when they are sliced, as integers would be from a file."""

    def __init__(self, X):
        self.X, self.shape = X, X.shape

    def __getitem__(self, where):
        return self.X[where].tolist()


def a_mixture(structure="full", k=4, d=3):
    means = 3 * np.random.default_rng(1).standard_normal((k, d))
    unit = STRUCTURES[structure].identity(k, d)
    return GaussianMixture(np.full(k, 1 / k), means, unit, np.zeros(d))


@pytest.mark.parametrize("level", native.LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, bool])
def test_other_types_are_read_as_the_numbers_they_hold(dtype, level):
    X = (np.random.default_rng(0).gamma(3.0, size=(300, 3))).astype(dtype)
    with path(level):
        results = [
            expectation(a_mixture(), Rows(table, None, Frame.identity(3)))
            for table in (X, X.astype(float))
        ]
    assert results[0].evidence == results[1].evidence


@given(structures, levels, st.floats(-1, 1), st.integers(2, 6))
def test_responsibilities_are_precise_to_the_last_digits(structure, level, x, exponent):
    # Two components of weights w and 1 - w at the same place: counts are the weights.
    w = 10.0**-exponent
    covariance = STRUCTURES[structure].identity(2, 1)
    mixture = GaussianMixture(np.array([w, 1 - w]), np.zeros((2, 1)), covariance, np.zeros(1))
    with path(level):
        result = expectation(mixture, Rows(np.array([[x]]), None, Frame.identity(1)))
    np.testing.assert_allclose(result.moments.count, mixture.weights, rtol=4 * EPS * exponent * 3)
    np.testing.assert_allclose(result.evidence, -0.5 * np.log(2 * np.pi) - x**2 / 2, rtol=4 * EPS)


@pytest.mark.parametrize("level", native.LEVELS)
def test_exponential_and_logarithm(level):
    # With means m and -m the logarithm of the odds at x is 2 m x.
    def one(x, m):
        covariance = STRUCTURES["diag"].identity(2, 1)
        means = np.array([[m], [-m]])
        mixture = GaussianMixture(np.array([0.5, 0.5]), means, covariance, np.zeros(1))
        with path(level):
            return expectation(mixture, Rows(np.array([[x]]), None, Frame.identity(1)))

    for log_odds in np.concatenate([np.linspace(0, 50, 400), np.linspace(50, 800, 200)]):
        result = one(log_odds / 2, 1.0)
        smaller = np.exp(-log_odds) / (1 + np.exp(-log_odds))
        rounding = 2 * EPS * (2 + (log_odds / 2 + 1) ** 2)  # of the squares
        np.testing.assert_allclose(result.moments.count[1], smaller, rtol=rounding, atol=1e-307)
        expected = -0.5 * np.log(2 * np.pi) - (log_odds / 2 - 1) ** 2 / 2
        expected += np.log1p(np.exp(-log_odds)) - np.log(2)
        np.testing.assert_allclose(result.evidence, expected, rtol=1e-14)


@given(structures, levels)
def test_rows_that_no_component_explains_favour_none(structure, level):
    X = np.array([[0.0, 0.0, 0.0], [1e200, 0.0, 0.0]])
    mixture = a_mixture(structure)
    with path(level), np.errstate(all="ignore"):
        result = expectation(mixture, Rows(X, None, Frame.identity(3)))
        alone = expectation(mixture, Rows(X[:1], None, Frame.identity(3)))
    assert result.evidence == -np.inf
    np.testing.assert_allclose(result.moments.count - alone.moments.count, 0.25)


@given(covariances(max_components=4), levels, seeds)
def test_rows_without_weight_do_not_exist(covariance, level, seed):
    rng = np.random.default_rng(seed)
    k, d = covariance.n_components, covariance.n_features
    mixture = GaussianMixture(
        rng.dirichlet(np.ones(k)), rng.standard_normal((k, d)), covariance, np.zeros(d)
    )
    X, _ = mixture.sample(20, rng)
    padded = np.concatenate([X, np.full((5, d), 1e300), X])
    weight = np.repeat([1.0, 0.0], [20, 25])
    with path(level):
        plain = expectation(mixture, Rows(X, None, Frame.identity(d)))
        other = expectation(mixture, Rows(padded, weight, Frame.identity(d)))
    np.testing.assert_allclose(other.evidence, plain.evidence, rtol=1e-14)
    np.testing.assert_allclose(other.moments.second, plain.moments.second, rtol=1e-12, atol=1e-12)


@given(levels, st.sampled_from([0.0, 1e4, 1e6]), st.sampled_from([1.0, 1e-6]), structures)
def test_no_digit_is_lost_far_from_the_origin(level, offset, scale, structure):
    # Differences are taken first, so an offset costs what its representation costs and no more.
    rng = np.random.default_rng(3)
    X = offset + scale * rng.standard_normal((200, 2)).round(2)
    mixture = a_mixture(structure, k=3, d=2)
    near = mixture.into(Frame.identity(2))
    far = replace(
        near,
        means=offset + scale * near.means,
        covariance=near.covariance.scaled(np.full(2, scale)),
    )
    with path(level):
        moved = expectation(far, Rows(X, None, Frame.identity(2)))
        plain = expectation(near, Rows((X - offset) / scale, None, Frame.identity(2)))
    lost = EPS * offset / scale
    np.testing.assert_allclose(moved.moments.count, plain.moments.count, rtol=1e-12 + 1e3 * lost)


@pytest.mark.parametrize("level", native.LEVELS)
def test_in_float32_a_pass_is_that_of_the_rounded_model(level):
    rng = np.random.default_rng(0)
    k, d = 3, 37
    factor = rng.standard_normal((k, d, 2 * d)) / d
    covariance = STRUCTURES["full"](factor @ factor.transpose(0, 2, 1) + 0.1 * np.eye(d))
    mixture = GaussianMixture(
        rng.dirichlet(np.ones(k)), 0.3 * rng.standard_normal((k, d)), covariance, np.zeros(d)
    )
    X, _ = mixture.sample(777, rng)
    rows = Rows(X.astype(np.float32), rng.gamma(2.0, size=777), Frame.identity(d))
    double = replace(rows, X=rows.X.astype(np.float64))
    with path(level):
        single, exact = expectation(mixture, rows), expectation(mixture, double)
    assert single.evidence != exact.evidence
    np.testing.assert_allclose(single.evidence, exact.evidence, rtol=1e-7)
    ours, theirs = single.moments.about(mixture.means), exact.moments
    for name in ("count", "first", "second"):
        y = getattr(theirs, name)
        np.testing.assert_allclose(getattr(ours, name), y, atol=2e-6 * np.abs(y).max())


def test_a_component_of_weight_zero_gets_nothing():
    mixture = replace(a_mixture(), weights=np.array([0.5, 0.0, 0.5, 0.0]))
    rows = Rows(np.random.default_rng(0).standard_normal((50, 3)), None, Frame.identity(3))
    for level in native.LEVELS:
        kernel = assert_same(mixture, rows, level)
        np.testing.assert_array_equal(kernel.moments.count[[1, 3]], 0.0)


def arguments(**changes):
    valid = {
        "level": native.LEVELS[0],
        "tile": 64,
        "n_runs": 2,
        "n_threads": 3,
        "X": np.zeros((5, 2)),
        "weight": None,
        "origin": np.zeros(2),
        "per_unit": np.ones(2),
        "log_normaliser": np.zeros(3),
        "means": np.zeros((3, 2)),
        "factors": np.zeros((3, 2)),
        "scratch": np.zeros(3 * 64 * 10 + 2 * 16 + 8),
        "sums": np.zeros(15),
    }
    return list({**valid, **changes}.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "mmx"}, "level='mmx'"),
        ({"X": np.zeros((5, 2), dtype=int)}, "X must be a table"),
        ({"X": np.zeros(10)}, "X must be a table"),
        ({"weight": np.ones(4)}, "weight must be an array of 5 numbers"),
        ({"origin": np.zeros(3)}, "origin"),
        ({"per_unit": np.zeros(2, dtype=np.float32)}, "per_unit"),
        ({"means": np.zeros((2, 2))}, "means"),
        ({"factors": np.zeros((3, 2, 2))}, "factors"),
        ({"scratch": np.zeros(3 * 64 * 10 + 2 * 16 + 7)}, "scratch"),
        ({"sums": np.zeros(14)}, "sums"),
        ({"tile": 48}, "tile=48 must be a multiple of 32"),
        ({"tile": -32}, "tile=-32"),
        ({"n_runs": 0}, "n_runs=0"),
        ({"n_threads": 0}, "n_threads=0"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        _kernel.axes(*arguments(**changes))


@pytest.mark.parametrize("structure", ALL)
def test_parameters_of_any_layout_are_read(structure):
    rng = np.random.default_rng(0)
    means = np.asfortranarray(rng.standard_normal((3, 4)))
    covariance = STRUCTURES[structure].identity(3, 4)
    mixture = GaussianMixture(np.full(3, 1 / 3), means, covariance, np.zeros(4))
    for level in native.LEVELS:
        assert_same(mixture, Rows.of(rng.standard_normal((50, 4))), level)


LEVEL = native.LEVELS[0]
TWO, FEW = np.tile(np.eye(2), (3, 1, 1)), np.zeros((3, 1, 2))


@pytest.mark.parametrize(
    ("function", "given", "error", "message"),
    [
        ("factorise", (LEVEL, 3, 2, FEW, TWO, TWO), ValueError, "matrices must be an array of 12"),
        ("factorise", (LEVEL, 3, 2, TWO, TWO, FEW), ValueError, "inverses must be an array of 12"),
        ("factorise", (LEVEL, 1, -2, TWO, TWO, TWO), ValueError, "d=-2 must lie between 0"),
        ("factorise", ("mmx", 3, 2, TWO, TWO, TWO), ValueError, "level='mmx'"),
        ("unwhiten", (LEVEL, 3, 2, TWO, FEW, FEW, TWO), ValueError, "sums must be an array of 21"),
        ("relate", (LEVEL, 3, 2, TWO, TWO, FEW), ValueError, "coordinates must be an array of 9"),
        ("restore", (LEVEL, 3, 2, TWO, FEW, TWO), ValueError, "coordinates must be an array of 9"),
        ("two_loops", (LEVEL, 0, 4, FEW, FEW, np.ones(3), np.ones(2)), ValueError, "no n=4 pairs"),
        ("two_loops", (LEVEL, 3, 1, FEW, FEW, np.ones(3), np.ones(2)), ValueError, "first=3"),
        ("two_loops", (LEVEL, 0, 1, FEW, FEW, 5, np.ones(2)), TypeError, "len"),
        ("two_loops", (LEVEL, 0, 1, FEW, FEW, np.ones(3), np.ones(9)), ValueError, "moves must be"),
    ],
)
def test_algebra_that_does_not_fit_is_refused(function, given, error, message):
    with pytest.raises(error, match=message):
        getattr(_kernel, function)(*given)


def test_it_writes_to_nothing_that_is_read_only():
    sums = np.zeros(15)
    sums.flags.writeable = False
    with pytest.raises((BufferError, ValueError)):
        _kernel.axes(*arguments(sums=sums))
    with pytest.raises(TypeError):
        _kernel.axes(*arguments(log_normaliser=3))


def sums_of(rows, n_threads):
    """Sums over rows along 8 runs, as bytes: to the last bit."""
    d = rows.shape[1]
    sums = np.zeros(3 * (1 + 2 * d))
    evidence = _kernel.axes(
        *arguments(
            n_runs=8,
            n_threads=n_threads,
            X=rows,
            origin=np.zeros(d),
            per_unit=np.ones(d),
            means=np.arange(3.0 * d).reshape(3, d) / d,
            factors=np.ones((3, d)),
            scratch=np.zeros(64 * (2 * d + 6) * n_threads + 8 * (len(sums) + 1) + 8),
            sums=sums,
        )
    )
    return sums.tobytes(), evidence


def test_the_number_of_threads_changes_nothing():
    rows = np.random.default_rng(0).standard_normal((5000, 9))
    expected = sums_of(rows, 1)
    for n_threads in (1, 2, 3, 8, 20):
        assert sums_of(rows, n_threads) == expected


def test_many_callers_at_once():
    rows = np.random.default_rng(0).standard_normal((5000, 9))
    expected = sums_of(rows, 1)
    with ThreadPoolExecutor(6) as callers:
        for result in callers.map(lambda n: sums_of(rows, n), 40 * [1, 2, 3]):
            assert result == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    rows = np.random.default_rng(0).standard_normal((5000, 9))
    expected = sums_of(rows, 3)
    child = os.fork()
    if child == 0:
        os._exit(0 if all(sums_of(rows, 3) == expected for _ in range(20)) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0


def test_the_environment_chooses(monkeypatch):
    for chosen, level in [
        ("none", None),
        ("auto", native.LEVELS[0]),
        *zip(native.LEVELS, native.LEVELS, strict=True),
    ]:
        monkeypatch.setenv("SKEMVAE_KERNEL", chosen)
        assert native._chosen_level() == level
    monkeypatch.setenv("SKEMVAE_KERNEL", "mmx")
    with pytest.raises(ValueError, match=r"SKEMVAE_KERNEL=mmx; choose from auto, none"):
        native._chosen_level()
