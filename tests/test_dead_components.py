"""Components that no row belongs to: they are given rows again where that is better, or named."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from skemvae import DoubtfulFitWarning, EMGaussianMixture
from tests.laws import costly
from tests.strategies import seeds, structures

SEEDS = range(3)
CENTRES = np.array([[0.0, 0.0], [7.0, 0.0], [0.0, 7.0]])


def blobs(seed, centres, n=200):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(centres)), n)
    return rng.normal(size=(len(labels), 2)) + centres[labels], labels


def fit(X, mixture):
    """Without a doubt."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(X)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("moved", [[True, True, True], [False, False, True]])
@pytest.mark.parametrize("structure", ["full", "tied", "diag"])
def test_a_warm_start_finds_clusters_that_have_moved(structure, moved, seed):
    before, _ = blobs(seed, CENTRES)
    after, labels = blobs(seed + 10, CENTRES + 40 * np.array(moved)[:, None])
    mixture = EMGaussianMixture(3, covariance_type=structure, warm_start=True, random_state=0)
    fit(after, fit(before, mixture))
    assert adjusted_rand_score(labels, mixture.predict(after)) > 0.9
    anew = fit(after, EMGaussianMixture(3, covariance_type=structure, random_state=0))
    assert mixture.lower_bound_ > anew.lower_bound_ - 0.01


@costly(4)
@given(seeds, structures, st.sampled_from(["auto", None]))
def test_the_bound_does_not_fall_when_a_component_comes_back(seed, structure, acceleration):
    X, labels = blobs(seed, CENTRES, 60)
    mixture = EMGaussianMixture(
        3,
        covariance_type=structure,
        acceleration=acceleration,
        means_init=[[0, 0], [3, 3], [1e4, 1e4]],
        random_state=0,
    )
    assert mixture.fit(X).weights_.min() > 0.2
    assert np.diff(mixture.lower_bounds_).min() > -1e-10
    assert adjusted_rand_score(labels, mixture.predict(X)) > 0.9


def test_a_weight_of_0_comes_back_where_it_is_of_use():
    X, _ = blobs(0, CENTRES)
    mixture = EMGaussianMixture(3, weights_init=[0.0, 0.5, 0.5], random_state=0)
    assert fit(X, mixture).weights_.min() > 0.3


def test_two_that_are_dead_come_back_together():
    X, labels = blobs(0, CENTRES)
    mixture = EMGaussianMixture(3, means_init=[[1, 1], [1e4, 0], [1e4, 1e4]], random_state=0)
    assert adjusted_rand_score(labels, fit(X, mixture).predict(X)) > 0.9


def test_weights_of_rows_have_no_scale():
    X, _ = blobs(0, CENTRES)
    ends = []
    for scale in (1e-9, 1.0, 1e9):
        mixture = EMGaussianMixture(3, weights_init=[0.0, 0.5, 0.5], random_state=0)
        ends.append(mixture.fit(X, sample_weight=np.full(len(X), scale)).lower_bound_)
    np.testing.assert_allclose(ends, ends[0], rtol=1e-9)


def test_a_component_without_use_stays_dead_and_is_named():
    X = np.random.default_rng(0).normal(size=(4000, 1))
    mixture = EMGaussianMixture(2, weights_init=[1.0, 0.0], means_init=[[0.0], [9.0]], tol=0.1)
    with pytest.warns(DoubtfulFitWarning, match=r"Components \(1\) hold no rows"):
        mixture.fit(X)
    assert mixture.weights_[1] == 0
    assert set(mixture.predict(X)) == {0}


def test_a_fit_that_ends_early_names_the_dead():
    X, _ = blobs(0, CENTRES)
    mixture = EMGaussianMixture(3, means_init=[[0, 0], [1e4, 0], [1e4, 1e4]], max_iter=2)
    with (
        pytest.warns(DoubtfulFitWarning, match=r"Components \(1, 2\) hold no rows"),
        pytest.warns(ConvergenceWarning),
    ):
        mixture.fit(X)
