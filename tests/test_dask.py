"""dask arrays as X: in one process, and on a cluster of two, one of which dies."""

import os
import pickle
import signal

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from skemvae import EMGaussianMixture, VariationalEM
from skemvae.models import BayesianMixture
from skemvae.tables.dask_array import DaskTable
from tests.strategies import ALL

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X = RNG.integers(0, 3, (900, 3)) * 6.0 + RNG.standard_normal((900, 3)) + 1e4
WEIGHT = RNG.integers(0, 3, 900).astype(float)


def mixture(**kwargs):
    return EMGaussianMixture(
        **{"n_components": 3, "random_state": 0, "max_iter": 6, "tol": 0, **kwargs}
    )


def chunked(rows=(200, 0, 1, 699)):
    return da.from_array(X, chunks=(rows, (3,)))


def assert_same(fit, reference):
    assert fit.n_iter_ == reference.n_iter_
    np.testing.assert_allclose(fit.lower_bounds_, reference.lower_bounds_, rtol=1e-11)
    np.testing.assert_allclose(fit.means_, reference.means_, rtol=1e-10)
    scale = np.abs(reference.covariances_).max()
    np.testing.assert_allclose(fit.covariances_, reference.covariances_, atol=1e-9 * scale)


# In one process.


@pytest.mark.parametrize("structure", ALL)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_dask_array_is_fitted_as_the_array(structure, weighted):
    weight = WEIGHT if weighted else None
    whole = mixture(covariance_type=structure).fit(X, sample_weight=weight)
    fit = mixture(covariance_type=structure).fit(chunked(), sample_weight=weight)
    assert_same(fit, whole)
    assert fit.score(chunked(), sample_weight=weight) == pytest.approx(
        whole.score(X, sample_weight=weight), rel=1e-12
    )


def test_weights_may_be_chunked_otherwise():
    whole = mixture().fit(X, sample_weight=WEIGHT)
    assert_same(mixture().fit(chunked(), sample_weight=da.from_array(WEIGHT, chunks=77)), whole)


def test_weights_may_be_as_large_as_numbers_go():
    whole = mixture().fit(X, sample_weight=1e305 * WEIGHT)
    assert_same(mixture().fit(chunked(), sample_weight=1e305 * WEIGHT), whole)


def test_lengths_of_chunks_may_be_unknown():
    some = chunked()[chunked()[:, 0] > 1e4 + 3]
    assert np.isnan(some.shape[0])
    rows = X[:, 0] > 1e4 + 3
    assert_same(mixture().fit(some), mixture().fit(X[rows]))
    weight = da.from_array(WEIGHT, chunks=((200, 0, 1, 699),))[chunked()[:, 0] > 1e4 + 3]
    whole = mixture().fit(X[rows], sample_weight=WEIGHT[rows])
    assert_same(mixture().fit(some, sample_weight=weight), whole)
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        mixture().fit(some, sample_weight=WEIGHT[rows])


def test_the_scheduler_does_not_matter_to_the_last_bit():
    with dask.config.set(scheduler="synchronous"):
        one = mixture().fit(chunked())
    with dask.config.set(scheduler="threads", num_workers=3):
        other = mixture().fit(chunked())
    np.testing.assert_array_equal(one.covariances_, other.covariances_)
    np.testing.assert_array_equal(one.lower_bounds_, other.lower_bounds_)


def test_a_bayesian_mixture_takes_dask_arrays():
    def fit(data):
        return VariationalEM(BayesianMixture(4), random_state=0, max_iter=10).fit(data)

    one, other = fit(X), fit(chunked())
    np.testing.assert_allclose(other.lower_bounds_, one.lower_bounds_, rtol=1e-10)
    assert other.score(chunked()) == pytest.approx(one.score(X), rel=1e-10)


def test_what_a_dask_array_must_be():
    with pytest.raises(ValueError, match=r"give X.rechunk\(\{1: -1\}\)"):
        mixture().fit(da.from_array(X, chunks=(300, 2)))
    with pytest.raises(ValueError, match="Expected 2D array"):
        mixture().fit(chunked()[:, 0])
    broken = X.copy()
    broken[201:, 2] = np.nan
    with pytest.raises(ValueError, match=r"contains NaN, first in row 201, column 2"):
        mixture().fit(da.from_array(broken, chunks=((200, 0, 1, 699), 3)))
    with pytest.raises(ValueError, match="chunks are empty"):
        mixture().fit(chunked()[:0])
    with pytest.raises(ValueError, match=r"sample_weight has shape \(9,\)"):
        mixture().fit(chunked(), sample_weight=WEIGHT[:9])
    with pytest.raises(ValueError, match="is negative"):
        mixture().fit(chunked(), sample_weight=-WEIGHT)


def test_answers_for_each_row_are_chunks_again():
    fit = mixture().fit(chunked())
    with pytest.raises(TypeError, match="map_blocks"):
        fit.score_samples(chunked())
    chunks = chunked((300, 600)).map_blocks(fit.score_samples, drop_axis=1, dtype=float)
    np.testing.assert_allclose(chunks.compute(), fit.score_samples(X))


# On a cluster.


@pytest.fixture(scope="module")
def cluster():
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_a_cluster_moves_sums_and_no_rows(cluster, monkeypatch):
    """What comes back from each pass does not grow with the number of rows."""
    rows = da.random.default_rng(0).standard_normal((100_000, 3), chunks=(12_500, 3)).persist()
    sizes = []
    fold = DaskTable.fold

    def watched(self, function):
        result = fold(self, function)
        sizes.append(len(pickle.dumps(function)) + len(pickle.dumps(result)))
        return result

    monkeypatch.setattr(DaskTable, "fold", watched)
    fit = mixture(max_iter=2).fit(rows)
    assert max(sizes) < 8 * 8192 * 6 < rows.nbytes / 5  # the sample on which the climb begins
    assert np.median(sizes) < 5_000
    whole = mixture(max_iter=2).fit(rows.compute())
    np.testing.assert_allclose(fit.lower_bounds_, whole.lower_bounds_, rtol=1e-10)


def test_a_worker_may_die_in_the_middle_of_a_fit(cluster, monkeypatch):
    rows = chunked((300, 300, 300)).persist()
    expected = mixture().fit(rows)
    folds = []
    fold = DaskTable.fold

    def fold_and_kill(self, function):
        folds.append(1)
        if len(folds) == 7:
            os.kill(next(iter(cluster.run(os.getpid).values())), signal.SIGKILL)
        return fold(self, function)

    monkeypatch.setattr(DaskTable, "fold", fold_and_kill)
    fit = mixture().fit(rows)
    assert len(folds) > 7
    np.testing.assert_array_equal(fit.lower_bounds_, expected.lower_bounds_)
    np.testing.assert_array_equal(fit.covariances_, expected.covariances_)
    assert_same(fit, mixture().fit(X))
