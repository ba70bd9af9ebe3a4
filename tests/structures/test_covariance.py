"""Every structure agrees with scipy's normal distribution through ``dense()``."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from skemvae.core.moments import Moments
from skemvae.core.rows import Frame
from skemvae.core.workspace import Workspace
from skemvae.structures.axis_scan import AxisScan, ExpandedScan
from skemvae.structures.registry import STRUCTURES
from tests.strategies import MATRICES, covariances, matrices, seeds


def block(X):
    """Rows as a scan takes them."""
    return Frame.identity(X.shape[1]).apply(X, Workspace())


def test_the_registry_names_each_structure_by_its_own_name():
    assert {name: cls.name for name, cls in STRUCTURES.items()} == {
        name: name for name in ("full", "tied", "diag", "spherical", "factor_analytic")
    }


@given(covariances(), seeds)
def test_distances_and_determinants_make_the_normal_density(covariance, seed):
    rng = np.random.default_rng(seed)
    k, d = covariance.n_components, covariance.n_features
    means, X = rng.standard_normal((k, d)), 3 * rng.standard_normal((7, d))
    scan, work = covariance.scan(means), Workspace()
    distances = scan.squared_distances(scan.features(block(X), work), work)
    for i in range(k):
        expected = multivariate_normal(means[i], covariance.dense()[i]).logpdf(X)
        actual = -0.5 * (d * np.log(2 * np.pi) + covariance.log_det[i] + distances[i])
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


@given(covariances(structure=matrices))
def test_factors_and_precisions_invert_the_covariances(covariance):
    dense, d = covariance.dense(), covariance.n_features
    cls = type(covariance)
    precisions = cls(covariance.precisions).dense()
    np.testing.assert_allclose(
        precisions @ dense, np.broadcast_to(np.eye(d), dense.shape), atol=1e-8
    )
    squared = covariance.precision_cholesky
    squared = squared @ squared.transpose(0, 2, 1) if squared.ndim == 3 else squared**2
    np.testing.assert_allclose(squared, covariance.precisions, rtol=1e-8, atol=1e-10)
    noise = np.arange(1.0, d + 1)
    expected = [np.trace(np.diag(noise) @ one) for one in precisions]
    np.testing.assert_allclose(covariance.trace_precision(noise), expected, rtol=1e-8)


@given(covariances(structure=matrices), seeds)
def test_second_moments_are_the_weighted_scatter(covariance, seed):
    """As far as the structure tells components and features apart."""
    rng = np.random.default_rng(seed)
    k, d = covariance.n_components, covariance.n_features
    means, X = rng.standard_normal((k, d)), 3 * rng.standard_normal((40, d))
    r = rng.dirichlet(np.ones(k), 40)
    scan, work, z = covariance.scan(means), Workspace(), block(X)
    second = scan.second(scan.features(z, work), np.ascontiguousarray(r.T), work)
    moments = scan.moments(r.sum(0), r.T @ X, second)
    differences = X[:, None, :] - (r.T @ X) / r.sum(0)[:, None]
    expected = np.einsum("nk,nki,nkj->kij", r, differences, differences)
    if moments.second.ndim == 2:
        expected = np.diagonal(expected, axis1=1, axis2=2)
    count = r.sum(0)
    expected = covariance.pool(expected / count.reshape(-1, *[1] * (expected.ndim - 1)), count)
    np.testing.assert_allclose(moments.means, (r.T @ X) / count[:, None], rtol=1e-8, atol=1e-9)
    actual = covariance.pool(moments.covariances, count)
    np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-8)
    if covariance.name in ("tied", "spherical"):
        np.testing.assert_allclose(moments.covariances, actual, rtol=1e-8, atol=1e-8)


@given(covariances(structure=st.sampled_from(["diag", "spherical"])), seeds)
def test_the_expanded_square_equals_the_differences(covariance, seed):
    rng = np.random.default_rng(seed)
    means = 100 * rng.standard_normal((covariance.n_components, covariance.n_features))
    z = block(means[0] + rng.standard_normal((9, covariance.n_features)))
    distances = []
    for cls in (AxisScan, ExpandedScan):
        scan, work = cls(means, covariance.values), Workspace()
        distances.append(scan.squared_distances(scan.features(z, work), work))
    np.testing.assert_allclose(*distances, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("structure", ["diag", "spherical"])
def test_the_expanded_square_is_left_where_it_would_cancel(structure):
    cls = STRUCTURES[structure]
    unit = cls.identity(2, 3)
    assert isinstance(unit.scan(np.full((2, 3), ExpandedScan.LIMIT)), ExpandedScan)
    assert not isinstance(unit.scan(np.full((2, 3), 1.01 * ExpandedScan.LIMIT)), ExpandedScan)


@given(matrices, seeds, st.floats(0, 0.5))
@example("spherical", 86, 0.5)
def test_maximise_is_a_stationary_maximum(structure, seed, epsilon):
    """Any other covariance of the structure has a lower expected regularised log likelihood."""
    rng = np.random.default_rng(seed)
    cls, k, d = STRUCTURES[structure], 3, 3
    X, r = rng.standard_normal((60, d)) * [1, 2, 3], rng.dirichlet(np.ones(3), 60)
    noise = epsilon * rng.uniform(size=d) + 1e-8
    means = (r.T @ X) / r.sum(0)[:, None]
    differences = X[:, None, :] - means
    scatter = np.einsum("nk,nki,nkj->kij", r, differences, differences)
    second = scatter if structure in ("full", "tied") else np.diagonal(scatter, axis1=1, axis2=2)
    moments = Moments(r.sum(0), means, np.zeros((k, d)), second)
    best = cls.identity(k, d).maximise(moments, noise)

    def objective(covariance):
        precisions = np.linalg.inv(covariance.dense())
        traces = np.einsum("kij,kji->k", precisions, scatter)
        penalty = r.sum(0) * covariance.trace_precision(noise)
        return -0.5 * (r.sum(0) @ covariance.log_det + (traces + penalty).sum())

    def moved(step):
        public = best.public(best.values)
        return cls.from_public(public + step, k, d)

    value = objective(best)
    direction = rng.standard_normal(best.public(best.values).shape)
    if structure in ("full", "tied"):
        direction = direction + np.swapaxes(direction, -1, -2)
    h = 1e-4 * np.diagonal(best.dense(), axis1=1, axis2=2).min()
    up, down = objective(moved(h * direction)), objective(moved(-h * direction))
    slope, curvature = (up - down) / (2 * h), (up + down - 2 * value) / h**2
    assert curvature < 0
    # The slope vanishes against the slope that a step of one unit would have.
    assert abs(slope) <= 1e-5 * abs(curvature)
    np.testing.assert_array_less([up, down], value + 1e-10 * abs(value))


@pytest.mark.parametrize("structure", MATRICES)
def test_an_empty_component_keeps_its_covariance(structure):
    cls, rng = STRUCTURES[structure], np.random.default_rng(0)
    X = rng.standard_normal((50, 2))
    second = np.stack([np.zeros((2, 2)), X.T @ X])
    second = second if structure in ("full", "tied") else np.diagonal(second, axis1=1, axis2=2)
    moments = Moments(np.array([0.0, 50.0]), np.zeros((2, 2)), np.zeros((2, 2)), second)
    previous = cls.from_public(7 * cls.identity(2, 2).public(cls.identity(2, 2).values), 2, 2)
    new = previous.maximise(moments, np.full(2, 1e-6))
    if structure == "tied":  # shared: what is left of the table decides
        np.testing.assert_allclose(new.dense()[0], X.T @ X / 50, atol=1e-5)
    else:
        np.testing.assert_allclose(new.dense()[0], 7 * np.eye(2))


@pytest.mark.parametrize("structure", ["full", "tied"])
def test_a_singular_scatter_gives_a_usable_covariance(structure):
    cls, X = STRUCTURES[structure], np.outer(np.arange(5.0) - 2, [1.0, 2.0])
    moments = Moments(np.array([5.0]), np.zeros((1, 2)), np.zeros((1, 2)), (X.T @ X)[None])
    new = cls.identity(1, 2).maximise(moments, np.full(2, 1e-30))
    assert np.isfinite(new.log_det).all()
    np.testing.assert_allclose(new.dense()[0], X.T @ X / 5, rtol=1e-8)


@given(covariances(), seeds)
def test_samples_have_the_covariance(covariance, seed):
    rng = np.random.default_rng(seed)
    n, k = 20_000, covariance.n_components - 1
    draws = covariance.draw(np.full(n, k), rng)
    deviation = np.linalg.solve(np.linalg.cholesky(covariance.dense()[k]), draws.T)
    np.testing.assert_allclose(deviation @ deviation.T / n, np.eye(len(deviation)), atol=0.08)


@given(covariances(), seeds)
def test_scaled_marginal_and_conditional_are_those_of_the_dense_matrix(covariance, seed):
    rng = np.random.default_rng(seed)
    dense, d = covariance.dense(), covariance.n_features
    scale = np.full(d, 2.5) if covariance.name == "spherical" else rng.uniform(0.1, 9, d)
    np.testing.assert_allclose(covariance.scaled(scale).dense(), scale[:, None] * dense * scale)
    order = rng.permutation(d)
    cut = rng.integers(1, d) if d > 1 else 1
    free, given_ = order[:cut], order[cut:]
    np.testing.assert_allclose(covariance.marginal(free).dense(), dense[:, free[:, None], free])
    if len(given_):
        gain, conditional = covariance.condition(free, given_)
        cross, known = dense[:, free[:, None], given_], dense[:, given_[:, None], given_]
        expected_gain = cross @ np.linalg.inv(known)
        np.testing.assert_allclose(gain, expected_gain, rtol=1e-6, atol=1e-8)
        expected = dense[:, free[:, None], free] - expected_gain @ cross.transpose(0, 2, 1)
        np.testing.assert_allclose(conditional.dense(), expected, rtol=1e-6, atol=1e-8)


@given(covariances(structure=matrices))
def test_public_layout_round_trips(covariance):
    cls, k, d = type(covariance), covariance.n_components, covariance.n_features
    public = covariance.public(covariance.values)
    assert public.shape == cls.public_shape(k, d)
    np.testing.assert_array_equal(cls.from_public(public, k, d).values, covariance.values)
    assert (
        covariance.n_parameters
        == {
            "full": k * d * (d + 1) // 2,
            "tied": d * (d + 1) // 2,
            "diag": k * d,
            "spherical": k,
        }[cls.name]
    )
