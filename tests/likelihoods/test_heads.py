"""Each likelihood is the distribution that scipy has under its name."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from scipy.special import expit, log_softmax

from skemvae.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    LogNormal,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from tests.laws import costly
from tests.strategies import seeds

HEADS = {
    "gaussian": Gaussian,
    "gaussian shared": lambda: Gaussian("shared", min_variance=0.05),
    "gaussian row": lambda: Gaussian("row", min_variance=1e-3),
    "lognormal": LogNormal,
    "lognormal row": lambda: LogNormal("row", min_variance=1e-3),
    "student_t": lambda: StudentT(min_scale=0.05),
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "negative_binomial": lambda: NegativeBinomial(min_dispersion=0.02),
    "categorical": Categorical,
}
REAL = ["gaussian", "gaussian shared", "gaussian row", "student_t"]
POSITIVE = ["lognormal", "lognormal row"]
COUNTS = ["poisson", "negative_binomial"]
every_head = pytest.mark.parametrize("kind", sorted(HEADS))


def rows(kind, rng, n=30, d=3):
    """Values of columns that the likelihood can have."""
    if kind in REAL:
        return rng.normal(size=(n, d)) * rng.uniform(0.5, 4, d) + rng.normal(size=d)
    if kind in POSITIVE:
        return np.exp(rows("gaussian", rng, n, d))
    if kind in COUNTS:
        return rng.poisson(rng.gamma(1.0, 5.0, (n, d))).astype(float)
    return rng.integers(2 if kind == "bernoulli" else 4, size=(n, d)).astype(float)


def bound(kind, X, weight=None):
    """A likelihood bound to rows, their codes, and the outputs to start from."""
    head, weight = HEADS[kind](), np.ones(len(X)) if weight is None else weight
    units = head.units(X, tuple(map(str, range(X.shape[1]))), weight, False)
    u = torch.from_numpy(units.encode(X, exact=False))
    return head, u, head.bind(u, torch.from_numpy(weight), units)


def drawn(kind, seed, d=3):
    """A likelihood with parameters of its own, codes (5, 1, d) and outputs (5, 7, n_outputs)."""
    rng = np.random.default_rng(seed)
    head, u, eta = bound(kind, rows(kind, rng, d=d))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += torch.from_numpy(rng.normal(size=parameter.shape))
    return head, u[:5, None], eta + torch.from_numpy(rng.normal(size=(5, 7, len(eta))))


def distribution(head, eta, j):
    """scipy's distribution of column j, given the outputs."""
    p = {name: parameter.detach().numpy() for name, parameter in head.named_parameters()}
    output = (eta := eta.numpy())[..., j]
    match head:
        case LogNormal():
            logs = p.get("log_variance", eta[..., eta.shape[-1] // 2 :])
            variance = np.exp(logs[..., j % logs.shape[-1]]) + head.min_variance
            return stats.lognorm(np.sqrt(variance), scale=np.exp(output))
        case Gaussian():
            logs = p.get("log_variance", eta[..., eta.shape[-1] // 2 :])
            variance = np.exp(logs[..., j % logs.shape[-1]]) + head.min_variance
            return stats.norm(output, np.sqrt(variance))
        case StudentT():
            df = 1 + 1 / (np.exp(p["log_tail"][j]) + 1e-3)
            return stats.t(df, output, np.exp(p["log_scale"][j]) + head.min_scale)
        case Bernoulli():
            return stats.bernoulli(expit(output))
        case Poisson():
            return stats.poisson(np.exp(output))
        case NegativeBinomial():
            size = 1 / (np.exp(p["log_dispersion"][j]) + head.min_dispersion)
            return stats.nbinom(size, size / (size + np.exp(output)))


def values_of(head, codes):
    """Values of codes that ``bound`` has made: of a log-normal head these are logarithms."""
    return np.exp(codes) if isinstance(head, LogNormal) else codes


def expected_log_prob(head, u, eta):
    """Sum of scipy's logarithms over the columns."""
    columns = np.moveaxis(values_of(head, u.numpy()), -1, 0)
    if isinstance(head, Categorical):
        parts = [log_softmax(part.numpy(), -1) for part in eta.split(head.sizes, -1)]
        seen = [c[..., None] == np.arange(p.shape[-1]) for c, p in zip(columns, parts, strict=True)]
        total = sum((part * one).sum(-1) for part, one in zip(parts, seen, strict=True))
        return total + len(columns) * np.log1p(-head.unseen_mass)
    log = "logpdf" if isinstance(head, Gaussian | StudentT) else "logpmf"
    return sum(getattr(distribution(head, eta, j), log)(c) for j, c in enumerate(columns))


@every_head
@given(seed=seeds)
def test_log_prob_is_that_of_scipy_for_every_sample_of_every_row(kind, seed):
    head, u, eta = drawn(kind, seed)
    for outputs in (eta[:1], eta):
        expected = expected_log_prob(head, u, outputs)
        actual = head.log_prob(u, outputs).detach()
        assert actual.shape == (5, 7)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-10)
    single = head.float().log_prob(u.float(), eta.float()).detach()
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, expected, rtol=2e-4, atol=2e-4)


@given(st.floats(-40, 40), st.sampled_from([0.0, 1.0]))
def test_a_bernoulli_keeps_the_digits_of_a_certain_bit(eta, bit):
    actual = Bernoulli().log_prob(*torch.tensor([[bit], [eta]], dtype=torch.float64))
    expected = stats.bernoulli(expit(eta if bit else -eta)).logpmf(1)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", COUNTS)
@given(seed=seeds, power=st.integers(0, 7))
def test_large_counts_keep_their_digits_in_float32(kind, seed, power):
    head, u, eta = drawn(kind, seed)
    eta = (eta + power * np.log(10)).float().clamp(max=16)
    rate = torch.exp(eta[:, :1].double())
    u = torch.from_numpy(np.random.default_rng(seed).poisson(rate)).double()
    expected = head.log_prob(u, eta[:, :1].double()).detach()
    actual = head.float().log_prob(u.float(), eta[:, :1]).detach()
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=0.02)


@every_head
@given(seed=seeds, size=st.sampled_from([1e3, 1e30]))
def test_absurd_outputs_give_no_nan_and_the_same_in_both_precisions(kind, seed, size):
    head, u, eta = drawn(kind, seed)
    eta = torch.from_numpy(np.random.default_rng(seed).choice([-size, 0.0, size], eta.shape))
    values = []
    for dtype in (torch.float64, torch.float32):
        head, outputs = head.to(dtype).requires_grad_(), eta.to(dtype).requires_grad_()
        value = head.log_prob(u.to(dtype), outputs)
        inputs = [outputs, *head.parameters()]
        gradients = torch.autograd.grad(value[value.isfinite()].sum(), inputs)
        assert not any(gradient.isnan().any() for gradient in gradients)
        assert not (value.isnan() | (value == torch.inf)).any()
        values.append(value.detach().float())
    np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", REAL)
@given(seed=seeds)
@costly(4)
def test_densities_integrate_to_one(kind, seed):
    head, _, eta = drawn(kind, seed, d=1)
    scale, eta = np.ptp(distribution(head, eta[0, 0], 0).interval(0.5)), eta[0, 0]

    def density(t):
        u = head.mean(eta) + scale * t
        return scale * float(head.log_prob(u, eta).detach().exp())

    assert quad(density, -np.inf, 0)[0] == pytest.approx(0.5, abs=1e-6)
    assert quad(density, 0, np.inf)[0] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("kind", POSITIVE)
@given(seed=seeds, power=st.integers(-40, 40))
@costly(4)
def test_a_log_normal_density_is_one_of_x_with_the_mean_of_x(kind, standardize, seed, power):
    """Whatever the codes are: it integrates to one over x, and the mean is E[x], not the median."""
    X = 10.0**power * rows(kind, np.random.default_rng(seed), d=1)
    head = HEADS[kind]()
    units = head.units(X, ("a",), None, standardize)
    u = torch.from_numpy(units.encode(X, exact=True))
    eta = head.bind(u, torch.ones(len(u)).double(), units)
    t = np.linspace(-12, 16, 2001)[:, None] * np.sign(units.scale)  # codes may turn columns round
    deviation = np.exp(0.5 * head.moments(eta)[1].detach().numpy())
    codes = head.moments(eta)[0].detach().numpy() + deviation * t
    x = units.decode(codes)[:, 0]
    log_density = head.log_prob(torch.from_numpy(codes), eta).detach().numpy() - units.log_volume
    mass = np.exp(log_density + np.log(x))  # of log x
    assert np.trapezoid(mass, np.log(x)) == pytest.approx(1, abs=1e-4)
    mean = np.trapezoid(mass * x, np.log(x))
    assert units.decode(head.mean(eta).detach().numpy())[0] == pytest.approx(mean, rel=1e-3)


@pytest.mark.parametrize("kind", ["bernoulli", *COUNTS, "categorical"])
@given(seed=seeds)
@example(seed=137)  # a long tail
def test_probabilities_sum_to_one(kind, seed):
    head, _, eta = drawn(kind, seed, d=1)
    # All labels that fit has not seen are -1.
    values = range(-1, head.sizes[0]) if kind == "categorical" else range(200_000)
    u = torch.tensor(values[:2] if kind == "bernoulli" else values).double()[:, None]
    probabilities = head.log_prob(u, eta[0, 0]).detach().exp()
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-9)
    if kind == "categorical":  # Laplace's rule after 30 rows
        assert float(probabilities[0]) == pytest.approx(1 / 32, rel=1e-12)


