"""A fold over parts is that of the whole, wherever the table is cut."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.rows import Frame, Rows
from skemvae.core.table import Parts
from skemvae.engine.samples.even_sample import EvenSample
from skemvae.engine.samples.sketch import Sketch
from skemvae.engine.samples.summary import Extent, Summary
from skemvae.structures.registry import STRUCTURES
from tests.passes import expectation
from tests.pooling import assert_same_expectation
from tests.strategies import ALL, mixtures, seeds, tables, weights_of

cuts = st.lists(st.floats(0.01, 0.99), max_size=6)


def cut(X, weight, places):
    """A table of the same rows in several parts, none of them empty."""
    borders = np.unique([0, *(int(place * len(X)) for place in places), len(X)])

    def read():
        for start, stop in pairwise(borders):
            yield X[start:stop], None if weight is None else weight[start:stop]

    return Parts(read, Frame.identity(X.shape[1]))


def table_of(mixture, seed, n=200):
    rng = np.random.default_rng(seed)
    d = mixture.means.shape[1]
    return 3 * rng.standard_normal((n, d)), rng.integers(0, 3, n) * rng.gamma(2.0, size=n)


@given(mixtures(), seeds, cuts, st.booleans())
def test_expectations_of_parts_add_up(mixture, seed, places, weighted):
    X, weight = table_of(mixture, seed)
    weight = weight if weighted else None
    frame = Frame(np.full(X.shape[1], 0.25), np.full(X.shape[1], 2.0))
    whole = expectation(mixture, Rows(X, weight, frame))
    parts = expectation(mixture, cut(X, weight, places).framed(frame))
    assert_same_expectation(mixture, parts, whole, 1e-10)
    np.testing.assert_allclose(parts.bound, whole.bound, rtol=1e-12)
    np.testing.assert_allclose(parts.total, whole.total, rtol=1e-12)


@pytest.mark.parametrize("structure", ALL)
def test_one_part_is_the_whole_to_the_last_bit(structure):
    X = np.random.default_rng(0).standard_normal((5000, 3))
    covariance = STRUCTURES[structure].identity(2, 3)
    means = np.random.default_rng(1).standard_normal((2, 3))
    mixture = GaussianMixture(np.array([0.3, 0.7]), means, covariance, np.zeros(3))
    whole, part = expectation(mixture, Rows.of(X)), expectation(mixture, cut(X, None, []))
    assert part.evidence == whole.evidence
    np.testing.assert_array_equal(part.moments.second, whole.moments.second)


@pytest.mark.parametrize("structure", ALL)
def test_moments_keep_their_digits_where_means_move_far(structure):
    """Parts are summed about one origin: the new mean of the whole, not that of any part."""
    X = 1 + 1e-5 * np.random.default_rng(0).standard_normal((3000, 2))
    mixture = GaussianMixture(
        np.ones(1), np.zeros((1, 2)), STRUCTURES[structure].identity(1, 2), np.zeros(2)
    )
    moments = expectation(mixture, cut(X, None, [0.001, 0.5])).moments
    np.testing.assert_allclose(moments.variances[0], X.var(0), rtol=1e-9)


def test_frames_replace_each_other_and_units_of_weight_multiply():
    X, weight = np.arange(12.0).reshape(6, 2), np.arange(6.0)
    frame = Frame(np.ones(2), np.full(2, 4.0))
    for table in (Rows.of(X, weight), cut(X, weight, [0.5]), cut(X, None, [0.5])):
        changed = table.framed(Frame(np.zeros(2), np.full(2, 0.5)), 2.0).framed(frame, 8.0)
        seen = []
        changed.fold(lambda rows, seen=seen: seen.append(rows) or 0)
        assert all(rows.frame is frame for rows in seen)
        np.testing.assert_array_equal(np.concatenate([rows.X for rows in seen]), X)
        if seen[0].weight is not None:
            weights = np.concatenate([rows.weight for rows in seen])
            np.testing.assert_array_equal(weights, weight / 16)


def test_few_rows_of_a_component_in_a_part_ask_for_no_other_pass():
    """One row has no variance, and lies far from its mean in units of that."""
    passes = []

    def read():
        passes.append(1)
        yield from ((X[i : i + 10], None) for i in range(0, len(X), 10))

    X = np.random.default_rng(0).standard_normal((200, 2))
    X[::10] += 9.0
    mixture = GaussianMixture(
        np.array([0.9, 0.1]),
        np.array([[0.0, 0.0], [9.0, 9.0]]),
        STRUCTURES["full"].identity(2, 2),
        np.zeros(2),
    )
    expectation(mixture, Parts(read, Frame.identity(2)))
    assert len(passes) == 1


@given(tables(), st.data(), cuts, st.sampled_from([0.0, 1e8, -1e8]), st.sampled_from([1e-100, 1e9]))
def test_a_summary_is_the_same_for_any_cut(X, data, places, offset, scale):
    X = scale * (X + offset)
    weight = data.draw(weights_of(len(X)))
    whole, parts = Summary.of(Rows.of(X, weight)), Summary.of(cut(X, weight, places))
    np.testing.assert_array_equal(parts.centre, whole.centre)
    np.testing.assert_array_equal(parts.floor, whole.floor)
    unit = np.maximum(np.ptp(X, axis=0), whole.floor)
    np.testing.assert_allclose(parts.shift / unit, whole.shift / unit, atol=1e-12)
    np.testing.assert_allclose(parts.spread / unit, whole.spread / unit, atol=1e-12)


@given(seeds, cuts, st.sampled_from([30, 150, 2000]))
def test_a_sketch_is_the_same_for_any_cut(seed, places, size):
    rng = np.random.default_rng(seed)
    X = np.round(rng.standard_normal((1000, 2)), 1)  # with rows that repeat
    weight = rng.integers(0, 4, len(X)).astype(float)
    sketch = partial(
        Sketch.of,
        origin=np.zeros(2),
        scale=np.array([1.0, -2.0]),
        size=size,
    )
    whole, parts = Rows.of(X, weight).fold(sketch), cut(X, weight, places).fold(sketch)
    np.testing.assert_array_equal(parts.keys, whole.keys)
    np.testing.assert_array_equal(parts.rows.X, whole.rows.X)
    np.testing.assert_array_equal(parts.weights, whole.weights)
    assert parts.fraction == whole.fraction


@given(st.integers(0, 999), st.sampled_from([np.nan, np.inf, -np.inf]), cuts, st.booleans())
def test_the_extent_names_the_first_value_that_is_not_finite(row, value, places, weighted):
    X = np.random.default_rng(0).standard_normal((1000, 3))
    X[row, 1] = value
    X[row + 1 :, 2] = np.nan
    weight = np.where(np.arange(1000) == row, 0.0, 2.0) if weighted else None
    extent = cut(X, weight, places).fold(Extent.of)
    assert (extent.not_finite.row, extent.not_finite.column) == (row, 1)
    np.testing.assert_equal(extent.not_finite.value, value)


@given(tables(), st.data(), cuts)
def test_an_extent_counts(X, data, places):
    weight = data.draw(weights_of(len(X)))
    extent = cut(X, weight, places).fold(Extent.of)
    counting = np.ones(len(X)) if weight is None else weight
    assert extent.not_finite is None
    assert (extent.n_rows, extent.n_counting) == (len(X), np.count_nonzero(counting))
    assert extent.heaviest == counting.max()
    np.testing.assert_array_equal(extent.low, X[counting > 0].min(0))
    np.testing.assert_array_equal(extent.high, X[counting > 0].max(0))


@given(tables(min_rows=40), st.data(), cuts, st.sampled_from([10, 1000]))
def test_an_even_sample_has_the_weight_of_all_rows(X, data, places, size):
    weight = data.draw(weights_of(len(X)))
    sample = cut(X, weight, places).fold(partial(EvenSample.of, size=size))
    total = len(X) if weight is None else weight.sum()
    np.testing.assert_allclose(sample.weight.sum(), total)
    assert len(sample.X) == min(size, len(X))
    assert {tuple(row) for row in sample.X} <= {tuple(row) for row in X}


def test_an_even_sample_stands_for_all_parts():
    """Each part has as many rows in it as it has weight, late or early."""
    X = np.repeat(np.arange(40.0), 25)[:, None]
    for places in ([], [0.1, 0.2, 0.5], np.arange(1, 40) / 40):
        sample = cut(X, None, places).fold(partial(EvenSample.of, size=100)).X
        assert np.abs(sample.mean() - 19.5) < 1.5
        assert (np.histogram(sample, 4)[0] >= 15).all()
