"""Fewer rows than covariances need: what stands in for them, and what is said of it."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV

from skemvae import DoubtfulFitWarning, EMGaussianMixture
from tests.laws import costly
from tests.strategies import matrices, seeds

SEEDS = range(3)


def blobs(seed, n, d, k, distance):
    """Rows of k spherical clusters that lie so far from each other, and as many new ones."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=2 * n)
    centres = distance * rng.standard_normal((k, d)) / np.sqrt(2 * d)
    X = centres[labels] + rng.standard_normal((2 * n, d))
    return X[:n], labels[:n], X[n:], labels[n:]


def missing(n, d, k, structure):
    needed = {"full": n / k - 1, "tied": n - k}.get(structure, np.inf) if d > 1 else np.inf
    return max(0.0, 1 - needed / d)


def fit(X, k, sample_weight=None, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = EMGaussianMixture(k, random_state=0, **parameters)
        return mixture.fit(X, sample_weight=sample_weight)


@costly(4)
@given(seeds, st.integers(2, 40), st.integers(1, 9), st.integers(1, 3), matrices)
def test_what_stands_in_is_the_part_that_is_missing(seed, n, d, k, structure):
    X = np.random.default_rng(seed).normal(size=(max(n, k), d))
    share = max(1e-6, missing(len(X), d, k, structure))
    once, twice = (fit(rows, k, covariance_type=structure) for rows in (X, np.tile(X, (2, 1))))
    assert once.reg_covar_ == pytest.approx(share)
    assert twice.reg_covar_ == once.reg_covar_
    by_hand = fit_without_doubt(X, k, covariance_type=structure, reg_covar=share)
    np.testing.assert_allclose(by_hand.covariances_, once.covariances_, rtol=1e-9)


def fit_without_doubt(X, k, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DoubtfulFitWarning)
        return fit(X, k, **parameters)


@pytest.mark.parametrize("structure", ["full", "tied"])
@pytest.mark.parametrize("n", [5, 12, 20, 30])
def test_the_bound_climbs_on_few_rows(structure, n):
    X = np.random.default_rng(0).normal(size=(n, 12))
    plain = {"acceleration": None, "tol": 0, "init_params": "random"}
    mixture = fit(X, 2, covariance_type=structure, **plain)
    assert np.diff(mixture.lower_bounds_).min() > -1e-10


@pytest.mark.parametrize("seed", SEEDS)
def test_sixty_rows_of_fifty_columns_are_divided_well(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 60)
    X = rng.normal(size=(60, 50))
    X[:, :12] += 2 * labels[:, None]
    mixture = fit_without_doubt(X, 2)
    assert adjusted_rand_score(labels, mixture.predict(X)) > 0.9


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("n", "d", "k", "distance"),
    [(60, 50, 2, 8), (60, 50, 3, 12), (100, 200, 2, 12), (40, 30, 2, 9)],
)
def test_few_rows_are_clusters_and_a_density(n, d, k, distance, seed):
    X, labels, new, new_labels = blobs(seed, n, d, k, distance)
    mixture = fit_without_doubt(X, k)
    assert adjusted_rand_score(labels, mixture.predict(X)) > 0.9
    assert adjusted_rand_score(new_labels, mixture.predict(new)) > 0.8
    # The truth has -d log(2 pi e) / 2.
    assert mixture.score(new) > -1.3 * d * np.log(2 * np.pi * np.e) / 2


@pytest.mark.parametrize(("n", "d", "k"), [(1000, 100, 5), (400, 273, 10)])
def test_clusters_are_found_beneath_factors_that_vary_more(n, d, k):
    """Ten directions tell little of the clusters, and all of them drown these in noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, k, n)
    factors = rng.standard_normal((n, 10)) @ rng.normal(0, 0.5, (10, d))
    X = rng.normal(0, 0.7, (k, d))[labels] + factors + rng.standard_normal((n, d))
    assert adjusted_rand_score(labels, fit_without_doubt(X, k).predict(X)) > 0.9


def test_the_race_in_few_directions_sees_neither_units_nor_signs_nor_repetition():
    X, *_ = blobs(0, 90, 70, 3, 9)
    mixture = fit_without_doubt(X, 3)
    units = np.resize([2.0**40, -(2.0**-30), -1.0], 70)
    changed = fit_without_doubt(units * X, 3)
    np.testing.assert_allclose(changed.means_, units * mixture.means_, rtol=1e-9, atol=1e-12)
    repeated = fit_without_doubt(np.repeat(X, 3, axis=0)[::-1], 3)
    np.testing.assert_allclose(repeated.means_, mixture.means_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("structure", ["full", "tied"])
def test_a_number_is_taken_as_it_is_and_doubted(structure):
    X, *_ = blobs(0, 30, 40, 2, 9)
    with pytest.warns(DoubtfulFitWarning, match=r"30 rows .* reg_covar=1e-06 alone"):
        mixture = fit(X, 2, covariance_type=structure, reg_covar=1e-6)
    assert mixture.reg_covar_ == 1e-6
    fit_without_doubt(X, 2, covariance_type="diag", reg_covar=1e-6)


def test_rows_that_come_in_batches_are_missing_no_more():
    X, *_ = blobs(0, 400, 20, 2, 9)
    mixture = EMGaussianMixture(2, random_state=0)
    shares = [mixture.partial_fit(rows).reg_covar_ for rows in np.split(X[:80], 8)]
    expected = [max(1e-6, missing(n, 20, 2, "full")) for n in range(10, 90, 10)]
    np.testing.assert_allclose(shares, expected)


@pytest.mark.filterwarnings("ignore::skemvae.DoubtfulFitWarning")  # flags are no densities
@pytest.mark.parametrize("n_times", [1, 2, 3])
def test_rows_that_recur_are_not_missing(n_times):
    """Two flags have four distinct rows, which six hundred customers determine well."""
    flags = np.random.default_rng(0).random((600, 2)) < [0.3, 0.2]
    X = np.tile(flags.astype(float), (n_times, 1))
    rows, counts = np.unique(X, axis=0, return_counts=True)
    assert len(rows) == 4
    for mixture in (fit(X, 2), fit(rows, 2, sample_weight=counts)):
        assert mixture.reg_covar_ == 1e-6


def test_searches_and_clones_take_numbers_and_auto():
    X, *_ = blobs(0, 60, 10, 2, 9)
    search = GridSearchCV(
        EMGaussianMixture(2, random_state=0), {"reg_covar": ["auto", 1e-6, 0.1]}, cv=3
    )
    search.fit(X)
    assert clone(search.best_estimator_).reg_covar == search.best_params_["reg_covar"]
    for wrong in ("little", None, -1.0, np.nan):
        with pytest.raises((TypeError, ValueError), match="reg_covar"):
            EMGaussianMixture(2, reg_covar=wrong).fit(X)
