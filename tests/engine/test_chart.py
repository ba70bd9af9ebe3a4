"""Coordinates of mixtures: what they are the inverse of, measure, and do not see."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skemvae.core.chart import Chart, Point
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.rows import Frame
from skemvae.mixtures.bayesian_mixture import BayesianMixture, Parameters
from skemvae.mixtures.hyperprior import Hyperprior
from skemvae.mixtures.normal_wishart import NormalWishart
from skemvae.mixtures.weights import MIXING_WEIGHTS
from skemvae.structures.registry import STRUCTURES
from tests.strategies import ALL, conjugates, covariances, matrices, mixtures, seeds


def moved(mixture, seed, length):
    """The mixture that is so far away in its own chart, in a random direction within its family."""
    chart, rng = Chart(mixture), np.random.default_rng(seed)
    other = GaussianMixture(
        rng.dirichlet(np.full(len(mixture.weights), 5.0)),
        mixture.means + rng.standard_normal(mixture.means.shape),
        type(mixture.covariance)(mixture.covariance.values * np.exp(rng.standard_normal())),
        mixture.noise,
    )
    direction = chart.coordinates(other)
    return chart.model(length * direction / np.linalg.norm(direction))


def divergence(one, other):
    """KL of the joint densities of a row and its component, by its definition."""
    total = 0.0
    for k, weight in enumerate(one.weights):
        a, b = one.covariance.dense()[k], other.covariance.dense()[k]
        difference = one.means[k] - other.means[k]
        ratio = np.linalg.solve(b, a)
        total += weight * (
            np.log(weight / other.weights[k])
            + 0.5 * (np.trace(ratio) - len(a) - np.linalg.slogdet(ratio)[1])
            + 0.5 * difference @ np.linalg.solve(b, difference)
        )
    return total


@given(mixtures(), seeds, st.floats(0.01, 2))
def test_coordinates_and_mixtures_are_inverse_to_each_other(mixture, seed, length):
    chart, other = Chart(mixture), moved(mixture, seed, length)
    np.testing.assert_allclose(chart.coordinates(mixture), 0, atol=1e-12)
    again = chart.model(chart.coordinates(other))
    np.testing.assert_allclose(again.weights, other.weights, rtol=1e-9)
    np.testing.assert_allclose(again.means, other.means, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(again.covariance.values, other.covariance.values, rtol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(chart.coordinates(other)), length, rtol=1e-9)


@given(mixtures(structure=matrices), seeds)
def test_half_the_squared_length_is_a_divergence(mixture, seed):
    """The Fisher information of rows with their components is the identity at the origin."""
    length = 1e-3
    other = moved(mixture, seed, length)
    np.testing.assert_allclose(divergence(mixture, other), length**2 / 2, rtol=0.05)


@given(mixtures(), seeds, st.sampled_from([-3.0, 0.37, 1e-90, 1e90]))
def test_units_and_offsets_are_not_seen(mixture, seed, unit):
    d = mixture.means.shape[1]
    scale = np.full(d, abs(unit))
    if mixture.covariance.name != "spherical":
        scale = scale * np.linspace(1, 3, d)
    frame = Frame(2.5 * scale, scale)
    other = moved(mixture, seed, 0.5)
    np.testing.assert_allclose(
        Chart(mixture.out_of(frame)).coordinates(other.out_of(frame)),
        Chart(mixture).coordinates(other),
        rtol=1e-6,
        atol=1e-9,
    )


@given(covariances(structure=conjugates), seeds, st.sampled_from(sorted(MIXING_WEIGHTS)))
def test_a_posterior_is_a_point(covariance, seed, kind):
    """Those that counts, means and covariances of rows lead to."""
    rng = np.random.default_rng(seed)
    k, d = covariance.n_components, covariance.n_features
    structure, kind = type(covariance), MIXING_WEIGHTS[kind]
    prior = NormalWishart(
        np.zeros((k, d)), np.full(k, 0.7), np.full(k, d + 1.0), structure.identity(k, d)
    )
    weights = kind.prior(k, 0.5)
    count = 50 * rng.dirichlet(np.ones(k))
    means = rng.standard_normal((k, d))
    q = Parameters(weights.posterior(count), prior.moved(count, means, covariance))
    hyperprior = Hyperprior(prior, np.full(d, 1e-9), False, False)
    model = BayesianMixture(Parameters(weights, prior), q, hyperprior)
    chart = Chart(model)
    shifted = chart.model(chart.coordinates(model) + 1e-3)
    for again in (chart.model(chart.coordinates(model)), model.at(model.point)):
        np.testing.assert_allclose(again.divergence, model.divergence, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            again.q.components.mean_precision, q.components.mean_precision, rtol=1e-9
        )
    np.testing.assert_allclose(shifted.q.components.mean_precision.sum(), 50 + 0.7 * k, rtol=1e-9)


def test_a_posterior_holds_no_fewer_rows_than_none():
    prior = NormalWishart(
        np.zeros((2, 1)), np.ones(2), np.ones(2), STRUCTURES["diag"].identity(2, 1)
    )
    weights = MIXING_WEIGHTS["dirichlet_distribution"].prior(2, 0.5)
    q = Parameters(
        weights, replace(prior, mean_precision=np.array([1.0, 9.0]), dof=np.array([1.0, 9.0]))
    )
    hyperprior = Hyperprior(prior, np.full(1, 1e-9), False, False)
    model = BayesianMixture(Parameters(weights, prior), q, hyperprior)
    lighter = model.at(Point(np.array([0.1, 9.9]), prior.mean, prior.covariance))
    np.testing.assert_allclose(lighter.q.components.mean_precision, [1, 9])


@pytest.mark.parametrize("structure", ALL)
@pytest.mark.parametrize("far", [1e4, -1e4, np.nan])
def test_there_is_nothing_where_floating_point_does_not_reach(structure, far):
    mixture = GaussianMixture(
        np.full(2, 0.5), np.zeros((2, 2)), STRUCTURES[structure].identity(2, 2), np.zeros(2)
    )
    chart = Chart(mixture)
    assert chart.model(np.full_like(chart.coordinates(mixture), far)) is None