@every_head
@given(seed=seeds)
@costly(8)
def test_gradients_are_those_of_finite_differences(kind, seed):
    head, u, eta = drawn(kind, seed)
    inputs = (eta[:, :2].clone().requires_grad_(), *head.parameters())
    assert torch.autograd.gradcheck(lambda eta, *_: head.log_prob(u, eta), inputs)


@every_head
@pytest.mark.parametrize("seed", range(3))
def test_samples_are_drawn_from_the_distribution(kind, seed):
    n, (head, _, eta) = 100_000, drawn(kind, seed, d=2)
    if kind == "student_t":
        head.log_tail.data[:] = torch.tensor([-0.5, -4.0])  # a variance for the mean's error
    eta = eta[0, 0].expand(n, -1)
    draws = head.requires_grad_(False).sample(eta, np.random.RandomState(seed))
    assert draws.shape == (n, 2)
    for j, column in enumerate(draws.T):
        if kind == "categorical":
            probability = np.exp(log_softmax(eta[0].split(head.sizes)[j]))
            assert head.mean(eta)[0, j] == probability.argmax()
        else:
            one = distribution(head, eta[0], j)
            column = values_of(head, column)
            np.testing.assert_allclose(
                one.mean(), values_of(head, head.mean(eta)[0, j].numpy()), rtol=1e-9
            )
            assert abs(column.mean() - one.mean()) < 4.5 * one.std() / np.sqrt(n)
            if kind in REAL + POSITIVE:
                assert stats.kstest(column, one.cdf).pvalue > 1e-4
                continue
            ends = np.unique(one.ppf(np.linspace(0, 1, 12)[1:-1]))  # bins that hold many draws
            probability = np.diff([0, *one.cdf(ends), 1])
            column = np.searchsorted(ends, column)
        probability = probability[: max(np.flatnonzero(probability > 1e-12)) + 1]
        observed = np.bincount(column.astype(int), minlength=len(probability))
        assert stats.chisquare(observed, n * probability).pvalue > 1e-4


