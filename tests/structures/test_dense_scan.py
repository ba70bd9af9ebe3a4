"""Dense covariances of many features: slabs, one scatter for all, and products in float32."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.rows import Frame, Rows
from skemvae.core.workspace import Workspace
from skemvae.engine.passes.numpy_pass import ScannedPass
from skemvae.structures.dense_scan import (
    DifferenceScan,
    SingleScan,
    TiedScan,
    UnitScan,
    WhitenedScan,
)
from skemvae.structures.registry import STRUCTURES
from tests.passes import em_on, expectation
from tests.pooling import assert_same_expectation

SIZES = [1, 23, 24, 47, 48, 51, 100, 131]


def overlapping(structure, k, d, n, seed=0, condition=10.0):
    """A mixture whose components overlap, and rows of it."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((k, d, d)) / np.sqrt(d) * condition ** rng.uniform(0, 0.5, d)
    dense = factor @ factor.transpose(0, 2, 1) + np.eye(d)
    public = {"full": dense, "tied": dense[0]}[structure]
    covariance = STRUCTURES[structure].from_public(public, k, d)
    means = 2 * rng.standard_normal((k, d)) / np.sqrt(d)
    mixture = GaussianMixture(rng.dirichlet(np.full(k, 5.0)), means, covariance, np.zeros(d))
    return mixture, mixture.sample(n, rng)[0]


def by_blas(log_normaliser, scan, second_scan, rows):
    return ScannedPass(log_normaliser, scan, second_scan)


def by_single(log_normaliser, scan, second_scan, rows):
    single = scan.single()
    return ScannedPass(log_normaliser, single, single)


@pytest.mark.parametrize("structure", ["full", "tied"])
@pytest.mark.parametrize("d", SIZES)
def test_every_number_of_features_has_the_moments_of_differences(structure, d):
    mixture, X = overlapping(structure, 3, d, 700)
    rows = Rows(X, None, Frame.identity(d))
    scan = mixture.scan()
    assert isinstance(scan, {"full": WhitenedScan, "tied": TiedScan}[structure])
    exact = DifferenceScan(scan.means, scan.cholesky, scan.precision_cholesky)

    def by_differences(log_normaliser, scan, second_scan, rows):
        return ScannedPass(log_normaliser, exact, exact)

    expected = expectation(mixture, rows, by_differences)
    assert_same_expectation(mixture, expectation(mixture, rows, by_blas), expected, 1e-11)


@pytest.mark.parametrize("n", [1, 40, 66])
def test_few_rows_of_many_features_have_the_moments_of_whitened_ones(n):
    mixture, X = overlapping("full", 3, 66, n)
    rows = Rows(X, np.random.default_rng(1).gamma(2.0, size=n), Frame.identity(66))
    scan = mixture.scan()
    assert isinstance(scan.second_scan(n), UnitScan)
    assert scan.second_scan(67) is scan
    found, expected = expectation(mixture, rows), expectation(mixture, rows, by_blas)
    assert_same_expectation(mixture, found, expected, 1e-11)


@pytest.mark.parametrize("d", SIZES)
def test_residuals_are_those_of_the_regression_on_all_others(d):
    mixture, X = overlapping("full", 2, d, 5)
    scan, z = mixture.scan(), Frame.identity(d).apply(X, Workspace())
    log_given = scan.log_conditionals(scan.features(z, Workspace()))
    j, precision = d // 2, np.linalg.inv(mixture.covariance.values[1])
    others = np.arange(d) != j
    mean = (
        mixture.means[1, j]
        - precision[j, others] / precision[j, j] @ (X[:, others] - mixture.means[1, others]).T
    )
    expected = -0.5 * ((X[:, j] - mean) ** 2 * precision[j, j] - np.log(precision[j, j]))
    np.testing.assert_allclose(log_given[1, j], expected - 0.5 * np.log(2 * np.pi), rtol=1e-8)


def test_the_tied_square_is_left_where_it_would_cancel():
    unit = STRUCTURES["tied"].identity(2, 4)
    assert isinstance(unit.scan(np.full((2, 4), TiedScan.LIMIT / 2)), TiedScan)
    assert not isinstance(unit.scan(np.full((2, 4), 0.51 * TiedScan.LIMIT)), TiedScan)


@pytest.mark.parametrize("d", [40, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_float32_agrees_to_a_millionth(d, weighted):
    mixture, X = overlapping("full", 4, d, 4000)
    weight = np.random.default_rng(1).gamma(2.0, size=len(X)) if weighted else None
    rows = Rows(X.astype(np.float32), weight, Frame(X.mean(0), np.full(d, 2.0)))
    mixture = mixture.into(rows.frame)
    single = expectation(mixture, rows, by_single)
    double = expectation(mixture, rows, by_blas)
    np.testing.assert_allclose(single.evidence, double.evidence, rtol=1e-6)
    assert_same_expectation(mixture, replace(single, evidence=0), replace(double, evidence=0), 1e-5)


def test_the_bound_of_float32_is_that_of_a_rounded_model():
    """Its distances and its determinant belong together: what is left averages out."""
    mixture, X = overlapping("full", 3, 64, 20_000)
    rows = Rows(X.astype(np.float32), None, Frame.identity(64))
    single, double = (expectation(mixture, rows, way).bound for way in (by_single, by_blas))
    state = em_on(rows, by_blas).start(mixture)
    for _ in range(30):  # towards a maximum, where what is of first order vanishes
        state = em_on(rows, by_blas).step(state)
    at_maximum = expectation(state.model, rows, by_single).bound
    assert abs(single - double) < 1e-6 * abs(double)
    assert abs(at_maximum - state.bound) < 5e-9 * abs(state.bound)


@pytest.mark.parametrize("condition", [10.0, 200.0])
def test_no_iteration_in_float32_lowers_the_objective(condition):
    mixture, X = overlapping("full", 4, 96, 3000, condition=condition)
    em = em_on(Rows(X.astype(np.float32), None, Frame.identity(96)), by_single)
    states = [em.start(mixture)]
    for _ in range(60):
        states.append(em.step(states[-1]))
    assert states[-1].model.scan().single() is not None
    bounds = [state.bound for state in states]
    assert np.diff(bounds).min() >= -1e-9 * np.abs(bounds).max()


def test_float32_is_left_where_it_would_not_do():
    k, d = 2, 64
    unit = STRUCTURES["full"].identity(k, d)
    near = np.ones((k, d))
    assert isinstance(unit.scan(near).single(), SingleScan)
    assert unit.scan(100 * near).single() is None  # far from the origin
    narrow = type(unit)(np.diag(np.r_[1e-6, np.ones(d - 1)]) * np.ones((k, 1, 1)))
    assert narrow.scan(near).single() is None  # ill-conditioned
    assert STRUCTURES["full"].identity(k, 8).scan(np.ones((k, 8))).single() is None  # not worth it
    assert STRUCTURES["diag"].identity(k, d).scan(near).single() is None


def test_rows_beyond_float32_have_a_density_still():
    mixture, X = overlapping("full", 2, 40, 100)
    X[0] = 1e30
    weight = np.r_[1e-40, np.ones(99)]
    result = expectation(mixture, Rows(X.astype(np.float32), weight, Frame.identity(40)), by_single)
    assert np.isfinite(result.evidence)
    expected = np.log(
        sum(
            w * multivariate_normal(m, c).pdf(X[1:])
            for w, m, c in zip(
                mixture.weights, mixture.means, mixture.covariance.values, strict=True
            )
        )
    )
    np.testing.assert_allclose(result.evidence, expected.sum(), rtol=1e-5)
