"""What one adds, defined here and nowhere else: each fits, scores, samples, pickles and saves.

A covariance structure, a likelihood, a prior of VAEs and a posterior of mixtures are a class (or a
function) and a line in a registry.
"""

import pickle
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pytest
import torch
from scipy.special import expit, gammaln
from scipy.stats import multivariate_t
from torch import nn

import skemvae
from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM
from skemvae.core.bound import POSTERIORS, Posterior
from skemvae.core.moments import Moments
from skemvae.likelihoods import LIKELIHOODS, Likelihood
from skemvae.likelihoods.units import Counts
from skemvae.models import FactorModel
from skemvae.networks.priors import PRIORS, Prior
from skemvae.structures.dense import Full
from skemvae.structures.dense_scan import DifferenceScan
from skemvae.structures.registry import STRUCTURES


def assert_survives(estimator, X, tmp_path):
    """Pickles and files give the same scores."""
    expected = estimator.score_samples(X)
    assert np.isfinite(expected).all()
    skemvae.save(estimator, tmp_path / "own.skemvae")
    for again in (skemvae.load(tmp_path / "own.skemvae"), pickle.loads(pickle.dumps(estimator))):
        np.testing.assert_array_equal(again.score_samples(X), expected)


def mass(estimator, low, high, n=300):
    """The integral of a density over a square."""
    axis = np.linspace(low, high, n)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    return np.exp(estimator.score_samples(grid)).sum() * (axis[1] - axis[0]) ** 2


# A covariance structure: matrices Λ Λ^T + σ² I of each component (probabilistic principal axes).


class PrincipalAxes(Full):
    """One factor, and noise of the same variance in all columns."""

    name = "principal_axes"

    @classmethod
    def pool(cls, covariances, count):
        values, axes = np.linalg.eigh(covariances)
        values[:, :-1] = values[:, :-1].mean(1, keepdims=True)
        return (axes * values[:, None, :]) @ axes.transpose(0, 2, 1)

    @property
    def n_parameters(self):
        return self.n_components * (self.n_features + 1)


def test_a_covariance_structure(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 1)) @ [[1.0, 2.0]] + 0.5 * rng.standard_normal((300, 2))
    X[:100] += 5
    with patch.dict(STRUCTURES, principal_axes=PrincipalAxes):
        mixture = EMGaussianMixture(2, covariance_type="principal_axes", random_state=0).fit(X)
        assert np.diff(mixture.lower_bounds_).min() >= -1e-9
        assert mixture.n_parameters_ == 1 + 4 + 6
        assert mixture.lower_bound_ <= EMGaussianMixture(2, random_state=0).fit(X).lower_bound_
        assert mass(mixture, -15, 20) == pytest.approx(1, abs=1e-4)
        drawn, _ = mixture.sample(20_000)
        np.testing.assert_allclose(drawn.mean(0), X.mean(0), atol=0.1)
        assert_survives(mixture, X, tmp_path)


# A likelihood: counts with more zeros than a Poisson distribution has.


class ZeroInflatedPoisson(Likelihood):
    """0 with a probability of its own, else Poisson with rate exp(η)."""

    def units(self, X, names, weight, standardize):
        return Counts(names)

    def bind(self, u, weight, units):
        self.n_outputs = u.shape[1]
        share = (weight @ (u == 0).to(u.dtype)) / weight.sum()
        self.logit = nn.Parameter(torch.logit(share.clamp(0.05, 0.95)))
        return ((weight @ u) / weight.sum() / (1 - share.clamp(max=0.95)) + 1e-3).log()

    def log_probs(self, u, eta):
        plain = u * eta - eta.exp() - torch.lgamma(u + 1)
        log_one = nn.functional.logsigmoid(-self.logit)
        log_zero = torch.where(u == 0, nn.functional.logsigmoid(self.logit), -torch.inf)
        return torch.logaddexp(log_zero, log_one + plain)

    def mean(self, eta):
        return torch.sigmoid(-self.logit) * eta.exp()

    def sample(self, eta, rng):
        kept = rng.uniform(size=eta.shape) < torch.sigmoid(-self.logit).detach().numpy()
        return kept * rng.poisson(eta.exp().numpy()).astype(float)


def zero_inflated(n=400, d=5):
    rng = np.random.default_rng(0)
    rate = np.exp(1.5 + 0.5 * rng.standard_normal((n, 1)) * rng.uniform(0.5, 1.5, d))
    return np.where(rng.uniform(size=(n, d)) < 0.3, 0, rng.poisson(rate)).astype(float)


