"""Divisions of small tables, and what EM begins with: by the kernel, and by NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skemvae.core.moments import Moments
from skemvae.core.rows import Frame, Rows
from skemvae.engine.climbs.whole_steps import begin
from skemvae.engine.samples.sketch import _keys
from skemvae.engine.starts import k_means as groups
from skemvae.engine.starts.k_means import k_means, nearest
from skemvae.kernel import native
from skemvae.structures.registry import STRUCTURES
from tests.levels import path
from tests.strategies import KERNEL, seeds

levels = st.sampled_from([None, *native.LEVELS])
sizes = st.tuples(st.integers(1, 400), st.integers(1, 11), st.integers(1, 12))  # m, d, K


def table(m, d, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((m, d)) + 4 * rng.integers(3, size=(m, 1))
    return X, rng.gamma(2.0, size=m), rng


def inertia(X, weight, labels):
    """Weighted squares about the means of the groups."""
    total = 0.0
    for label in np.unique(labels):
        own, own_weight = X[labels == label], weight[labels == label]
        total += own_weight @ ((own - np.average(own, 0, own_weight)) ** 2).sum(1)
    return total


@given(sizes, seeds, levels, st.sampled_from("CF"))
def test_each_row_goes_to_its_nearest_centre(size, seed, level, order):
    m, d, k = size
    X, _, rng = table(m, d, seed)
    centres = rng.standard_normal((3, k, d))
    if order == "F":
        centres = np.asfortranarray(centres)
    before = centres.copy()
    with path(level):
        labels = nearest(X, centres)
    squared = ((X[None, :, None] - centres[:, None]) ** 2).sum(3)
    chosen = np.take_along_axis(squared, labels[:, :, None], 2)[:, :, 0]
    np.testing.assert_allclose(chosen, squared.min(2), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(centres, before)


@given(sizes, seeds, st.integers(0, 9), st.sampled_from([1, 2, 3, 40]))
def test_clusters_are_those_of_numpy(size, seed, n_steps, n_trials):
    m, d, k = size
    X, weight, rng = table(max(m, k), d, seed)
    draws = rng.uniform(size=(3, k, n_trials))
    with path(None):
        expected = k_means(X, weight, draws, n_steps)
    for level in native.LEVELS:
        with path(level):
            np.testing.assert_array_equal(k_means(X, weight, draws, n_steps), expected)


@given(sizes, seeds, levels)
def test_steps_of_lloyd_lower_the_inertia_and_empty_no_cluster(size, seed, level):
    m, d, k = size
    X, weight, rng = table(max(m, k), d, seed)
    draws = rng.uniform(size=(1, k, 2))
    with path(level):
        after = [k_means(X, weight, draws, n_steps)[0] for n_steps in (0, 1, 2, 50)]
    assert all(len(np.unique(labels)) == k for labels in after)
    inertias = [inertia(X, weight, labels) for labels in after]
    assert (np.diff(inertias) <= 1e-9 * inertias[0]).all()


@given(st.integers(2, 60), st.integers(1, 5), seeds, levels, st.integers(1, 8))
def test_seeds_are_distinct_rows_and_heavy_rows_come_first(m, d, seed, level, k):
    k = min(k, m)
    X, weight, rng = table(m, d, seed)
    with path(level):
        (labels,) = k_means(X, weight, rng.uniform(size=(1, k, 1)), 0)
        assert len(np.unique(labels)) == k
        weight[m // 2] = 1e12
        (labels,) = k_means(X, weight, rng.uniform(0.01, 0.99, size=(1, k, 1)), 0)
    assert labels[m // 2] == 0


def test_trials_find_better_seeds():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 2)) + 20 * rng.standard_normal((10, 2))[np.arange(500) % 10]
    weight = np.ones(500)
    mean_inertias = [
        np.mean([inertia(X, weight, own) for own in k_means(X, weight, draws, 0)])
        for draws in (rng.uniform(size=(100, 10, 1)), rng.uniform(size=(100, 10, 5)))
    ]
    assert mean_inertias[1] < 0.8 * mean_inertias[0]


@given(sizes, seeds, levels)
def test_of_much_work_some_steps_are_taken_at_a_time(size, seed, level):
    m, d, k = size
    X, weight, rng = table(max(m, k), d, seed)
    draws = rng.uniform(size=(2, k, 2))
    before = groups._PATIENCE
    with path(level):
        expected = k_means(X, weight, draws, 9)
        try:
            groups._PATIENCE = 3 * X.size * 2 * k
            np.testing.assert_array_equal(k_means(X, weight, draws, 9), expected)
        finally:
            groups._PATIENCE = before


@pytest.mark.parametrize("level", [None, *native.LEVELS])
@pytest.mark.parametrize("patience", [2**32, 1])
def test_rows_that_are_near_each_other_but_far_away_can_have_clusters_of_their_own(
    level, patience, monkeypatch
):
    monkeypatch.setattr(groups, "_PATIENCE", patience)
    X = np.array([[0.0], [1.0], [1e6], [1e6 + 1e-5]])
    with path(level):
        labels = k_means(X, np.ones(4), np.random.default_rng(0).uniform(size=(20, 4, 1)), 5)
    assert (np.sort(labels) == np.arange(4)).all()


def test_much_fits_into_bounded_memory(monkeypatch):
    rng = np.random.default_rng(0)
    X, centres = rng.standard_normal((1000, 3)), rng.standard_normal((2, 7, 3))
    with path(None):
        expected = nearest(X, centres)
        monkeypatch.setattr(groups, "_BLOCK", 100)
        np.testing.assert_array_equal(nearest(X, centres), expected)


@pytest.mark.skipif(not native.LEVELS, reason="the kernel was not built")
@given(
    sizes,
    seeds,
    st.sampled_from(native.LEVELS or [None]),
    st.sampled_from(KERNEL),
    st.sampled_from([0.0, 1e-6, 0.1]),
    st.integers(1, 20),
)
def test_a_start_is_the_m_step_of_softened_groups(size, seed, level, structure, noise, few_rows):
    m, d, k = size
    m += k
    X, weight, rng = table(m, d, seed)
    labels = np.array([rng.permutation(np.arange(m) % k) for _ in range(3)], dtype=np.int32)
    unit, noise = STRUCTURES[structure].identity(k, d), np.full(d, noise)
    with path(level):
        models = begin(unit, labels, Rows.of(X, weight), noise, few_rows)
    assert len(models) == 3
    for own, model in zip(labels, models, strict=True):
        moments = Moments.of_groups(X, weight, own, unit.values.shape)
        ndim = (k, *(1,) * (moments.second.ndim - 1))
        n_own, count = np.bincount(own, minlength=k).reshape(ndim), moments.count.reshape(ndim)
        pooled = moments.second.sum(0) / moments.count.sum()
        softened = (n_own * moments.second / count + few_rows * pooled) / (n_own + few_rows)
        expected = unit.pool(softened, moments.count)
        each = np.diag(noise) if softened.ndim == 3 else noise
        if model is None:  # left to NumPy
            assert noise.max() == 0 or m - k <= d
            continue
        np.testing.assert_allclose(model.weights, moments.count / moments.count.sum(), rtol=1e-12)
        np.testing.assert_allclose(model.means, moments.means, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(model.covariance.values, expected + each, rtol=1e-9, atol=1e-12)
        assert model.noise is noise


@pytest.mark.parametrize("structure", KERNEL)
@pytest.mark.parametrize("level", native.LEVELS)
def test_a_group_without_rows_or_without_variance_is_left_to_numpy(structure, level):
    X = np.repeat(np.eye(4), 5, axis=0)
    unit = STRUCTURES[structure].identity(3, 4)
    labels = np.array([np.arange(20) % 2, np.arange(20) % 3], dtype=np.int32)
    with path(level):
        empty, sound = begin(unit, labels, Rows.of(X), np.full(4, 0.1), 5)
        (singular,) = begin(unit, labels[1:], Rows.of(np.ones((20, 4))), np.zeros(4), 5)
    assert empty is None
    assert singular is None
    assert sound is not None


# Keys of rows.


@given(st.integers(1, 300), st.integers(1, 11), seeds, levels)
def test_equal_rows_have_equal_keys_wherever_they_stand(n, d, seed, level):
    rng = np.random.default_rng(seed)
    distinct = rng.standard_normal((5, d))
    which = rng.integers(5, size=n)
    frame = Frame(rng.standard_normal(d), 2.0 ** rng.integers(-3, 3, d))
    weight = rng.gamma(2.0, size=n)
    with path(level):
        keys = _keys(Rows(distinct[which], weight, frame), np.zeros(d), rng.standard_normal(d))
    assert ((keys >= 0) & (keys < 1)).all()
    for own in range(5):
        assert len(np.unique(keys[which == own])) <= 1


@given(
    st.integers(1, 300),
    st.integers(1, 11),
    seeds,
    st.sampled_from(["C", "F", "float32", "every other row"]),
)
def test_keys_are_those_of_numpy(n, d, seed, layout):
    rng = np.random.default_rng(seed)
    X = {
        "C": lambda X: X[:n],
        "F": lambda X: np.asfortranarray(X[:n]),
        "float32": lambda X: X[:n].astype(np.float32),
        "every other row": lambda X: X[::2],
    }[layout](rng.standard_normal((2 * n, d)))
    rows = Rows(X, None, Frame(rng.standard_normal(d), np.ones(d)))
    origin, slope = rng.standard_normal(d), rng.standard_normal(d)
    with path(None):
        expected = _keys(rows, origin, slope)
    for level in native.LEVELS:
        with path(level):
            np.testing.assert_array_equal(_keys(rows, origin, slope), expected)


# What does not fit.

needs_kernel = pytest.mark.skipif(not native.LEVELS, reason="the kernel was not built")


def arguments_of(valid, changes):
    return list({**valid, **changes}.values())


@needs_kernel
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "mmx"}, "level='mmx'"),
        ({"tile": 48}, "tile=48 must be a multiple of 32"),
        ({"n_threads": 0}, "n_threads=0 must lie between 1 and 4096"),
        ({"n_divisions": 0}, "n_divisions=0 must lie"),
        ({"k": 0}, "k=0 must lie"),
        ({"n_trials": -1}, "n_trials=-1 must lie"),
        ({"n_steps": -1}, "n_steps=-1 must lie"),
        ({"d": 0}, "d=0 must lie"),
        ({"X": np.zeros((5, 2), np.float32)}, "X must be an array of 10 numbers of type float64"),
        ({"X": np.zeros((5, 3))}, "X must be an array of 10"),
        ({"X": np.zeros((0, 2)), "weight": np.zeros(0)}, "number of rows=0 must lie"),
        ({"weight": np.ones(4)}, "weight must be an array of 5"),
        ({"draws": np.ones(5)}, "draws must be an array of 12"),
        ({"centres": np.ones(5)}, "centres must be an array of 12"),
        ({"labels": np.zeros(10)}, "labels must be an array of 10 numbers of type int32"),
    ],
)
def test_divisions_that_do_not_fit_are_refused(changes, message):
    valid = {
        "level": native.LEVELS[-1],
        "tile": 96,
        "n_threads": 2,
        "n_divisions": 2,
        "k": 3,
        "d": 2,
        "n_trials": 2,
        "n_steps": 4,
        "X": np.zeros((5, 2)),
        "weight": np.ones(5),
        "draws": np.zeros((2, 3, 2)),
        "centres": np.zeros((2, 3, 2)),
        "labels": np.zeros((2, 5), dtype=np.int32),
    }
    native.kernel.divide(*valid.values())
    with pytest.raises(ValueError, match=message):
        native.kernel.divide(*arguments_of(valid, changes))


@needs_kernel
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "mmx"}, "level='mmx'"),
        ({"n_threads": 0}, "n_threads=0"),
        ({"n_starts": 0}, "n_starts=0"),
        ({"k": 0}, "k=0"),
        ({"X": np.ones((4, 2))}, "X must be an array of 10"),
        ({"labels": np.zeros((2, 4), dtype=np.int32)}, "labels must be an array of 10"),
        (
            {"labels": np.full((2, 5), 3, dtype=np.int32)},
            r"in \[0, 3\), but one is 3",
        ),
        ({"labels": np.full((2, 5), -1, dtype=np.int32)}, "one is -1"),
        ({"weights": np.zeros(5)}, "weights must be an array of 6"),
        ({"means": np.zeros(5)}, "means must be an array of 12"),
        ({"values": np.zeros((2, 3, 2, 2))}, "values must be an array of 12"),
    ],
)
def test_starts_that_do_not_fit_are_refused(changes, message):
    valid = {
        "level": native.LEVELS[-1],
        "n_threads": 2,
        "n_starts": 2,
        "k": 3,
        "is_shared": False,
        "few_rows": 3.0,
        "X": np.arange(10.0).reshape(5, 2),
        "weight": np.ones(5),
        "labels": np.tile(np.arange(5, dtype=np.int32) % 3, (2, 1)),
        "noise": np.ones(2),
        "weights": np.zeros((2, 3)),
        "means": np.zeros((2, 3, 2)),
        "values": np.zeros((2, 3, 2)),
    }
    assert native.kernel.begin_axes(*valid.values()) == [True, True]
    with pytest.raises(ValueError, match=message):
        native.kernel.begin_axes(*arguments_of(valid, changes))
    with pytest.raises(ValueError, match="values must be an array of 24"):
        native.kernel.begin_dense(*valid.values())


@needs_kernel
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "mmx"}, "level='mmx'"),
        ({"n_threads": 0}, "n_threads=0"),
        ({"X": np.ones((5, 2), dtype=int)}, "X must be a table"),
        ({"weight": np.ones(4)}, "weight must be an array of 5"),
        ({"origin": np.zeros(1)}, "origin must be an array of 2"),
        ({"slope": np.zeros(3)}, "slope must be an array of 2"),
        ({"keys": np.zeros(4)}, "keys must be an array of 5"),
    ],
)
def test_keys_that_do_not_fit_are_refused(changes, message):
    valid = {
        "level": native.LEVELS[-1],
        "n_threads": 2,
        "X": np.ones((5, 2)),
        "weight": None,
        "origin": np.zeros(2),
        "per_unit": np.ones(2),
        "slope": np.ones(2),
        "shift": 0.0,
        "keys": np.zeros(5),
    }
    native.kernel.keys(*valid.values())
    with pytest.raises(ValueError, match=message):
        native.kernel.keys(*arguments_of(valid, changes))