def gradients_of_the_fit(head, u, eta, weight):
    """Log likelihood of independent columns, and its derivatives."""
    eta = eta.clone().requires_grad_()
    value = weight @ head.log_prob(u, eta)
    return value.item(), torch.autograd.grad(value, [eta, *head.parameters()])


@pytest.mark.parametrize("kind", ["gaussian", "gaussian shared", "gaussian row"])
@given(seed=seeds)
def test_a_normal_starts_at_the_most_likely_independent_columns(kind, seed):
    rng = np.random.default_rng(seed)
    X, weight = rows(kind, rng), rng.gamma(2.0, size=30)
    if kind == "gaussian shared":
        X[:, 0] = 7.0
    head, u, eta = bound(kind, X, weight)
    _, gradients = gradients_of_the_fit(head, u, eta, torch.from_numpy(weight))
    for gradient in gradients:
        np.testing.assert_allclose(gradient / weight.sum(), 0, atol=1e-9)


@pytest.mark.parametrize("kind", ["bernoulli", "poisson", "categorical"])
@given(seed=seeds)
def test_what_is_counted_starts_within_half_a_count_of_the_most_likely(kind, seed):
    rng = np.random.default_rng(seed)
    X = rows(kind, rng) * (rng.random(3) < 0.7)
    head, u, eta = bound(kind, X)
    value, (gradient,) = gradients_of_the_fit(head, u, eta, torch.ones(len(u)).double())
    n_values = {"bernoulli": 2, "poisson": 1}.get(kind) or max(head.sizes)
    np.testing.assert_allclose(gradient, 0, atol=max(1, n_values - 1) / 2 + 1e-9)
    best = stats.poisson(X.mean(0)).logpmf(X).sum()
    if kind != "poisson":  # the entropy of the frequencies
        best = -len(X) * sum(stats.entropy(np.unique(c, return_counts=True)[1]) for c in X.T)
    if kind == "categorical":
        best += 3 * len(X) * np.log1p(-head.unseen_mass)
    assert best - 3 * n_values / 2 - 1e-9 <= value <= best + 1e-9


