"""Frames and summaries: exact at any offset and scale. Sketches: blind to order and repetition."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skemvae.core.rows import Frame, Rows
from skemvae.core.workspace import Workspace
from skemvae.engine.samples.grain import Grain
from skemvae.engine.samples.sketch import Sketch
from skemvae.engine.samples.summary import Summary
from tests.strategies import seeds, tables


@given(tables(), st.integers(1, 50))
def test_blocks_cover_every_row_once(X, size):
    weight = np.arange(1.0, len(X) + 1)
    rows = Rows(X, weight, Frame.identity(X.shape[1]))
    seen, weights = [], []
    for block in rows.blocks(range(0, len(X), size)):
        assert (block.z[-1] == 1).all()
        seen.append(block.z[:-1].T.copy())
        weights.append(block.weight)
    np.testing.assert_array_equal(np.concatenate(seen), X)
    np.testing.assert_array_equal(np.concatenate(weights), weight)
    assert rows.total == weight.sum()


def test_rows_beyond_float64_stay_finite():
    frame = Frame(np.zeros(1), np.full(1, 2.0**-400))
    z = frame.apply(np.array([[1e300], [-1e300]]), Workspace())
    assert np.isfinite(z).all()


@given(
    seeds,
    st.sampled_from([0.0, 1.0, -1e8, 1e8]),
    st.sampled_from([1e-100, 1e-3, 1.0, 1e100]),
    st.booleans(),
)
def test_a_summary_keeps_its_digits_at_any_offset_and_scale(seed, offset, scale, weighted):
    rng = np.random.default_rng(seed)
    X = offset + rng.standard_normal((9000, 2))
    weight = rng.integers(0, 3, len(X)).astype(float) if weighted else None
    centred = X - offset  # what is left of the rows after rounding, without the offset
    summary = Summary.of(Rows.of(scale * X, weight))
    mean = np.average(centred, axis=0, weights=weight)
    spread = np.sqrt(np.average((centred - mean) ** 2, axis=0, weights=weight))
    np.testing.assert_allclose(
        summary.mean / scale - offset, mean, atol=1e-15 * abs(offset) + 1e-12
    )
    np.testing.assert_allclose(summary.spread / scale, spread, rtol=1e-7 if offset else 1e-12)


def test_constant_and_zero_columns_have_a_floor():
    X = np.column_stack([np.zeros(9), np.full(9, -5.0), np.arange(9.0)])
    summary = Summary.of(Rows.of(X))
    assert summary.spread[:2].tolist() == [0.0, 0.0]
    ulps = 4096 * np.finfo(float).eps
    np.testing.assert_allclose(summary.scale[:2], [ulps, 5 * ulps])
    grain = Grain.of(X, summary.floor, len(X))
    assert grain.n_gaps.tolist() == [0, 0, 8]
    np.testing.assert_allclose(summary.noise(1e-6, grain)[2], 1e-6 * X[:, 2].var())
    np.testing.assert_allclose(summary.noise(1e-6, grain)[:2], summary.floor[:2] ** 2)
    np.testing.assert_allclose(summary.noise(0.0, grain), summary.floor**2)


def sketch_of(X, weight=None, size=50):
    summary = Summary.of(Rows.of(X, weight))
    frame = Frame(summary.mean, np.ones(X.shape[1]))
    rows = Rows(X, weight, frame)
    return Sketch.of(rows, np.zeros(X.shape[1]), summary.scale, size)


@given(seeds, st.sampled_from([50, 6000, 20_000]))
@example(2030438, 6000)
def test_a_sketch_does_not_see_order_repetition_or_units(seed, size):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((6000, 2))
    count = rng.integers(0, 4, len(X))
    reference = sketch_of(X, count.astype(float), size)
    repeated = sketch_of(rng.permutation(np.repeat(X, count, axis=0)), None, size)
    changed = sketch_of(3.7 * X + 11, count.astype(float), size)
    for other in (repeated, changed):
        np.testing.assert_array_equal(other.rows.weight, reference.rows.weight)
        np.testing.assert_allclose(other.standardised, reference.standardised, atol=1e-9)
    assert reference.n_rows == min(size, np.count_nonzero(count))


def test_a_sketch_is_a_fair_sample():
    X = np.random.default_rng(0).standard_normal((40_000, 2))
    sample = sketch_of(X, size=4000).standardised
    np.testing.assert_allclose(sample.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(np.cov(sample.T), np.eye(2), atol=0.08)


def test_effective_rows_count_distinct_rows():
    sketch = sketch_of(np.repeat(np.arange(6.0), 10)[:, None])
    assert sketch.n_rows == 6
    everything, two, none = np.ones(6), np.array([1.0, 1, 0, 0, 0, 0]), np.zeros(6)
    counted = sketch.effective_rows(np.column_stack([everything, two, none]))
    np.testing.assert_allclose(counted, [6, 2, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_any_real_type_is_read_as_float64(dtype):
    X = (1000 + np.arange(12).reshape(6, 2)).astype(dtype)
    (block,) = Rows(X, None, Frame(np.full(2, 1000.0), np.full(2, 2.0))).blocks()
    assert block.z.dtype == np.float64
    np.testing.assert_array_equal(block.z[:2].T, np.arange(12).reshape(6, 2) / 2)
