"""Fits on rows that are read in parts: batches, files, slices. They are those of all at once."""

import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM, from_batches
from skemvae.models import BayesianMixture
from skemvae.tables import batches
from skemvae.tables.reading import _SLICE_NUMBERS
from tests.laws import costly
from tests.strategies import ALL, CONJUGATE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X = RNG.integers(0, 3, (600, 1)) * 6.0 + RNG.standard_normal((600, 3)) * [1.0, 2.0, 0.5]
WEIGHT = RNG.integers(0, 3, 600).astype(float)
NAMES = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    """Batches are parts as they come, although they are small."""
    monkeypatch.setattr(batches, "_PART_NUMBERS", 1)


def mixture(**kwargs):
    return EMGaussianMixture(**{"n_components": 3, "random_state": 0, "max_iter": 8, **kwargs})


def assert_same(fit, reference, rtol=1e-9):
    assert fit.n_iter_ == reference.n_iter_
    for name in ("lower_bounds_", "weights_", "means_", "covariances_"):
        expected = getattr(reference, name)
        atol = rtol * np.abs(expected).max()
        np.testing.assert_allclose(getattr(fit, name), expected, rtol=rtol, atol=atol)


class Slices:
    """What slices by rows and is no array, such as a data set in an HDF5 file."""

    def __init__(self, X):
        self._X, self.shape, self.longest = X, X.shape, 0

    def __getitem__(self, where):
        self.longest = max(self.longest, where.stop - where.start)
        return self._X[where]


# The same fit.


