"""What is true of every model of one's own: its bound, its densities, its posterior."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal, vonmises
from sklearn.base import clone
from sklearn.decomposition import FactorAnalysis
from sklearn.model_selection import GridSearchCV
from torch.distributions import Bernoulli, Normal, Poisson, VonMises

from skemvae import EMGaussianMixture, VariationalEM
from skemvae.models import FactorModel, LatentVariableModel
from skemvae.models.base import Model
from tests.laws import costly
from tests.own_models import GaussianPair, LinearGaussian
from tests.strategies import seeds, weights_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def log_prior(Z):
    return Normal(0.0, 1.0).log_prob(Z).sum(-1)


class Directions(LatentVariableModel):
    """A mixture of von Mises distributions of one angle."""

    posterior = "enumerated"

    def __init__(self, n_components=2):
        self.n_components = n_components

    @property
    def n_latent(self):
        return self.n_components

    def initial_parameters(self, X, rng):
        k = self.n_components
        return {
            "logits": np.zeros(k),
            "direction": rng.uniform(-np.pi, np.pi, k),
            "log_concentration": np.zeros(k),
        }

    def log_joint(self, X, Z, parameters):
        logits, direction, log_concentration = parameters.values()
        component = VonMises(direction[Z], log_concentration.exp()[Z])
        return torch.log_softmax(logits, 0)[Z] + component.log_prob(X[..., 0])

    def sample(self, n, parameters, rng):
        logits, direction, log_concentration = parameters.values()
        Z = rng.choice(len(logits), n, p=softmax(logits))
        return rng.vonmises(direction[Z], np.exp(log_concentration[Z]))[:, None], Z


class Predictor(LatentVariableModel):
    """A linear predictor for each column."""

    def __init__(self, n_components=1, posterior="full"):
        self.n_components = n_components
        self.posterior = posterior

    @property
    def n_latent(self):
        return self.n_components

    def initial_parameters(self, X, rng):
        d = X.shape[1]
        return {"loadings": 0.5 * rng.normal(size=(self.n_components, d)), "offset": np.zeros(d)}


class Counts(Predictor):
    """Poisson counts with log-normal rates."""

    def log_joint(self, X, Z, parameters):
        rate = torch.exp(Z @ parameters["loadings"] + parameters["offset"])
        return Poisson(rate).log_prob(X).sum(-1) + log_prior(Z)

    def sample(self, n, parameters, rng):
        Z = rng.normal(size=(n, self.n_components))
        return rng.poisson(np.exp(Z @ parameters["loadings"] + parameters["offset"])), Z


class Answers(Predictor):
    """Right or wrong, with logistic probabilities."""

    def log_joint(self, X, Z, parameters):
        logits = Z @ parameters["loadings"] + parameters["offset"]
        return Bernoulli(logits=logits).log_prob(X).sum(-1) + log_prior(Z)

    def sample(self, n, parameters, rng):
        Z = rng.normal(size=(n, self.n_components))
        logits = Z @ parameters["loadings"] + parameters["offset"]
        return (rng.logistic(size=logits.shape) < logits).astype(float), Z


class Curve(LatentVariableModel):
    """Rows about a curve in the plane."""

    n_latent = 1

    def initial_parameters(self, X, rng):
        return {"shape": np.array([1.0, 0.5]), "log_scale": np.array(-1.0)}

    def log_joint(self, X, Z, parameters):
        mean = torch.cat([parameters["shape"][0] * Z, parameters["shape"][1] * Z**2], -1)
        return Normal(mean, parameters["log_scale"].exp()).log_prob(X).sum(-1) + log_prior(Z)

    def sample(self, n, parameters, rng):
        Z = rng.normal(size=(n, 1))
        mean = np.c_[parameters["shape"][0] * Z, parameters["shape"][1] * Z**2]
        return mean + np.exp(parameters["log_scale"]) * rng.normal(size=(n, 2)), Z


class Square(LatentVariableModel):
    """z of either sign gives the same x: each posterior has two modes."""

    n_latent = 1

    def initial_parameters(self, X, rng):
        return {"log_scale": np.array(-2.0)}

    def log_joint(self, X, Z, parameters):
        return Normal(Z**2, parameters["log_scale"].exp()).log_prob(X).sum(-1) + log_prior(Z)

    def sample(self, n, parameters, rng):
        Z = rng.normal(size=(n, 1))
        return Z**2 + np.exp(parameters["log_scale"]) * rng.normal(size=(n, 1)), Z


def table(model, seed=0, n=40):
    """A table that suits a model."""
    rng = np.random.default_rng(seed)
    if isinstance(model, Directions):
        return np.r_[rng.vonmises(-1, 5, n // 2), rng.vonmises(2, 8, n - n // 2)][:, None]
    Z = rng.standard_normal((n, 2))
    if isinstance(model, Curve):
        return np.c_[Z[:, 0], 0.5 * Z[:, 0] ** 2] + 0.3 * rng.standard_normal((n, 2))
    if isinstance(model, Square):
        return Z[:, :1] ** 2 + 0.1 * rng.standard_normal((n, 1))
    predictor = Z @ rng.uniform(0.3, 0.9, (2, 4)) * [1, -1, 1, 1]
    if isinstance(model, Counts):
        return rng.poisson(np.exp(predictor + 0.5)).astype(float)
    if isinstance(model, Answers):
        return (rng.logistic(size=predictor.shape) < 2 * predictor).astype(float)
    if isinstance(model, GaussianPair):
        return rng.standard_normal((n, 2)) + 4 * (np.arange(n) % 2)[:, None]
    return predictor + 0.5 * rng.standard_normal((n, 4))


def fit(model, X=None, *, sample_weight=None, **parameters):
    X = table(model) if X is None else X
    em = VariationalEM(model, **{"random_state": 0, **parameters})
    return em.fit(X, sample_weight=sample_weight)


def quadrature(em, X, n=4001, end=10.0):
    """log p(x) of each row by the trapezoidal rule over a z of one dimension."""
    z, step = np.linspace(-end, end, n, retstep=True)
    parameters = {name: torch.tensor(value) for name, value in em.model_.parameters_.items()}
    Z = torch.from_numpy(z)[None, :, None].expand(len(X), n, 1)
    log_joint = em.model_.log_joint(torch.tensor(X)[:, None], Z, parameters)
    return logsumexp(log_joint.numpy(), axis=1) + np.log(step)


def exact_bound(em, X, n_nodes=80):
    """E_q[log p(x, z)] + H[q] of each row by Gauss-Hermite quadrature, for z of one dimension."""
    inference = em.model_._inference(X)
    q = inference._q(inference._log_joint)
    mean, scale = q.mean.numpy(), 1 / q.precision_cholesky.numpy()[..., 0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    parameters = {name: torch.tensor(value) for name, value in em.model_.parameters_.items()}
    Z = torch.from_numpy(mean + scale * nodes)[..., None]
    log_joint = em.model_.log_joint(torch.tensor(X)[:, None], Z, parameters).numpy()
    entropy = 0.5 * np.log(2 * np.pi * np.e) + np.log(scale[:, 0])
    return log_joint @ (weights / weights.sum()) + entropy


NORMAL = [
    LinearGaussian(1),
    LinearGaussian(2, "diagonal"),
    Counts(1),
    Counts(2),
    Counts(2, "diagonal"),
    Answers(2),
    Curve(),
    Square(),
]
ENUMERATED = [GaussianPair(2), GaussianPair(3), Directions(2), Directions(1)]
IN_ONE_DIMENSION = [LinearGaussian(1), Counts(1), Answers(1), Curve()]


def label(model):
    return f"{model}-{model.posterior}"


# The bound.


@pytest.mark.parametrize("model", NORMAL + ENUMERATED, ids=label)
@costly(20)
@given(seeds, st.data())
def test_no_iteration_lowers_the_bound(model, seed, data):
    X = table(model, seed, n=30)
    weight = data.draw(weights_of(len(X)))
    em = fit(model, X, sample_weight=weight, tol=0, max_iter=5, random_state=seed % 1000)
    assert np.isfinite(em.lower_bounds_).all()
    assert np.diff(em.lower_bounds_).min() >= 0
    assert em.lower_bounds_[-1] == em.lower_bound_
    assert len(em.lower_bounds_) == em.n_iter_ + 1


@pytest.mark.parametrize("model", NORMAL + ENUMERATED, ids=label)
def test_every_model_learns(model):
    em = fit(model, max_iter=20)
    assert em.lower_bound_ > em.lower_bounds_[0] + 1e-4
    assert em.n_parameters_ == sum(value.size for value in em.model_.parameters_.values())


@given(seeds, st.sampled_from(ENUMERATED), st.booleans())
@costly(4)
def test_an_enumerated_posterior_makes_the_bound_the_likelihood(seed, model, weighted):
    X = table(model, seed)
    weight = np.random.default_rng(seed).gamma(2.0, size=len(X)) if weighted else None
    em = fit(model, X, sample_weight=weight, max_iter=10)
    assert em.lower_bound_ == pytest.approx(em.score(X, sample_weight=weight), rel=1e-12)
    for method in (em.elbo, em.score_samples):
        log_density, error = method(X, return_std=True)
        np.testing.assert_array_equal(error, 0)
        np.testing.assert_array_equal(log_density, em.score_samples(X))
    np.testing.assert_allclose(em.predict_proba(X).sum(1), 1)
    np.testing.assert_array_equal(em.predict(X), em.predict_proba(X).argmax(1))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_enumeration_ends_where_exact_em_does(k):
    X = table(GaussianPair())
    em = fit(GaussianPair(k), X, tol=1e-10, max_iter=500)
    logits, means, log_scale = em.model_.parameters_.values()
    exact = EMGaussianMixture(
        k,
        covariance_type="spherical",
        reg_covar=0,
        weights_init=softmax(logits),
        means_init=means,
        precisions_init=np.exp(-2 * log_scale),
        tol=1e-10,
        max_iter=1000,
    ).fit(X)
    assert exact.lower_bounds_[0] == pytest.approx(em.lower_bound_, abs=1e-9)
    assert exact.lower_bound_ == pytest.approx(em.lower_bound_, abs=1e-6)
    np.testing.assert_allclose(em.predict_proba(X), exact.predict_proba(X), atol=1e-3)


def test_a_density_of_angles_is_that_of_scipy():
    X = table(Directions())
    em = fit(Directions(2), X)
    logits, direction, log_concentration = em.model_.parameters_.values()
    densities = vonmises.pdf(X, np.exp(log_concentration), loc=direction)
    np.testing.assert_allclose(em.score_samples(X), np.log(densities @ softmax(logits)))
    assert np.bincount(em.predict(X)).min() > 15


@pytest.mark.parametrize("k", [1, 2])
def test_where_the_posterior_is_normal_the_bound_is_log_p(k):
    X = table(LinearGaussian())
    em = fit(LinearGaussian(k), X, max_iter=30, random_state=1)
    loadings, intercept, log_scale = em.model_.parameters_.values()
    covariance = loadings.T @ loadings + np.diag(np.exp(2 * log_scale))
    exact = multivariate_normal(intercept, covariance).logpdf(X)
    np.testing.assert_allclose(em.elbo(X), exact, atol=1e-6)
    assert em.lower_bound_ == pytest.approx(exact.mean(), abs=1e-6)
    log_density, error = em.score_samples(X, return_std=True)
    assert (np.abs(log_density - exact) < 4 * error + 1e-6).all()
    precision = np.eye(k) + (loadings * np.exp(-2 * log_scale)) @ loadings.T
    mean = (X - intercept) * np.exp(-2 * log_scale) @ loadings.T @ np.linalg.inv(precision)
    np.testing.assert_allclose(em.transform(X), mean, atol=1e-6)


def test_factor_analysis_in_three_ways():
    X = table(LinearGaussian(), n=300)
    own = fit(LinearGaussian(1), X, tol=1e-5, max_iter=300)
    built_in = fit(FactorModel(1), X, tol=1e-6, max_iter=1000)
    peer = FactorAnalysis(1, tol=1e-8, max_iter=5000).fit(X)
    assert built_in.score(X) == pytest.approx(peer.score(X), abs=1e-4)
    assert own.elbo(X).mean() == pytest.approx(peer.score(X), abs=1e-3)
    assert own.score(X) == pytest.approx(peer.score(X), abs=0.05)


@pytest.mark.parametrize("model", [Counts(2), Answers(2), LinearGaussian(2)], ids=label)
def test_mean_field_lies_below_the_full_posterior_at_the_same_parameters(model):
    X = table(model)
    full = fit(model, X, max_iter=10)
    diagonal = pickle.loads(pickle.dumps(full))
    diagonal.model_.posterior = "diagonal"
    assert (diagonal.elbo(X) <= full.elbo(X) + 0.02).all()
    assert diagonal.elbo(X).mean() < full.elbo(X).mean()


# Against quadrature.


@pytest.mark.parametrize("model", [*IN_ONE_DIMENSION, Square()], ids=label)
def test_the_bound_of_each_row_has_an_honest_error(model):
    X = table(model)
    em = fit(model, X, max_iter=15)
    elbo, error = em.elbo(X, return_std=True)
    exact = exact_bound(em, X)
    assert (np.abs(elbo - exact) < 4 * error + 1e-6).all()
    assert (exact < quadrature(em, X) + 1e-6).all()
    assert em.lower_bound_ == pytest.approx(exact.mean(), abs=0.05)


@pytest.mark.parametrize("model", IN_ONE_DIMENSION, ids=label)
def test_densities_have_an_honest_error(model):
    """All rows share their points, so that an unlucky seed is unlucky everywhere."""
    X = table(model, n=20)
    em = fit(model, X, max_iter=5)
    exact = quadrature(em, X)
    ratios = []
    for seed in range(20):
        em.model_._seed = seed
        log_density, error = em.score_samples(X, return_std=True)
        ratios.append((log_density - exact) / np.maximum(error, 1e-9))
        assert error.max() < 0.1
    assert (np.abs(ratios) < 4).mean() > 0.97
    assert np.sqrt(np.mean(np.square(ratios))) < 1.5


def test_densities_have_an_honest_error_where_posteriors_have_two_modes():
    X = table(Square(), n=40)
    em = fit(Square(), X, max_iter=5)
    log_density, error = em.score_samples(X, return_std=True)
    assert (np.abs(log_density - quadrature(em, X)) < 4 * error + 1e-6).mean() > 0.9


@pytest.mark.parametrize("model", IN_ONE_DIMENSION, ids=label)
def test_fixed_points_flatter_the_bound_but_little(model):
    X = table(model)
    em = fit(model, X)
    assert em.lower_bound_ < quadrature(em, X).mean() + 0.05
    new = table(model, seed=1)
    assert em.elbo(new).mean() < quadrature(em, new).mean() + 0.05


@pytest.mark.parametrize("k", [2, 5])
def test_fixed_points_flatter_the_bound_but_little_in_more_dimensions(k):
    em = fit(Counts(k), max_iter=10)
    X = table(Counts())
    assert em.lower_bound_ < em.elbo(X).mean() + 0.05
    assert em.lower_bound_ < em.score(X) + 0.05


def test_a_density_integrates_to_one():
    angles = np.linspace(-np.pi, np.pi, 2001)[:, None]
    density = np.exp(fit(Directions(2)).score_samples(angles))
    assert np.trapezoid(density, angles[:, 0]) == pytest.approx(1, abs=1e-6)
    counts = np.arange(60.0)[:, None]
    em = fit(Counts(1), counts[:20] % 5)
    assert np.exp(em.score_samples(counts)).sum() == pytest.approx(1, abs=0.05)


# Rows and weights.


@pytest.mark.parametrize("model", [Curve(), Directions(2), Counts(1), GaussianPair(2)], ids=label)
def test_integer_weights_are_repeated_rows(model):
    X = table(model, n=40)
    weight = np.arange(len(X)) % 3
    if isinstance(model, GaussianPair):  # its start looks at the rows
        model = clone(model)
        model.initial_parameters = lambda X, rng: {
            "logits": np.zeros(2),
            "means": np.array([[0.0, 1.0], [3.0, 4.0]]),
            "log_scale": np.zeros(2),
        }
        model.__sklearn_clone__ = lambda: model
    weighted = fit(model, X, sample_weight=weight, tol=0, max_iter=4)
    repeated = fit(model, np.repeat(X, weight, axis=0), tol=0, max_iter=4)
    np.testing.assert_allclose(weighted.lower_bounds_, repeated.lower_bounds_, rtol=1e-6)
    scaled = fit(model, X, sample_weight=1e3 * weight, tol=0, max_iter=4)
    np.testing.assert_allclose(scaled.lower_bounds_, weighted.lower_bounds_, rtol=1e-9)


@pytest.mark.parametrize("model", NORMAL + ENUMERATED, ids=label)
def test_rows_do_not_see_each_other(model):
    X = table(model, n=30)
    em = fit(model, X, max_iter=2)
    for method in (em.score_samples, em.elbo, em.transform):
        whole = method(X)
        np.testing.assert_allclose(method(X[::-1])[::-1], whole, rtol=1e-6, atol=1e-8)
        one_by_one = np.concatenate([method(row[None]) for row in X[:3]])
        np.testing.assert_allclose(one_by_one, whole[:3], rtol=1e-6, atol=1e-8)
    weight = np.ones(len(X))
    weight[::2] = 0
    left_out = fit(model, X, sample_weight=weight, max_iter=2)
    absent = fit(model, X[1::2], max_iter=2)
    assert left_out.lower_bound_ == absent.lower_bound_


@pytest.mark.parametrize("model", [LinearGaussian(1), GaussianPair(2)], ids=label)
def test_single_precision_gives_single_precision(model):
    X = table(model)
    em = fit(model, X.astype(np.float32), max_iter=3)
    for method in (em.score_samples, em.elbo, em.transform):
        assert method(X.astype(np.float32)).dtype == np.float32
        assert method(X).dtype == np.float64
        np.testing.assert_allclose(method(X.astype(np.float32)), method(X), rtol=1e-3, atol=1e-3)
    assert all(value.dtype == np.float64 for value in em.model_.parameters_.values())


# What goes wrong.


class Wrong(LinearGaussian):
    """Its log joint is spoilt."""

    spoil = staticmethod(lambda log_joint: log_joint)

    def log_joint(self, X, Z, parameters):
        return self.spoil(super().log_joint(X, Z, parameters))


class WrongPair(GaussianPair):
    """The same, with states."""

    spoil = staticmethod(lambda log_joint: log_joint)

    def log_joint(self, X, Z, parameters):
        return self.spoil(super().log_joint(X, Z, parameters))


@pytest.mark.parametrize("base", [Wrong, WrongPair])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda log_joint: log_joint[..., None], r"log_joint returned \(40, \d+, 1\), expected"),
        (lambda log_joint: log_joint.sum(-1), r"log_joint returned \(40,\), expected"),
        (lambda log_joint: log_joint.mT, r"log_joint returned \(\d+, 40\), expected"),
        (lambda log_joint: None, "log_joint returned .*NoneType.*, expected a"),
        (lambda log_joint: 0.0, "log_joint returned .*float.*, expected a"),
        (lambda log_joint: log_joint.detach().numpy(), "log_joint returned .*ndarray"),
        (lambda log_joint: torch.nan * log_joint, "log_joint is not finite"),
        (lambda log_joint: log_joint - torch.inf, "log_joint is not finite"),
    ],
    ids=["three axes", "one axis", "transposed", "None", "float", "array", "nan", "inf"],
)
def test_a_wrong_log_joint_is_named(base, spoil, message):
    model = type("Model", (base,), {"spoil": staticmethod(spoil)})(2)
    with pytest.raises(ValueError, match=message):
        fit(model)


@pytest.mark.parametrize("base", [Wrong, WrongPair])
def test_a_log_joint_in_single_precision_is_understood(base):
    model = type("Model", (base,), {"spoil": staticmethod(torch.Tensor.float)})(2)
    em = fit(model, max_iter=2)
    assert em.lower_bound_ > em.lower_bounds_[0]


class Forgetful(LinearGaussian):
    """A parameter has no influence."""

    def initial_parameters(self, X, rng):
        return {**super().initial_parameters(X, rng), "unused": np.array([3.0])}

    def log_joint(self, X, Z, parameters):
        used = {name: value for name, value in parameters.items() if name != "unused"}
        return super().log_joint(X, Z, used)


def test_a_parameter_that_the_log_joint_ignores_stays_as_it_was():
    em = fit(Forgetful(1), max_iter=2)
    np.testing.assert_array_equal(em.model_.parameters_["unused"], [3.0])


class Blind(Curve):
    """What z is does not matter for x."""

    def log_joint(self, X, Z, parameters):
        scale = parameters["log_scale"].exp()
        return Normal(parameters["shape"], scale).log_prob(X).sum(-1) + log_prior(Z)


def test_a_z_that_explains_nothing_keeps_its_prior():
    X = table(Curve())
    em = fit(Blind(), X)
    np.testing.assert_allclose(em.transform(X), 0, atol=1e-6)
    expected = Normal(torch.tensor(X.mean(0)), float(np.sqrt(X.var(0).mean())))
    assert em.score(X) == pytest.approx(
        float(expected.log_prob(torch.tensor(X)).sum(-1).mean()), abs=0.05
    )


class Greedy(LinearGaussian):
    """Works on the rows in place."""

    def initial_parameters(self, X, rng):
        X -= X.mean(0)
        return super().initial_parameters(X, rng)


def test_a_model_cannot_change_the_rows():
    X = table(LinearGaussian()) + 5
    before = X.copy()
    em = fit(Greedy(1), X, tol=0, max_iter=3)
    np.testing.assert_array_equal(X, before)
    assert em.lower_bound_ == pytest.approx(em.elbo(X).mean(), abs=1e-6)


@pytest.mark.parametrize("posterior", ["ful", None, 3, "mean_field"])
def test_an_unknown_posterior_is_named(posterior):
    with pytest.raises(ValueError, match=f"posterior={posterior!r} is not one of"):
        fit(LinearGaussian(1, posterior))


def test_parameters_that_are_no_dict_are_named():
    model = type("Model", (LinearGaussian,), {"initial_parameters": lambda self, X, rng: None})(1)
    with pytest.raises((TypeError, ValueError), match="initial_parameters"):
        fit(model)


def test_the_first_parameters_must_be_finite():
    class Infinite(LinearGaussian):
        def initial_parameters(self, X, rng):
            return {**super().initial_parameters(X, rng), "intercept": np.full(4, np.nan)}

    with pytest.raises(ValueError, match="initial_parameters"):
        fit(Infinite(1))


def test_without_a_mean_there_is_no_way_back():
    with pytest.raises(NotImplementedError, match=r"Curve .*write its method mean\(Z, parameters"):
        fit(Curve(), max_iter=1).inverse_transform([[0.0]])
    em = fit(LinearGaussian(1), max_iter=1)
    np.testing.assert_allclose(em.inverse_transform([[0.0]])[0], em.model_.parameters_["intercept"])


def test_a_model_without_its_methods_cannot_be_made():
    class Half(LatentVariableModel):
        n_latent = 1

        def initial_parameters(self, X, rng):
            return {}

    with pytest.raises(TypeError, match="log_joint"):
        Half()
    assert issubclass(Half, Model)


@pytest.mark.parametrize(
    "change",
    [
        {"model": GaussianPair(3)},
        {"model": LinearGaussian(2)},
        {"model": LinearGaussian(2, "diagonal")},
        {"model": Directions(2)},
        {"model": FactorModel(2)},
        {"model": "bayesian_mixture"},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", [GaussianPair(2), LinearGaussian(1)], ids=label)
def test_a_warm_start_from_another_model_is_refused(model, change):
    X = table(LinearGaussian())
    em = fit(model, X, warm_start=True, max_iter=2)
    with pytest.raises(ValueError, match="warm_start=False"):
        em.set_params(**change).fit(X)
    assert type(em.model_) is type(model)


def test_a_warm_start_on_another_number_of_columns_is_refused():
    X = table(LinearGaussian())
    em = fit(LinearGaussian(1), X, warm_start=True, max_iter=2)
    with pytest.raises(ValueError, match=r"features|columns|warm_start"):
        em.fit(X[:, :2])
    assert np.isfinite(em.score(X))


class Cliff(Curve):
    """Once it has learned something, it breaks at the narrow q from which rows begin anew."""

    def log_joint(self, X, Z, parameters):
        narrow = (Z.std(1, keepdim=True) - 0.2).abs()[..., 0] < 0.003
        broken = narrow & (parameters["log_scale"] != -1.0)
        return torch.where(broken, torch.nan, super().log_joint(X, Z, parameters))


def test_rows_that_cannot_begin_anew_stay_where_they_are():
    em = fit(Cliff(), max_iter=20)
    assert np.isfinite(em.lower_bounds_).all()
    assert np.diff(em.lower_bounds_).min() >= 0


# In company.


def test_states_are_predicted_only_where_there_are_states():
    for model in ENUMERATED:
        for em in (VariationalEM(model), fit(model, max_iter=1)):
            assert hasattr(em, "predict")
            assert hasattr(em, "predict_proba")
    for model in (LinearGaussian(1), Curve()):
        for em in (VariationalEM(model), fit(model, max_iter=1)):
            assert not hasattr(em, "predict")
            assert not hasattr(em, "predict_proba")


@pytest.mark.parametrize("model", [GaussianPair(1), LinearGaussian(1)], ids=label)
def test_a_search_over_sizes(model):
    X = table(model)
    grid = {"model__n_components": [1, 2]}
    search = GridSearchCV(VariationalEM(model, max_iter=10, random_state=0), grid, cv=2)
    search.fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert best.transform(X).shape == (40, best.model_.n_components)
    assert model.n_components == 1
    if isinstance(model, GaussianPair):
        assert best.model_.n_components == 2


@pytest.mark.parametrize(
    "model", [Counts(1), LinearGaussian(2, "diagonal"), *ENUMERATED[1:3]], ids=label
)
def test_pickles_and_clones(model):
    X = table(model)
    em = fit(model, X, max_iter=1)
    again = pickle.loads(pickle.dumps(em))
    for method in ("score_samples", "elbo", "transform"):
        np.testing.assert_array_equal(getattr(again, method)(X), getattr(em, method)(X))
    np.testing.assert_array_equal(again.sample(5, 0)[0], em.sample(5, 0)[0])
    copy = clone(em)
    assert not hasattr(copy, "model_")
    assert not hasattr(copy.model, "parameters_")
    assert copy.model.get_params() == model.get_params()
    assert copy.fit(X).lower_bound_ == em.lower_bound_
    assert not hasattr(model, "parameters_")


@pytest.mark.parametrize("model", [Directions(2), Counts(1), Curve()], ids=label)
def test_samples_follow_the_model(model):
    """Another fit to them finds as good a density as the one they are from."""
    em = fit(model, max_iter=10)
    X, Z = em.sample(600, random_state=0)
    assert X.shape == (600, em.n_features_in_)
    assert len(Z) == 600
    again = fit(model, X[:300], max_iter=10)
    assert again.score(X[300:]) == pytest.approx(em.score(X[300:]), abs=0.1)
