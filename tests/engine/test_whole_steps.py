"""Climbs of several starts: the compiled kernel takes the steps that ``MixtureEM`` takes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skemvae.core.arrays import EPS
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.iterate import Aitken, iterate
from skemvae.core.rows import Frame, Rows
from skemvae.engine.climbs import whole_steps as module
from skemvae.engine.climbs.whole_steps import climb
from skemvae.engine.passes.threads import Region
from skemvae.kernel import native
from skemvae.structures.registry import STRUCTURES
from tests.levels import levels, path
from tests.passes import em_on
from tests.strategies import KERNEL, mixtures, seeds, structures, tables

if not native.LEVELS:
    pytest.skip("the kernel was not built", allow_module_level=True)
from skemvae.kernel import _kernel


def assert_same(climbed, other, tolerance=1e-8):
    assert climbed.bound == pytest.approx(other.bound, rel=tolerance, abs=tolerance)
    for a, b in (
        (climbed.count, other.count),
        (climbed.model.weights, other.model.weights),
        (climbed.model.means, other.model.means),
        (climbed.model.covariance.values, other.model.covariance.values),
    ):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def assert_same_everywhere(models, rows, level, n_iter, tolerance=1e-8):
    with path(level):
        ahead = climb(models, rows, n_iter, 0.0)
    with path(None):
        step_by_step = climb(models, rows, n_iter, 0.0)
    for climbed, other in zip(ahead, step_by_step, strict=True):
        assert_same(climbed, other, tolerance)


def left_to_do(models, rows, n_iter):
    """Steps that the kernel leaves to the interpreter, for each start."""
    ahead = module._steps(native.LEVELS[0], models, rows, n_iter, 0.0)
    return [n_left for _, n_left in ahead]


@given(
    mixtures(max_components=9, max_features=11),
    seeds,
    levels,
    st.integers(20, 500),
    st.integers(0, 4),
    st.data(),
)
def test_the_kernel_takes_the_steps_of_em(mixture, seed, level, n, n_iter, data):
    rng = np.random.default_rng(seed)
    k, d = mixture.means.shape
    X, _ = mixture.sample(n + 5 * k * d, rng)
    weight = data.draw(st.sampled_from([None, rng.gamma(2.0, size=len(X))]))
    frame = Frame(rng.standard_normal(d), mixture.covariance.units(2.0 ** rng.integers(-3, 4, d)))
    noise = data.draw(st.sampled_from([1e-9, 1e-6, 0.1])) * np.ones(d)
    models = [
        GaussianMixture(
            mixture.weights, mixture.means[rng.permutation(k)], mixture.covariance, noise
        ).into(frame)
        for _ in range(3)
    ]
    assert_same_everywhere(models, Rows(X, weight, frame), level, n_iter)


@given(tables(), structures, seeds, levels, st.sampled_from([0.0, 1e-9, 1e-3]), st.integers(1, 5))
def test_it_falls_back_where_a_step_is_out_of_the_ordinary(
    X, structure, seed, level, regularisation, k
):
    # Constant, collinear and repeated columns, and components without rows among them.
    rng = np.random.default_rng(seed)
    d = X.shape[1]
    scale = np.maximum(X.std(0), 1e-3)
    rows = Rows(X, None, Frame(X.mean(0), 2.0 ** np.round(np.log2(scale))))
    noise = np.full(d, max(regularisation, 1e-12))
    far = np.where(rng.uniform(size=(k, 1)) < 0.2, 1e4, 1.0)
    covariance = STRUCTURES[structure].identity(k, d)
    model = GaussianMixture(np.full(k, 1 / k), far * rng.standard_normal((k, d)), covariance, noise)
    with path(level):
        (climbed,) = climb([model], rows, 6, 0.0)
    em = em_on(rows)
    bounds = iterate(em.step, em.start(model), stop=Aitken(0.0), max_iter=6).bounds
    # Rounding grows where EM is unstable: the climb is one of EM nevertheless.
    assert climbed.bound >= bounds[0] - 1e-9 * max(1.0, abs(bounds[0]))
    # The logarithm of a determinant is known as well as the smallest variance.
    variances = np.linalg.eigvalsh(climbed.model.covariance.dense())
    smallest, largest = variances[:, 0], variances[:, -1]
    lost = (EPS * largest / np.maximum(smallest, EPS * largest)).max()
    bound = em.start(climbed.model).bound
    assert bound == pytest.approx(climbed.bound, rel=1e-9, abs=1e-9 + lost)


def two_clusters(n=200, d=2):
    rng = np.random.default_rng(0)
    return np.concatenate([rng.standard_normal((n, d)) - 3, rng.standard_normal((n, d)) + 3])


def start(structure="full", means=((-1.0, 0.0), (1.0, 0.0)), noise=1e-6):
    means = np.array(means)
    k, d = means.shape
    covariance = STRUCTURES[structure].identity(k, d)
    return GaussianMixture(np.full(k, 1 / k), means, covariance, np.full(d, noise))


@pytest.mark.parametrize("structure", KERNEL)
@pytest.mark.parametrize("unit", [1.0, 1e-9])  # bounds below and above 0
def test_the_bound_never_falls_and_ends_at_the_tolerance(structure, unit):
    identity = STRUCTURES[structure].identity(2, 2)
    models = [start(structure, unit * np.array([[-1.0, 0.0], [1.0, 0.0]]), 1e-6 * unit**2)]
    models[0] = replace(models[0], covariance=identity.scaled(np.full(2, unit)))
    rows = Rows.of(unit * two_clusters())
    bounds = [climb(models, rows, n_iter, 0.0)[0].bound for n_iter in range(12)]
    assert np.diff(bounds).min() >= -1e-12
    for tol in (1e-1, 1e-3):
        early = climb(models, rows, 1000, tol)[0]
        with path(None):
            assert_same(early, climb(models, rows, 1000, tol)[0])
        assert bounds[0] < early.bound < bounds[-1] + 1e-3


@pytest.mark.parametrize("structure", KERNEL)
def test_what_is_ordinary_is_left_to_nobody(structure):
    assert left_to_do([start(structure)], Rows.of(two_clusters()), 20) == [0]


@pytest.mark.parametrize(
    ("X", "model", "n_left"),
    [
        # Far from all rows: the component holds nothing.
        (two_clusters(), start(means=((-1.0, 0.0), (1e3, 0.0))), 5),
        # A column follows another.
        (two_clusters()[:, [0, 0]], start(noise=1e-13), 5),
        # A component has no weight.
        (two_clusters(), replace(start(), weights=np.array([1.0, 0.0])), 5),
        # All rows of the component are one.
        (np.repeat([[-3.0, -3.0], [3.0, 3.0]], 20, axis=0), start(noise=0.0), 5),
    ],
)
def test_the_rest_is_left_to_the_interpreter(X, model, n_left):
    assert left_to_do([model, start(model.covariance.name)], Rows.of(X), 5)[0] == n_left
    with path(None):
        (step_by_step,) = climb([model], Rows.of(X), 5, 0.0)
    for level in native.LEVELS:
        with path(level):
            (climbed,) = climb([model], Rows.of(X), 5, 0.0)
        assert climbed.bound == pytest.approx(step_by_step.bound, rel=1e-6)


def test_the_interpreter_goes_on_where_the_kernel_ends():
    """A component comes to rest on three rows that are one."""
    rng = np.random.default_rng(27)
    X = rng.standard_normal((60, 2))
    X = np.concatenate([X, np.repeat(2 * rng.standard_normal((1, 2)), 3, axis=0)])
    model, rows = start("full", rng.standard_normal((3, 2)), 1e-14), Rows.of(X)
    (n_left,) = left_to_do([model], rows, 60)
    assert 0 < n_left < 60
    n_iter = 60 - n_left + 2
    (climbed,), (earlier,) = (climb([model], rows, n, 0.0) for n in (n_iter, n_iter - 1))
    with path(None):
        (step_by_step,) = climb([model], rows, n_iter, 0.0)
    assert earlier.bound < climbed.bound == pytest.approx(step_by_step.bound, rel=1e-6)


@pytest.mark.parametrize("structure", KERNEL)
@pytest.mark.parametrize("level", native.LEVELS)
def test_no_digit_is_lost_where_a_mean_moves_far(structure, level):
    X = 1e-7 * two_clusters() + 1.0
    models = [start(structure, ((-1.0, 0.0), (0.0, -1.0)), 1e-30)]
    assert left_to_do(models, Rows.of(X), 3) == [0]
    assert_same_everywhere(models, Rows.of(X), level, 3, tolerance=1e-6)
    # The first step is far, all others are near.
    (climbed,) = climb(models, Rows.of(X), 1, 0.0)
    weight, variances = climbed.model.weights, climbed.model.covariance.variances
    between = weight @ (climbed.model.means - weight @ climbed.model.means) ** 2
    expected = np.full(2, X.var(0).mean()) if structure == "spherical" else X.var(0)
    np.testing.assert_allclose(
        weight @ variances + (between.mean() if structure == "spherical" else between),
        expected,
        rtol=1e-6,
    )


def as_bytes(climbed):
    covariance = climbed.model.covariance.values
    return [part.tobytes() for part in (climbed.count, climbed.model.means, covariance)]


@pytest.mark.parametrize("structure", ["full", "diag"])
def test_neither_threads_nor_other_starts_change_a_bit(structure, monkeypatch):
    rng = np.random.default_rng(1)
    rows = Rows.of(two_clusters())
    models = [start(structure, rng.standard_normal((3, 2))) for _ in range(7)]
    together = [as_bytes(climbed) for climbed in climb(models, rows, 9, 0.0)]
    assert together == [as_bytes(climb([model], rows, 9, 0.0)[0]) for model in models]
    monkeypatch.setattr(module, "in_region", lambda function: function(Region(1)))
    assert together == [as_bytes(climbed) for climbed in climb(models, rows, 9, 0.0)]


def test_long_tables_are_climbed_by_passes(monkeypatch):
    def refuse(*_):
        raise AssertionError("the kernel's climb is for short tables")

    monkeypatch.setattr(module, "_steps", refuse)
    rows = Rows.of(
        np.zeros((module._SHORT_FOR_MANY, 1))
        + np.arange(2.0).repeat(module._SHORT_FOR_MANY // 2)[:, None]
    )
    model = GaussianMixture(
        np.ones(1), np.zeros((1, 1)), STRUCTURES["full"].identity(1, 1), np.ones(1)
    )
    assert climb([model], rows, 0, 0.0)[0].count == pytest.approx([rows.n_rows])


def arguments(**changes):
    valid = {
        "level": native.LEVELS[0],
        "tile": 96,
        "n_runs": 1,
        "n_threads": 2,
        "n_iter": 3,
        "tol": 0.0,
        "is_shared": False,
        "total": 5.0,
        "X": np.zeros((5, 2)),
        "weight": None,
        "origin": np.zeros(2),
        "per_unit": np.ones(2),
        "noise": np.ones(2),
        "weights": np.full((2, 2, 3), 1 / 3),
        "means": np.zeros((2, 2, 3, 2)),
        "values": np.ones((2, 2, 3, 2)),
        "bounds": np.zeros(2),
        "counts": np.zeros(6),
    }
    return list({**valid, **changes}.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "mmx"}, "level='mmx'"),
        ({"tile": 48}, "tile=48 must be a multiple of 32"),
        ({"n_runs": 0}, "n_runs=0"),
        ({"n_threads": 0}, "n_threads=0"),
        ({"n_iter": -1}, "n_iter=-1"),
        ({"X": np.zeros((5, 2), dtype=int)}, "X must be a table"),
        ({"weight": np.ones(4)}, "weight must be an array of 5 numbers"),
        ({"noise": np.ones(3)}, "noise must be an array of 2"),
        ({"weights": np.ones(5)}, "weights must be an array of 12"),
        ({"means": np.ones(5)}, "means must be an array of 24"),
        ({"values": np.ones((2, 2, 3, 2, 2))}, "values must be an array of 24"),
        ({"bounds": np.zeros(4)}, "bounds"),
        ({"counts": np.zeros(7)}, "counts"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        _kernel.climb_axes(*arguments(**changes))


def test_matrices_have_more_numbers():
    with pytest.raises(ValueError, match="values must be an array of 48"):
        _kernel.climb_dense(*arguments())
    values = np.tile(np.eye(2), (2, 2, 3, 1, 1))
    assert _kernel.climb_dense(*arguments(values=values)) == [(0, True)] * 2