@costly(3)
@given(
    st.sampled_from(ALL),
    st.lists(st.integers(0, 600), max_size=5),
    st.booleans(),
    st.sampled_from([0.0, 1e8]),
    st.sampled_from([np.float64, np.float32]),
)
def test_batches_are_fitted_as_the_whole(structure, borders, weighted, offset, dtype):
    table = (X + offset if dtype is np.float64 else X).astype(dtype)
    borders = sorted([0, *borders, 600])  # some batches may be empty
    parts = [slice(*pair) for pair in pairwise(borders)]
    weight = WEIGHT if weighted else None
    source = [(table[part], WEIGHT[part]) if weighted else table[part] for part in parts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = mixture(covariance_type=structure).fit(table, sample_weight=weight)
        fit = mixture(covariance_type=structure).fit(from_batches(source))
    fit.means_ = fit.means_ - offset
    whole.means_ = whole.means_ - offset
    assert_same(fit, whole, rtol=1e-9 if offset == 0 else 1e-6)


def test_batches_in_another_order_tell_the_same():
    parts = [X[:10], X[10:300], X[300:]]
    assert_same(mixture().fit(from_batches(parts[::-1])), mixture().fit(X))


def test_small_batches_are_joined(monkeypatch):
    source, whole = from_batches(np.split(X, 60)), mixture().fit(X)
    monkeypatch.setattr(batches, "_PART_NUMBERS", 2**18)
    fit = mixture().fit(source)
    np.testing.assert_array_equal(fit.covariances_, whole.covariances_)  # to the last bit
    np.testing.assert_array_equal(fit.feature_scores(X), whole.feature_scores(X))
    monkeypatch.setattr(batches, "_PART_NUMBERS", 500)
    table, _ = source.open()
    assert [len(part) for part, _ in table.read()] == [170, 170, 170, 90]
    assert_same(mixture().fit(source), whole)


@pytest.mark.filterwarnings("ignore::skemvae.DoubtfulFitWarning")
@pytest.mark.parametrize("structure", CONJUGATE)
def test_a_bayesian_mixture_takes_batches(structure):
    model = BayesianMixture(5, covariance_type=structure)
    em = VariationalEM(model, random_state=0, max_iter=15)
    whole = clone(em).fit(X, sample_weight=WEIGHT)
    fit = clone(em).fit(from_batches([(X[:99], WEIGHT[:99]), (X[99:], WEIGHT[99:])]))
    np.testing.assert_allclose(fit.lower_bounds_, whole.lower_bounds_, rtol=1e-9)
    np.testing.assert_allclose(fit.model_.means_, whole.model_.means_, rtol=1e-6)
    np.testing.assert_allclose(fit.model_.weights_, whole.model_.weights_, rtol=1e-6, atol=1e-9)


def test_starts_warm_starts_and_scores_go_over_batches():
    source = from_batches([X[:250], X[250:]])
    fit, whole = mixture(n_init=2).fit(source), mixture(n_init=2).fit(X)
    assert_same(fit, whole)
    assert fit.score(source) == pytest.approx(whole.score(X), rel=1e-12)
    assert fit.aic(source) == pytest.approx(whole.aic(X), rel=1e-12)
    assert fit.bic(source) == pytest.approx(whole.bic(X), rel=1e-12)
    with_weights = from_batches([(X[:250], WEIGHT[:250]), (X[250:], WEIGHT[250:])])
    assert fit.score(with_weights) == pytest.approx(whole.score(X, sample_weight=WEIGHT), rel=1e-12)
    assert fit.bic(with_weights) == pytest.approx(whole.bic(X, sample_weight=WEIGHT), rel=1e-12)
    for estimator, data in ((fit, source), (whole, X)):
        estimator.set_params(warm_start=True, n_init=1).fit(data)
    assert_same(fit, whole)


# Sources.


def sources(path):
    frame = pd.DataFrame(X, columns=NAMES).assign(w=WEIGHT.astype(int))
    frame.to_parquet(path, row_group_size=130)
    arrow = pa.Table.from_pandas(frame)
    yield pa.parquet.ParquetFile(path)
    yield pa.dataset.dataset(path)
    yield arrow
    yield arrow.to_batches(max_chunksize=200)
    yield lambda: (frame[i : i + 250] for i in range(0, 600, 250))
    yield lambda: pl.from_pandas(frame).iter_slices(250)


def test_frames_and_arrow_batches_bring_names_and_weights(tmp_path):
    table = pd.DataFrame(X, columns=NAMES)
    whole = mixture().fit(table, sample_weight=WEIGHT)
    for source in sources(tmp_path / "rows.parquet"):
        data = from_batches(source, sample_weight="w")
        fit = mixture().fit(data)
        assert_same(fit, whole)
        assert fit.feature_names_in_.tolist() == NAMES
        assert fit.score(data) == pytest.approx(whole.score(table, sample_weight=WEIGHT))
    assert not hasattr(fit.fit(from_batches([X])), "feature_names_in_")


def test_nulls_are_refused_as_nan(tmp_path):
    column = pa.array([1.0, 2.0, None, 4.0])
    with pytest.raises(ValueError, match="contains NaN, first in row 2, column 'a'"):
        mixture().fit(from_batches(pa.table({"a": column, "b": column})))


@pytest.mark.parametrize("weighted", [False, True])
def test_what_slices_by_rows_is_read_in_slices(weighted):
    long = np.tile(X, (_SLICE_NUMBERS // X.size + 1, 1))
    weight = np.tile(WEIGHT, len(long) // 600) if weighted else None
    slices = Slices(long)
    fit = mixture(max_iter=2).fit(slices, sample_weight=weight)
    assert_same(fit, mixture(max_iter=2).fit(long, sample_weight=weight), rtol=1e-8)
    assert slices.longest * 3 <= _SLICE_NUMBERS < long.size


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, ">f8"])
def test_a_memmap_that_must_not_be_written(tmp_path, dtype):
    values = np.round(100 * X).astype(dtype)
    path = tmp_path / "rows.npy"
    np.save(path, values)
    mapped = np.load(path, mmap_mode="r")
    assert_same(mixture().fit(mapped), mixture().fit(np.array(values)))


def test_rows_may_lie_at_any_address(tmp_path):
    """Behind a header of 5 bytes, or between other fields of a record."""
    path = tmp_path / "rows.bin"
    path.write_bytes(b"rows:" + X.tobytes())
    mapped = np.memmap(path, np.float64, "r", offset=5, shape=X.shape)
    records = np.zeros(len(X), dtype=[("label", "u1"), ("x", float, 3)])
    records["x"] = X
    for unaligned in (mapped, records["x"]):
        assert not unaligned.flags.aligned
        assert_same(mixture().fit(unaligned), mixture().fit(X))
        assert_same(mixture().fit(from_batches([unaligned])), mixture().fit(X))


# What goes wrong.


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "yields no batch"),
        ([X[:0], X[:0]], "yields no row"),
        ([X[:1]], r"1 sample\(s\) while a minimum of 2"),
        ([X[:1], X[:1]], "n_components = 3"),
        ([X, X[:, :2]], "Batch 1 .* has 2 columns, but the first batch has 3"),
        ([X, X[0]], "Batch 1 .* Expected 2D array"),
        ([X, (X, WEIGHT)], "Batch 1 .* the first has none"),
        ([(X, WEIGHT), X], "Batch 1 .* the first has weights"),
        ([(X, WEIGHT), (X, -WEIGHT)], r"Batch 1 .*sample_weight\[6\]=-2.0 is negative"),
        ([(X, WEIGHT[:9])], r"Batch 0 .* shape \(9,\), but X has 600 rows"),
        ([(X, 0 * WEIGHT), (X, 0 * WEIGHT)], "zero everywhere"),
        ([X, np.full((5, 3), "blue")], "Batch 1 .*could not convert string"),
        ([X, np.where(X[7, 1] < X, np.nan, X)], r"contains NaN, first in row 60\d"),
        ([X, np.full((1, 3), -np.inf)], "contains infinity, first in row 600, column 0"),
        ([X, np.full((1, 3), 1e200)], "change its unit"),
        (
            [pd.DataFrame(X, columns=NAMES), pd.DataFrame(X, columns=NAMES[::-1])],
            r"Batch 1 .*are \['c', 'b', 'a'\]",
        ),
    ],
)
def test_broken_batches_are_named(source, message):
    fitted = mixture()
    with pytest.raises(ValueError, match=message):
        fitted.fit(from_batches(source))
    assert not hasattr(fitted, "n_features_in_")