def test_a_likelihood(tmp_path):
    X = zero_inflated()
    with patch.dict(LIKELIHOODS, zero_inflated_poisson=ZeroInflatedPoisson):
        em = VariationalEM(FactorModel(1, "zero_inflated_poisson"), random_state=0).fit(X)
        assert np.diff(em.lower_bounds_).min() >= -1e-6
        plain = VariationalEM(FactorModel(1, "poisson"), random_state=0).fit(X)
        assert em.score(X) > plain.score(X) + 0.5
        logit = em.model_.likelihoods_[0].logit.detach().numpy()
        np.testing.assert_allclose(expit(logit), 0.3, atol=0.1)
        counts = np.arange(120.0)[:, None]
        one = VariationalEM(FactorModel(1, "zero_inflated_poisson"), random_state=0).fit(X[:, :1])
        assert np.exp(one.score_samples(counts)).sum() == pytest.approx(1, abs=1e-3)
        drawn, _ = em.sample(4000)
        np.testing.assert_allclose((drawn == 0).mean(0), (X == 0).mean(0), atol=0.06)
        assert_survives(em, X[:50], tmp_path)


def test_a_likelihood_is_found_in_the_registry_only(tmp_path):
    X = zero_inflated(100, 2)
    em = VariationalEM(FactorModel(1, ZeroInflatedPoisson()), random_state=0).fit(X)
    with pytest.raises(TypeError, match="is a likelihood of your own: put its class into"):
        skemvae.save(em, tmp_path / "own.skemvae")
    with patch.dict(LIKELIHOODS, zero_inflated_poisson=ZeroInflatedPoisson):
        skemvae.save(em, tmp_path / "own.skemvae")
    with pytest.raises(ValueError, match=r"register it in skemvae\.likelihoods"):
        skemvae.load(tmp_path / "own.skemvae")


# A prior of VAEs: a planar flow of a normal distribution.


@dataclass(frozen=True)
class Flow:
    """The density of z = x + a tanh(b x + c), coordinate by coordinate, for normal x."""

    a: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor

    def at(self, choice, noise):
        return noise + self.a * torch.tanh(self.b * noise + self.c)

    def log_prob(self, z):
        x = z  # a b > -1: the map is increasing, so bisection finds its inverse
        low, high = z - self.a.abs(), z + self.a.abs()
        with torch.no_grad():
            for _ in range(40):
                x = (low + high) / 2
                above = self.at(None, x) > z
                low, high = torch.where(above, low, x), torch.where(above, x, high)
        slope = 1 + self.a * self.b * (1 - torch.tanh(self.b * x + self.c) ** 2)
        # One step of Newton's method carries the gradient of the inverse.
        x = x - (self.at(None, x) - z) / slope
        slope = 1 + self.a * self.b * (1 - torch.tanh(self.b * x + self.c) ** 2)
        return (-0.5 * x**2 - 0.5 * np.log(2 * np.pi) - slope.log()).sum(-1)

    def kl(self, q, z):
        return q.log_prob(z) - self.log_prob(z)


class FlowPrior(Prior):
    """Learned a, b and c."""

    def __init__(self, k, generator):
        super().__init__()
        self.a = nn.Parameter(0.1 * torch.randn(k, generator=generator))
        self.log_b, self.c = nn.Parameter(torch.zeros(k)), nn.Parameter(torch.zeros(k))

    @classmethod
    def begin(cls, plan):
        return cls(plan.n_components, plan.generator)

    @classmethod
    def n_numbers(cls, plan):
        return 3 * plan.n_components

    def forward(self, encoder):
        b = self.log_b.exp()
        return Flow(nn.functional.softplus(self.a) - 0.9 / (1 + b), b, self.c)


def test_a_prior(tmp_path):
    rng = np.random.default_rng(0)
    X = np.sign(rng.standard_normal((400, 1))) * [1.0, 1.0] + 0.3 * rng.standard_normal((400, 2))
    with patch.dict(PRIORS, flow=FlowPrior):
        vae = VAEEstimator(
            1, hidden_layer_sizes=(16,), prior="flow", max_iter=30, batch_size=100, random_state=0
        )
        with pytest.warns(UserWarning, match="max_iter"):
            vae.fit(X)
        assert mass(vae, -4, 4, n=60) == pytest.approx(1, abs=0.05)
        drawn, _ = vae.sample(2000)
        np.testing.assert_allclose(drawn.std(0), X.std(0), rtol=0.3)
        assert_survives(vae, X[:50], tmp_path)
    with pytest.raises(ValueError, match="prior"):
        vae.set_params(warm_start=False).fit(X)


# A posterior of mixtures: the best two components of each row.


def best_two(log_joint, out=None):
    """The posterior over the two components that explain a row best."""
    worst = np.partition(log_joint, -2, axis=1)[:, -2:-1]
    return Posterior.exact(np.where(log_joint < worst, -np.inf, log_joint), out=None)


