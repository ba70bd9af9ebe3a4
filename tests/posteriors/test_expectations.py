"""Expectations under a normal q, their derivatives, and the ascents that follow them."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from torch import nn

from skemvae.likelihoods import Bernoulli, Gaussian, StudentT
from skemvae.likelihoods.columns import Table
from skemvae.likelihoods.quadrature import gauss_hermite
from skemvae.posteriors.ascent import climb, diagonal, full
from skemvae.posteriors.expectations import (
    Linear,
    Points,
    by_nodes,
    standard_normal,
)
from skemvae.posteriors.gaussians import FullGaussian
from skemvae.posteriors.importance import matched_noise
from skemvae.variational.factor_bound import LogJoint, expected_values, scores
from skemvae.variational.factor_parameters import Block, Factors
from skemvae.variational.maximise import maximise
from tests.laws import costly
from tests.likelihoods.test_heads import HEADS, drawn, rows
from tests.posteriors.test_full_gaussian import drawn as drawn_q
from tests.posteriors.test_full_gaussian import normal
from tests.strategies import seeds

SEPARABLE = sorted(kind for kind, head in HEADS.items() if head().separable)


@pytest.fixture(autouse=True)
def one_thread():
    """Threads of torch that meet on busy cores wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


separable = pytest.mark.parametrize("kind", SEPARABLE)
few = costly(4)


def predictors(kind, seed):
    """A likelihood, codes (5, 3), and normal predictors that its quadrature resolves."""
    head, u, eta = drawn(kind, seed)
    scale = np.random.default_rng(seed).uniform(0.05, 1.0, (5, 3))
    if isinstance(head, StudentT):  # the likelihood's own scale is what matters
        scale = scale * 0.4 * (head.log_scale.detach().exp() + head.min_scale).numpy()
    return head, u[:, 0], Linear(eta[:, 0], torch.from_numpy(scale))


def dense(head, u, linear):
    """The expectation of log p(u_j | eta_j) by the trapezoidal rule: exact to rounding."""
    x = torch.linspace(-11, 11, 2001, dtype=torch.float64)
    weights = torch.exp(-0.5 * x**2) * (x[1] - x[0]) / np.sqrt(2 * np.pi)
    eta = linear.mean[..., None, :] + linear.scale[..., None, :] * x[:, None]
    with torch.no_grad():
        return (head.log_probs(u[..., None, :], eta) * weights[:, None]).sum(-2)


# One dimension.


def test_the_rule_has_the_moments_of_a_normal_distribution():
    x, weight = gauss_hermite()
    for power in range(1, 12):
        expected = stats.norm.moment(power)
        np.testing.assert_allclose((weight * x**power).sum(), expected, rtol=1e-10, atol=1e-9)


@separable
@given(seed=seeds)
@few
def test_the_expectation_of_a_column_is_its_integral(kind, seed):
    head, u, linear = predictors(kind, seed)
    value, _, _ = head.expected(u, linear.mean, linear.scale)
    np.testing.assert_allclose(value, dense(head, u, linear), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("largest", "tolerance"), [(1.5, 1e-7), (2.0, 2e-6), (3.0, 1e-4)])
@given(mean=st.floats(-6, 6), share=st.floats(0.01, 1), bit=st.sampled_from([0.0, 1.0]))
@few
def test_a_logistic_expectation_is_that_of_scipy(largest, tolerance, mean, share, bit):
    scale = largest * share
    linear = Linear(*torch.tensor([[[mean]], [[scale]]], dtype=torch.float64))
    value, _, _ = Bernoulli().expected(torch.full((1, 1), bit), linear.mean, linear.scale)

    def integrand(x):
        eta = mean + scale * x
        return stats.norm.pdf(x) * (bit * eta - np.logaddexp(0, eta))

    expected, _ = quad(integrand, -12, 12, epsabs=1e-11, limit=200)
    assert float(value) == pytest.approx(expected, abs=tolerance)