def test_sources_that_can_be_read_once_are_refused():
    with pytest.raises(TypeError, match=r"read only once.* give a function"):
        from_batches(iter([X, X]))
    with pytest.raises(TypeError, match="neither iterable nor a function"):
        from_batches(7)
    iterator = iter([X[:200], X[200:400], X[400:]])
    with pytest.raises(ValueError, match="0 rows in this pass, and 400 in the first"):
        mixture().fit(from_batches(lambda: iterator))


def test_batches_are_not_taken_for_an_array(tmp_path):
    path = tmp_path / "rows.parquet"
    pd.DataFrame(X, columns=NAMES).to_parquet(path)
    for source in (pa.parquet.ParquetFile(path), pa.dataset.dataset(path)):
        with pytest.raises(TypeError, match=r"give skemvae.from_batches\(X\)"):
            mixture().fit(source)
    for source in (iter([X]), lambda: iter([X])):
        with pytest.raises(TypeError, match=r"see skemvae.from_batches"):
            mixture().fit(source)
    assert mixture().fit(pa.parquet.read_table(path)).n_features_in_ == 3  # a table in memory


class Reader:
    """An iterator with a file behind it, such as pandas has for CSV."""

    opened = 0

    def __init__(self):
        self._batches = iter((X, X * np.nan, X[:, :1]))
        Reader.opened += 1

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._batches)

    def close(self):
        Reader.opened -= 1


def test_files_are_closed_also_where_a_pass_ends_early():
    with pytest.raises(ValueError, match="Batch 2"):
        mixture().fit(from_batches(Reader))
    assert Reader.opened == 0


def test_weights_belong_to_their_batches():
    with pytest.raises(ValueError, match="cannot be given beside batches"):
        mixture().fit(from_batches([X]), sample_weight=WEIGHT)
    with pytest.raises(ValueError, match=r"sample_weight='w' is none of the columns \['a'"):
        mixture().fit(from_batches([pd.DataFrame(X, columns=NAMES)], sample_weight="w"))
    with pytest.raises(ValueError, match=r"sample_weight has shape \(9,\), but X has 600 rows"):
        mixture().fit(Slices(X), sample_weight=WEIGHT[:9])


def test_responsibilities_need_rows_in_memory():
    for init_params in (np.full((600, 3), 1 / 3), lambda X, k, rng: np.full((len(X), k), 1 / k)):
        with pytest.raises(ValueError, match=r"init_params is a .* X is read in parts"):
            mixture(init_params=init_params).fit(from_batches([X]))


def test_answers_for_each_row_are_asked_for_batch_by_batch():
    fit = mixture().fit(X)
    for method in ("score_samples", "predict", "predict_proba", "feature_scores"):
        with pytest.raises(TypeError, match="give one after the other"):
            getattr(fit, method)(from_batches([X]))
    other = from_batches([pd.DataFrame(X, columns=NAMES[::-1])])
    with pytest.raises(ValueError, match=r"X has columns .* but the fit was to"):
        mixture().fit(pd.DataFrame(X, columns=NAMES)).score(other)
    for estimator in (VariationalEM("factor_model"), VAEEstimator()):
        with pytest.raises(TypeError, match="X are batches"):
            estimator.fit(from_batches([X]))


def test_ctrl_c_in_a_batch_keeps_the_best():
    passes = []

    def source():
        passes.append(1)
        yield X[:300]
        if len(passes) == 9:
            raise KeyboardInterrupt
        yield X[300:]

    with pytest.warns(ConvergenceWarning, match="Interrupted"):
        fit = mixture(tol=0).fit(from_batches(source))
    assert fit.status_ == "interrupted"
    assert_same(fit, mixture(tol=0, max_iter=fit.n_iter_).fit(X))