@every_head
@given(seed=seeds)
def test_weights_count_as_repeated_rows(kind, seed):
    rng = np.random.default_rng(seed)
    X, times = rows(kind, rng), np.append(1, rng.integers(1, 4, size=29))
    weighted, repeated = bound(kind, X, times.astype(float)), bound(kind, X.repeat(times, 0))
    np.testing.assert_allclose(weighted[2], repeated[2], rtol=1e-9, atol=1e-9)
    for pair in zip(weighted[0].parameters(), repeated[0].parameters(), strict=True):
        np.testing.assert_allclose(*(p.detach() for p in pair), rtol=1e-9, atol=1e-9)


@every_head
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_columns_start_finite(kind, value, dtype):
    head, X, weight = HEADS[kind](), np.full((20, 2), value), torch.ones(20, dtype=dtype)
    X = np.exp(X) if kind in POSITIVE else X
    units = head.units(X, ("a", "b"), None, True)
    u = torch.from_numpy(units.encode(X, exact=True)).to(dtype)
    eta = head.bind(u, weight, units)
    value, gradients = gradients_of_the_fit(head, u, eta, weight)
    assert np.isfinite(value)
    assert len(eta) == head.n_outputs
    assert all(tensor.isfinite().all() for tensor in (eta, *gradients))


def test_grey_values_are_drawn_anew_and_bits_are_left_alone():
    head, u, _ = bound("bernoulli", np.tile([0.0, 0.2, 1.0], (9999, 1)))
    draws = head.draw(u, torch.Generator().manual_seed(0))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(draws.mean(0), [0, 0.2, 1], atol=0.02)
    head, u, _ = bound("bernoulli", np.eye(3))
    assert torch.equal(head.draw(u, torch.Generator()), u)


def test_an_encoder_sees_one_column_for_each_label_and_nothing_of_others():
    head, _, _ = bound("categorical", np.array([[5.0, 1.0], [6.0, 1.0], [7.0, 2.0]]))
    seen = head.features(torch.tensor([[2.0, 0.0], [-1.0, 1.0]]))
    assert seen.tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]


@pytest.mark.parametrize("value", [0, -1.0, np.inf, np.nan])
@pytest.mark.parametrize("cls", [Gaussian, LogNormal, StudentT, NegativeBinomial])
def test_a_floor_is_written_and_refused_where_it_makes_no_sense(cls, value):
    name = list(inspect.signature(cls).parameters)[-1]
    assert repr(cls(**{name: 0.5})).endswith(f"{name}=0.5)")
    with pytest.raises(ValueError, match=f"{name}={value} must be positive"):
        cls(**{name: value})
    with pytest.raises(ValueError, match="variance='diag' is not one of"):
        Gaussian("diag")
