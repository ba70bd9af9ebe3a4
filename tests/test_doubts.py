"""Fits that succeed, and whose densities or components do not mean what they seem to."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skemvae import DoubtfulFitWarning, EMGaussianMixture, VariationalEM, from_batches
from skemvae.models import BayesianMixture
from tests.strategies import seeds


def em(k, covariance_type="full", **parameters):
    return EMGaussianMixture(k, covariance_type=covariance_type, random_state=0, **parameters)


def bayes(k, covariance_type="full", **parameters):
    return VariationalEM(BayesianMixture(k, covariance_type, **parameters), random_state=0)


def doubts(estimator, X, **given):
    """What is said of a fit, by where it is said; nothing else is."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DoubtfulFitWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X, **given)
    assert all(one.filename == __file__ for one in caught)
    return [str(one.message) for one in caught]


def counts(n=300):
    return np.random.default_rng(0).poisson(3, (n, 1)).astype(float)


def one_hot(n=500):
    """Two columns of numbers, one in other units, and a set of labels as ones and zeros."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, n))
    labels = np.eye(3)[rng.integers(0, 3, n)]
    columns = {"a": a, "b": b, **{f"is {j}": labels[:, j] for j in range(3)}, "c": 2.54 * a + 1}
    return pd.DataFrame(columns)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
@pytest.mark.parametrize(("make", "bound"), [(em, "reg_covar"), (bayes, "covariance_prior")])
@pytest.mark.parametrize("k", [1, 3])
def test_columns_that_determine_each_other_are_named(make, bound, covariance_type, k):
    X = one_hot()
    said, *_ = doubts(make(k, covariance_type), X)
    assert "linearly: (a, c), (is 0, is 1, is 2)." in said
    assert bound in said
    assert not doubts(make(k, covariance_type), X[["a", "b"]])
    assert not doubts(make(1, covariance_type), X[["a", "b", "is 0", "is 1"]])


@given(seeds, st.integers(3, 6), st.sampled_from([1, 2]), st.sampled_from([0.0, 1e-6, 1e-2]))
def test_a_sum_of_columns_is_found_and_a_correlation_is_not(seed, d, k, reg_covar):
    """Whatever the units; EM's extrapolation leaves no trace of its own."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((120, d)) + 3 * rng.standard_normal((k, d))[rng.integers(k, size=120)]
    X = X * 10.0 ** rng.integers(-6, 7, d)
    weights = rng.uniform(0.5, 1, d - 1) / X[:, :-1].std(0)
    dependent = X[:, :-1] @ weights
    mixture = em(k, reg_covar=reg_covar, max_iter=10)
    said = doubts(mixture, np.c_[X[:, :-1], dependent * 1e3])
    assert re.search(rf"linearly: \({', '.join(map(str, range(min(d, 5))))}", "".join(said))
    noisy = dependent + 0.02 * dependent.std() * rng.standard_normal(120)
    assert not doubts(mixture, np.c_[X[:, :-1], noisy])


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_components_on_repeated_values_are_named(covariance_type):
    is_tied = covariance_type == "tied"  # there all components collapse, or none
    X = np.minimum(counts(), 4) if is_tied else counts()
    (said,) = doubts(em(5, covariance_type), X)
    assert "collapsed in columns (0)" in said
    assert re.search(r"that are repeated \((\d, )*\d\)", said)
    assert "reg_covar alone" in said


def test_known_case_of_counts():
    mixture = em(5)
    (said,) = doubts(mixture, counts())
    collapsed = np.flatnonzero(mixture.covariances_[:, 0, 0] < 1e-5)
    assert f"Components ({', '.join(map(str, collapsed))}) have collapsed" in said
    assert f"({', '.join(f'{x:.0f}' for x in sorted(mixture.means_[collapsed, 0]))})" in said


def test_a_bayesian_mixture_is_told_of_repeated_values_too():
    said = doubts(bayes(10), counts())
    assert any("collapsed in columns (0)" in one and "covariance_prior" in one for one in said)


def test_counts_and_labels_under_one_component_are_no_doubt():
    assert not doubts(em(1), counts())


@pytest.mark.parametrize("load", [load_iris, load_wine])
@pytest.mark.parametrize(
    "estimator", [em(1), em(4), em(4, reg_covar=1e-2), em(4, "tied"), em(4, "diag"), bayes(10)]
)
def test_tables_of_measurements_are_beyond_doubt(load, estimator):
    assert not doubts(estimator, load().data)


@given(seeds, st.sampled_from([1, 2, 5]), st.sampled_from(["full", "tied", "diag", "spherical"]))
def test_continuous_rows_are_beyond_doubt(seed, k, covariance_type):
    """Constant columns, offsets, heavy tails and few rows as well."""
    rng = np.random.default_rng(seed)
    n, d = rng.integers(8, 200), rng.integers(1, 6)
    X = rng.standard_t(rng.choice([1.5, 30]), (n, d)) * 10.0 ** rng.integers(-3, 4, d)
    X += 1e5 * rng.standard_normal(d)
    X[:, rng.integers(d)] = rng.choice([0.0, 7.0])
    assert not doubts(em(k, covariance_type), X)


def test_rows_that_are_read_in_parts_are_looked_at_too():
    X = one_hot()
    parts = from_batches([X[:200], X[200:]])
    assert doubts(em(2), parts) == doubts(em(2), X) != []


def test_weights_leave_out_rows():
    X = np.r_[counts(), np.random.default_rng(0).normal(50, 5, (300, 1))]
    weight = np.repeat([0.0, 1.0], 300)
    assert doubts(em(5), X, sample_weight=1 - weight)
    assert not doubts(em(5), X, sample_weight=weight)


def test_a_pipeline_with_one_hot_columns_and_a_search_say_so():
    X = np.random.default_rng(0).choice(["red", "green", "blue"], (200, 1))
    pipeline = make_pipeline(OneHotEncoder(sparse_output=False), em(1))
    with pytest.warns(DoubtfulFitWarning, match=r"\(0, 1, 2\)"):
        pipeline.fit(X)
    with pytest.warns(DoubtfulFitWarning) as caught:
        GridSearchCV(em(1), {"reg_covar": [1e-6, 1e-3]}, cv=2).fit(one_hot())
    assert len(caught) == 5
    scaled = make_pipeline(StandardScaler(), em(1))
    with pytest.warns(DoubtfulFitWarning, match=r"\(0, 5\), \(2, 3, 4\)"):
        scaled.fit(one_hot())


def test_many_names_are_not_all_said():
    X = np.eye(30)[np.random.default_rng(0).integers(0, 30, 3000)]
    (said,) = doubts(em(1), X)
    assert "(0, 1, 2, 3, 4, and 25 more)" in said
    assert len(said) < 500


# Components at their ceiling.


def segments(n_segments, n=200):
    rng = np.random.default_rng(0)
    centres = 20 * rng.standard_normal((n_segments, 2))
    return np.concatenate([centre + rng.standard_normal((n, 2)) for centre in centres])


def test_a_bayesian_mixture_whose_components_are_all_in_use_says_so():
    X = segments(6)
    estimator = bayes(5)
    (said,) = doubts(estimator, X)
    assert estimator.model_.n_active_components_ == 5
    assert "All n_components=5" in said
    assert "score" in said
    assert "icl" in said
    assert not doubts(bayes(10), X)  # some stay empty
    assert not doubts(bayes(4), X)  # few are chosen on purpose
    assert not doubts(em(5), X)