def test_a_posterior(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 2)) + 3 * rng.integers(3, size=(500, 2))
    with patch.dict(POSTERIORS, best_two=best_two):
        mixture = EMGaussianMixture(9, posterior="best_two", random_state=0, max_iter=300).fit(X)
        assert np.diff(mixture.lower_bounds_).min() >= -1e-9
        exact = EMGaussianMixture(9, random_state=0, max_iter=300).fit(X)
        # The bound of q lies below that of the exact posterior at the same parameters.
        assert mixture.lower_bound_ <= mixture.score(X) + 1e-12
        assert mixture.score(X) == pytest.approx(exact.score(X), abs=0.1)
        with pytest.raises(ValueError, match="posterior='best_two' is computed on the CPU only"):
            EMGaussianMixture(2, posterior="best_two", device="cuda").fit(X)
        assert_survives(mixture, X, tmp_path)


def test_the_log_probability_of_the_likelihood_is_right():
    head = ZeroInflatedPoisson()
    head.bind(torch.tensor([[0.0], [2.0]]), torch.ones(2), None)
    k = np.arange(60.0)
    zero = expit(head.logit.item())
    poisson = (1 - zero) * np.exp(k * 0.7 - np.exp(0.7) - gammaln(k + 1))
    expected = np.log(poisson + zero * (k == 0))
    actual = head.log_probs(torch.tensor(k)[:, None], torch.tensor(0.7))[:, 0].detach()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


# A component that is not Gaussian: Student's t with five degrees of freedom.


@dataclass(frozen=True)
class StudentMoments(Moments):
    """A row counts the less, the further it is from the mean; ``held`` are counts as usual."""

    held: np.ndarray

    @property
    def shares(self):
        return self.held

    @property
    def covariances(self):
        return super().covariances * (self.count / self.held)[:, None, None]


class StudentScan(DifferenceScan):
    """-2 log density of t, less the constant of a Gaussian with the same matrix."""

    DOF = 5.0

    def squared_distances(self, features, workspace):
        d, nu = self.means.shape[1], self.DOF
        squares = super().squared_distances(features, workspace)
        constant = gammaln((nu + d) / 2) - gammaln(nu / 2) + d / 2 * np.log(2 / nu)
        return (nu + d) * np.log1p(squares / nu) - 2 * constant

    def reweighted(self, features, responsibility):
        squares = (features**2).sum(1)
        return responsibility * (self.DOF + features.shape[1]) / (self.DOF + squares)

    def second(self, features, weight, workspace):
        weighted = self.reweighted(features, weight)
        square = super().second(features, weighted, workspace).reshape(len(weight), -1)
        return np.concatenate([square, weight.sum(1, keepdims=True)], axis=1)

    def moments(self, count, first, second):
        square = second[:, :-1].reshape(len(count), *self.cholesky.shape[1:])
        usual = super().moments(count, first, square)
        return StudentMoments(usual.count, usual.origin, usual.first, usual.second, second[:, -1])

    def sharper(self, moments):
        return None


class Student(Full):
    """Scale matrices of Student's t."""

    name = "student"

    @classmethod
    def races_as(cls):
        return Full

    @classmethod
    def nearest(cls, covariance, noise):
        return cls(covariance.values)

    def scan(self, means):
        return StudentScan(means, self.cholesky, self.precision_cholesky)

    def draw(self, labels, rng):
        scale = np.sqrt(rng.chisquare(StudentScan.DOF, len(labels)) / StudentScan.DOF)
        return super().draw(labels, rng) / scale[:, None]


def test_a_component_that_is_not_gaussian(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_t(5, (1500, 2)) @ [[1.0, 0.3], [0.0, 0.5]]
    X[:500] += 12
    with patch.dict(STRUCTURES, student=Student):
        mixture = EMGaussianMixture(
            2, covariance_type="student", random_state=0, tol=1e-8, max_iter=500
        ).fit(X)
        assert np.diff(mixture.lower_bounds_).min() >= -1e-9
        gaussian = EMGaussianMixture(2, random_state=0).fit(X)
        assert mixture.score(X) > gaussian.score(X) + 0.02
        assert mass(mixture, -60, 60, n=500) == pytest.approx(1, abs=1e-2)
        theirs = [
            np.log(weight) + multivariate_t(mean, scale, StudentScan.DOF).logpdf(X)
            for weight, mean, scale in zip(
                mixture.weights_, mixture.means_, mixture.covariances_, strict=True
            )
        ]
        np.testing.assert_allclose(mixture.score_samples(X), np.logaddexp(*theirs), rtol=1e-9)

        def score(step, name, direction):
            moved = {n: getattr(mixture, n) for n in ("weights_", "means_", "covariances_")}
            moved[name] = moved[name] + step * direction
            own = EMGaussianMixture.from_parameters(*moved.values(), covariance_type="student")
            return own.score(X)

        for name, direction in (("means_", np.ones((2, 2))), ("covariances_", np.eye(2)[None])):
            slope = (score(1e-3, name, direction) - score(-1e-3, name, direction)) / 2e-3
            assert abs(slope) < 1e-3
        drawn, _ = mixture.sample(30_000)
        np.testing.assert_allclose(np.median(drawn, 0), np.median(X, 0), atol=0.3)
        assert_survives(mixture, X, tmp_path)