@separable
@given(seed=seeds)
@few
def test_derivatives_of_a_column_are_those_of_its_value_by_mean_and_variance(kind, seed):
    """Bonnet and Price: E[f'] by the mean, E[f''] / 2 by the variance."""
    head, u, linear = predictors(kind, seed)
    _, slope, bend = head.expected(u, linear.mean, linear.scale)
    assert (slope.shape, bend.shape) == (u.shape, u.shape)

    def value(mean, variance):
        return head.expected(u, mean, variance.sqrt())[0]

    mean, variance = linear.mean, linear.scale**2
    step = 1e-4 * linear.scale
    by_mean = (value(mean + step, variance) - value(mean - step, variance)) / (2 * step)
    step = 1e-4 * variance
    by_variance = (value(mean, variance + step) - value(mean, variance - step)) / (2 * step)
    size = max(1.0, float(slope.abs().max()), float(bend.abs().max()))
    np.testing.assert_allclose(slope, by_mean, rtol=1e-5, atol=1e-6 * size)
    np.testing.assert_allclose(bend, -2 * by_variance, rtol=1e-4, atol=1e-5 * size)


@given(seeds)
@few
def test_a_linear_predictor_has_the_moments_of_its_points(seed):
    q, W, b = drawn_q(seed, 3, 2), normal(seed, 4, 2), normal(seed, 4)
    linear = Linear.of(q, W, b)
    eta = q.at(torch.from_numpy(matched_noise(64, 2, 0))[None]) @ W.mT + b
    torch.testing.assert_close(linear.mean, eta.mean(1))
    torch.testing.assert_close(linear.scale, eta.std(1, correction=0), rtol=1e-6, atol=1e-7)


# Several dimensions.


def noise_of(k, size=64, seed=0):
    return torch.from_numpy(matched_noise(size, k, seed))[None]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_points_have_the_moments_of_a_normal_distribution(k):
    """Up to the seventh for few factors, to the second where points are random."""
    noise, share = Points.of_dimension(k, seed=0)
    assert share.sum() == pytest.approx(1)
    moments = [0.0, 1.0, 0.0, 3.0, 0.0, 15.0, 0.0]
    for order, moment in enumerate(moments[: 7 if k < 4 else 2], start=1):
        np.testing.assert_allclose(share @ noise[0] ** order, moment, atol=1e-10)
    if k in (2, 3):
        for powers, moment in (((4, 2), 3), ((2, 4), 3), ((2, 2), 1), ((3, 3), 0), ((1, 1), 0)):
            product = noise[0, :, 0] ** powers[0] * noise[0, :, 1] ** powers[1]
            np.testing.assert_allclose(share @ product, moment, atol=1e-10)


@pytest.mark.parametrize("variance", ["feature", "shared"])
@given(seed=seeds)
@few
def test_the_variance_in_closed_form_is_the_best(variance, seed):
    head, weight = Gaussian(variance), 0.1 + normal(seed + 3, 30).square()
    u, mean, scale = (normal(seed + i, 30, 2) for i in range(3))
    head.bind(u, weight, None)
    assert head.maximise_own(u, mean, scale.abs(), weight)
    total = (weight @ head.expected_log_probs(u, mean, scale.abs())).sum()
    (slope,) = torch.autograd.grad(total, head.log_variance)
    np.testing.assert_allclose(slope / weight.sum(), 0, atol=1e-8)


def wavy(z):
    """Neither convex nor concave, of shape (n, S) for z of shape (n, S, k)."""
    weight = torch.arange(1.0, z.shape[-1] + 1, dtype=z.dtype)
    return torch.sin(z @ weight) + torch.cos(2 * z).sum(-1) - 0.1 * (z**2).sum(-1)


def upper_root(covariance):
    """The upper triangular A of A A^T, as a normal q has it."""
    return torch.linalg.cholesky(covariance.flip(-2, -1)).flip(-2, -1)


def check_derivatives(expected, value, q, tolerance=1e-5):
    """Against differences of ``value(mean, root)`` by the mean and the covariance."""
    h, k = 1e-5, q.mean.shape[1]
    for j in range(k):
        step = h * torch.eye(k, dtype=torch.float64)[j]
        slope = (value(q.mean + step, q.scale) - value(q.mean - step, q.scale)) / (2 * h)
        np.testing.assert_allclose(expected.gradient[:, j], slope, atol=tolerance, rtol=tolerance)
        for i in range(j + 1):
            change = torch.zeros(k, k, dtype=torch.float64)
            change[i, j] = change[j, i] = h
            by_covariance = value(q.mean, upper_root(q.covariance + change))
            by_covariance = by_covariance - value(q.mean, upper_root(q.covariance - change))
            bend = -by_covariance / h / (1 if i == j else 2)
            actual = expected.curvature[:, i, j]
            np.testing.assert_allclose(actual, bend, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(expected.curvature, expected.curvature.mT)


@given(seeds, st.integers(1, 3))
@few
def test_derivatives_by_nodes_are_those_of_the_value_by_mean_and_covariance(seed, k):
    q, noise = drawn_q(seed, 3, k), noise_of(k)

    def value(mean, root):
        return wavy(mean[:, None] + noise @ root.mT).mean(-1)

    expected = by_nodes(wavy, q, noise)
    torch.testing.assert_close(expected.value, value(q.mean, q.scale))
    check_derivatives(expected, value, q)


@given(seeds, st.integers(1, 3))
@few
def test_matched_nodes_are_exact_for_quadratic_functions(seed, k):
    q, centre, root = drawn_q(seed, 3, k), normal(seed, k), normal(seed + 1, k, k)
    precision = root @ root.mT

    def f(z):
        return -0.5 * ((z - centre) @ root).square().sum(-1)

    expected = by_nodes(f, q, noise_of(k))
    off = q.mean - centre
    value = -0.5 * ((off @ root).square().sum(-1) + (q.covariance * precision).sum((-2, -1)))
    torch.testing.assert_close(expected.value, value, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(expected.gradient, -off @ precision, rtol=1e-8, atol=1e-8)
    curvature = precision.expand_as(expected.curvature)
    torch.testing.assert_close(expected.curvature, curvature, rtol=1e-6, atol=1e-6)


@separable
@given(seed=seeds)
@few
def test_nodes_and_columns_agree(kind, seed):
    """Of one factor: four thousand points against Gauss-Hermite."""
    head, u, linear = predictors(kind, seed)

    def f(z):
        return head.log_prob(u[:, None], linear.mean[:, None] + linear.scale[:, None] * z)

    value, slope, bend = head.expected(u, linear.mean, linear.scale)
    nodes = by_nodes(f, FullGaussian.standard(5, 1), noise_of(1, 4096))
    pairs = (
        (nodes.value, value),
        (nodes.gradient[:, 0], slope * linear.scale),
        (nodes.curvature[:, 0, 0], bend * linear.scale**2),
    )
    # Of the size of what cancels: values and rates.
    size = 1 + (value.abs() + (bend * linear.scale).abs()).sum(-1)
    for near, exact in pairs:
        np.testing.assert_array_less((near - exact.sum(-1)).abs(), 1e-2 * size)


@given(seeds, st.integers(1, 4))
@few
def test_the_expected_log_prior_is_the_entropy_less_the_divergence(seed, k):
    q = drawn_q(seed, 3, k)

    def value(mean, root):
        squares = (mean**2).sum(-1) + (root**2).sum((-2, -1))
        return -0.5 * (squares + k * np.log(2 * np.pi))

    expected = standard_normal(q)
    normal_prior = stats.multivariate_normal(np.zeros(k), np.eye(k))
    points = np.reshape(normal_prior.logpdf(q.at(noise_of(k, 128)).numpy()), (3, 128))
    np.testing.assert_allclose(expected.value, points.mean(1), rtol=1e-8)
    check_derivatives(expected, value, q, tolerance=1e-4)


# Factor models.

REAL = ["gaussian", "lognormal", "student_t"]
BLOCKS = {
    "separable": [*REAL, "bernoulli", "poisson", "negative_binomial"],
    "others": ["gaussian row", "categorical", "poisson"],
}


def factors_of(kinds, seed, k=2, n=12, d=2):
    """Parameters somewhere, codes of n rows, and the nodes of what is not separable."""
    rng = np.random.default_rng(seed)
    X = np.concatenate([rows(kind, rng, n, d) for kind in kinds], 1)
    heads = [HEADS[kind]() for kind in kinds]
    columns = np.arange(X.shape[1]).reshape(-1, d)
    table = Table.of(list(zip(heads, columns, strict=True)), X, range(X.shape[1]), None, True)
    u = torch.from_numpy(table.encode(X, np.float64, exact=True))
    weight = torch.from_numpy(rng.gamma(2.0, size=n))
    factors = Factors.start(heads, table, u, weight, k, np.random.RandomState(0))
    return factors, u, weight, Points.equal(noise_of(k))


def newton_sums(block, u, q, weight, points):
    return scores(block, u, q, points).newton_sums(q, block.loadings, weight)


def narrow(seed, n, k=2):
    q = drawn_q(seed, n, k)
    return FullGaussian(0.3 * q.mean, 3 * q.precision_cholesky)


@pytest.mark.parametrize("kinds", BLOCKS.values(), ids=BLOCKS)
@given(seed=seeds)
@few
def test_the_log_joint_is_the_mean_over_points_of_q(kinds, seed):
    factors, u, _, _ = factors_of(kinds, seed)
    q, points = narrow(seed, len(u)), noise_of(2, 1024)
    z = q.at(points)
    each = factors.log_prob(u, z) - 0.5 * (z**2).sum(-1) - np.log(2 * np.pi)
    value = LogJoint(factors, u, Points.equal(points))(q).value
    np.testing.assert_allclose(value, each.detach().mean(-1), rtol=5e-2, atol=0.1)


@pytest.mark.parametrize("kinds", BLOCKS.values(), ids=BLOCKS)
@given(seed=seeds)
@few
def test_the_log_joints_derivatives_are_those_of_its_value(kinds, seed):
    factors, u, _, points = factors_of(kinds, seed)
    q = narrow(seed, len(u))

    def of_block(block, mean, root):
        if block.head.separable:
            eta_mean = mean @ block.loadings.mT + block.intercept
            scale = (block.loadings @ root).square().sum(-1).sqrt()
            linear = Linear(eta_mean, scale)
            return block.head.expected(u[:, block.where], linear.mean, linear.scale)[0].sum(-1)
        return block.log_prob(u, mean[:, None] + points.noise @ root.mT) @ points.share

    def value(mean, root):
        squares = (mean**2).sum(-1) + (root**2).sum((-2, -1))
        parts = sum(of_block(block, mean, root) for block in factors.blocks)
        return (parts - 0.5 * squares).detach() - np.log(2 * np.pi)

    expected = LogJoint(factors, u, points)(q)
    torch.testing.assert_close(expected.value, value(q.mean, q.scale), rtol=1e-9, atol=1e-9)
    size = max(1.0, float(expected.value.abs().max()))
    check_derivatives(expected, value, q, tolerance=1e-5 * size)


@given(seeds)
@example(seed=1441197)  # rates beyond exp(19.5)
@few
def test_newton_sums_are_the_value_and_its_gradient_by_the_parameters(seed):
    factors, u, weight, points = factors_of(BLOCKS["separable"], seed)
    q = narrow(seed, len(u))
    for block in factors.blocks:
        value, gradient, hessian = newton_sums(block, u, q, weight, points)
        W = torch.cat([block.loadings, block.intercept[:, None]], 1).requires_grad_(True)

        def total(W, block=block):
            moved = Block(block.head, block.where, W[:, :-1], W[:, -1])
            return weight @ expected_values(moved, u, q, points)

        torch.testing.assert_close(value, total(W).detach(), rtol=1e-9, atol=1e-9)
        (by_graph,) = torch.autograd.grad(total(W).sum(), W)
        size = float(by_graph.abs().max())
        near = {"rtol": 1e-6, "atol": 1e-7 * (1 + size)}
        torch.testing.assert_close(gradient, by_graph, **near)
        h, W = 1e-5, W.detach()
        for j in range(W.shape[1]):
            step = h * torch.eye(W.shape[1], dtype=torch.float64)[j]
            slope = ((total(W + step) - total(W - step)) / (2 * h)).detach()
            near = {"rtol": 1e-4, "atol": 1e-5 * (1 + size)}
            np.testing.assert_allclose(gradient[:, j], slope, **near)
        assert (torch.linalg.eigvalsh(hessian) >= -1e-9 * hessian.abs().max()).all()


@given(seeds)
@few
def test_newton_sums_at_points_have_the_gradient_of_the_graph(seed):
    """And labels have their probabilities for curvatures, as if they were the same everywhere."""
    factors, u, weight, points = factors_of(BLOCKS["others"], seed)
    u[0, 2] = -1.0  # a label that fit has not seen
    q = narrow(seed, len(u))
    row, labels, _ = factors.blocks
    for block in (row, labels):
        value, gradient, _ = newton_sums(block, u, q, weight, points)
        W = torch.cat([block.loadings, block.intercept[:, None]], 1).requires_grad_(True)
        moved = Block(block.head, block.where, W[:, :-1], W[:, -1])
        total = weight @ expected_values(moved, u, q, points)
        torch.testing.assert_close(value, total.detach(), rtol=1e-9, atol=1e-9)
        (by_graph,) = torch.autograd.grad(total.sum(), W)
        torch.testing.assert_close(gradient, by_graph, rtol=1e-8, atol=1e-8)
    z = torch.nn.functional.pad(q.at(points.noise), (0, 1), value=1.0)
    logits = (z[..., :-1] @ labels.loadings.mT + labels.intercept).split(labels.head.sizes, -1)
    known = (u[:, labels.where] >= 0).to(u.dtype) * weight[:, None]
    for j, hessian in enumerate(
        newton_sums(labels, u, q, weight, points)[2].split(labels.head.sizes)
    ):
        chance = torch.softmax(logits[j], -1) * points.share[:, None] * known[:, None, j : j + 1]
        expected = torch.einsum("nso,nsi,nsj->oij", chance, z, z)
        torch.testing.assert_close(hessian, expected, rtol=1e-8, atol=1e-8)


@given(seeds)
@few
def test_newtons_step_is_exact_for_a_normal_likelihood(seed):
    factors, u, weight, points = factors_of(["gaussian"], seed)
    (block,), q = factors.blocks, narrow(seed, len(u))
    _, gradient, hessian = newton_sums(block, u, q, weight, points)
    step = torch.linalg.solve(hessian, gradient)
    better = (
        nn.Parameter(block.loadings + step[:, :-1]),
        nn.Parameter(block.intercept + step[:, -1]),
    )
    _, rest, _ = newton_sums(Block(block.head, block.where, *better), u, q, weight, points)
    assert rest.abs().max() < 1e-7 * (1 + gradient.abs().max())


@given(seeds)
@few
def test_another_scale_of_z_leaves_the_likelihood_as_it_was(seed):
    factors, u, _, _ = factors_of(BLOCKS["others"], seed)
    z, shift = normal(seed, len(u), 3, 2), normal(seed + 1, 2)
    scale = normal(seed + 2, 2, 2).triu() + 3 * torch.eye(2, dtype=torch.float64)
    before = factors.log_prob(u, shift + z @ scale.mT)
    factors.stretch(shift, scale)
    torch.testing.assert_close(factors.log_prob(u, z), before, rtol=1e-8, atol=1e-8)


@given(seeds, st.integers(1, 8))
@few
def test_a_rotation_keeps_the_covariance_of_the_predictors(seed, k):
    """Also with more factors than outputs."""
    factors, _, _, _ = factors_of(["bernoulli", "gaussian"], seed, k)
    before = torch.cat(list(factors.loadings))
    after = torch.cat(list(factors.rotated().loadings))
    assert after.shape == before.shape
    torch.testing.assert_close(after @ after.mT, before @ before.mT, rtol=1e-8, atol=1e-10)


# The E step.


@dataclass(frozen=True)
class Quadratic:
    """f = -(z - c)^T P (z - c) / 2, of each row."""

    centre: torch.Tensor
    root: torch.Tensor

    def rows(self, rows):
        return Quadratic(self.centre[rows], self.root[rows])

    def __call__(self, q):
        def f(z):
            return -0.5 * ((z - self.centre[:, None]) @ self.root).square().sum(-1)

        return by_nodes(f, q, noise_of(q.mean.shape[1]))


@dataclass(frozen=True)
class Wavy:
    """A wave of each row's own, under the prior."""

    size: torch.Tensor

    def rows(self, rows):
        return Wavy(self.size[rows])

    def __call__(self, q):
        noise = noise_of(q.mean.shape[1])
        return by_nodes(lambda z: self.size[:, None] * wavy(z), q, noise) + standard_normal(q)


@given(seeds, st.integers(1, 4), st.integers(1, 3))
@few
def test_a_step_is_exact_for_a_quadratic_function(seed, n, k):
    target, start = drawn_q(seed, n, k), drawn_q(seed + 1, n, k)
    f = Quadratic(target.mean, target.precision_cholesky)
    q, expected = climb(f, start, f(start))
    torch.testing.assert_close(q.mean, target.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(q.precision, target.precision, rtol=1e-5, atol=1e-5)
    # The bound is then the logarithm of the integral of exp f.
    volume = target.scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    evidence = volume + 0.5 * k * np.log(2 * np.pi)
    torch.testing.assert_close(expected.value + q.entropy, evidence, rtol=1e-6, atol=1e-6)


@given(seeds, st.floats(-0.7, 0.7))
@few
def test_the_best_independent_coordinates_have_the_conditional_variances(seed, correlation):
    target, scale = drawn_q(seed, 3, 2), torch.exp(normal(seed, 3, 2))
    together = torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)
    precision = scale[:, :, None] * together * scale[:, None, :]
    f, start = Quadratic(target.mean, torch.linalg.cholesky(precision)), FullGaussian.standard(3, 2)
    q, _ = climb(f, start, f(start), diagonal, 100)
    assert torch.equal(q.precision_cholesky, diagonal(q.precision_cholesky))
    torch.testing.assert_close(q.precision, diagonal(precision), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q.mean, target.mean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", [full, diagonal])
@given(seed=seeds, k=st.integers(1, 3))
@few
def test_no_step_lowers_the_bound_of_a_row_even_where_f_is_not_concave(family, seed, k):
    f = Wavy(torch.tensor([0.1, 1.0, 10.0, 1000.0], dtype=torch.float64))
    q = drawn_q(seed, 4, k)
    q = FullGaussian(q.mean, diagonal(q.precision_cholesky)) if family is diagonal else q
    expected = f(q)
    first = last = expected.value + q.entropy
    for _ in range(8):
        q, expected = climb(f, q, expected, family)
        bound = expected.value + q.entropy
        assert (bound >= last).all()
        last = bound
    for name in ("value", "gradient", "curvature"):
        torch.testing.assert_close(getattr(expected, name), getattr(f(q), name))
    assert (last > first).all()


@given(seeds)
@few
def test_rows_climb_on_their_own(seed):
    f, q = Wavy(torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)), drawn_q(seed, 3, 2)
    together, expected = climb(f, q, f(q), n_steps=8)
    for i in range(3):
        row = torch.tensor([i])
        alone, value = climb(f.rows(row), q.rows(row), f(q).rows(row), n_steps=8)
        torch.testing.assert_close(alone.mean[0], together.mean[i], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(value.value[0], expected.value[i], rtol=1e-8, atol=1e-8)


def test_a_row_whose_start_is_impossible_finds_a_place():
    """And one where nothing is possible stays where it is."""

    class Walls(Wavy):
        def rows(self, rows):
            return Walls(self.size[rows])

        def __call__(self, q):
            found = super().__call__(q)
            found.value[self.size > 5] = torch.nan
            return found

    f, q = Walls(torch.tensor([1.0, 10.0], dtype=torch.float64)), drawn_q(0, 2, 2)
    found, expected = climb(f, q, f(q), n_steps=3)
    assert torch.equal(found.mean[1], q.mean[1])
    assert expected.value[0] + found.entropy[0] > f(q).value[0] + q.entropy[0]


# The M step.


def rosenbrock(parameters):
    x = parameters[0].detach().requires_grad_(True)
    value = -((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()
    return value.item(), list(torch.autograd.grad(value, x))


@given(seeds, st.integers(1, 8))
@few
def test_a_few_iterations_are_never_worse_than_their_start(seed, n_iter):
    start = [2 * normal(seed, 4)]
    end = maximise(start, rosenbrock, n_iter)
    assert rosenbrock(end)[0] >= rosenbrock(start)[0]
    assert rosenbrock(maximise(start, rosenbrock, 500))[0] > -4


@given(seeds)
@few
def test_slopes_that_mislead_and_values_that_are_no_numbers_do_no_harm(seed):
    def downhill(parameters):
        value, gradients = rosenbrock(parameters)
        return value, [-gradient for gradient in gradients]

    def cliff(parameters):
        value, gradients = rosenbrock(parameters)
        return (np.nan if float(parameters[0][0]) > 0 else value), gradients

    start = [-normal(seed, 4).abs()]
    for function in (downhill, cliff):
        assert function(maximise(start, function, 5))[0] >= function(start)[0]


def test_where_nothing_is_finite_the_start_comes_back_in_its_shapes():
    start = [torch.ones(2, 3, dtype=torch.float64), torch.zeros((), dtype=torch.float64)]
    slopes = [torch.zeros_like(part) for part in start]
    for value in (np.nan, -np.inf, 1.0):
        end = maximise(start, lambda _, value=value: (value, slopes), 3)
        assert all(torch.equal(a, b) for a, b in zip(start, end, strict=True))
