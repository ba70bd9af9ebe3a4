"""What is true of every VAE: its densities, its bounds, its units."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA, FactorAnalysis

from skemvae import VAEEstimator
from skemvae.likelihoods import Gaussian
from tests.laws import costly

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def linear_table():
    rng = np.random.default_rng(0)
    loadings = rng.standard_normal((2, 5))
    return rng.standard_normal((500, 2)) @ loadings + 0.5 * rng.standard_normal((500, 5))


LINEAR = linear_table()
QUICK = {"hidden_layer_sizes": (16,), "max_iter": 20, "random_state": 0}


def quick(**parameters):
    return VAEEstimator(**{**QUICK, **parameters})


@pytest.mark.parametrize(
    ("variance", "peer"), [("shared", PCA(2)), ("feature", FactorAnalysis(2, tol=1e-6))]
)
def test_linear_networks_reach_the_maximum_likelihood_of_the_closed_form(variance, peer):
    vae = VAEEstimator(
        2,
        hidden_layer_sizes=(),
        likelihood=Gaussian(variance),
        standardize=False,
        early_stopping=False,
        learning_rate="cosine",
        learning_rate_init=1e-2,
        max_iter=300,
        gradient="doubly_reparameterized",
        n_score_samples=1024,
        random_state=0,
    ).fit(LINEAR)
    decoder = vae.module_.double().decoder
    loadings, offset = decoder.outputs.weight.detach().numpy(), decoder.outputs.bias.detach()
    noise = np.exp(decoder.heads[0].log_variance.detach().numpy()) + 1e-6
    covariance = loadings @ loadings.T + np.diag(np.broadcast_to(noise, 5))
    exact = multivariate_normal(offset, covariance).logpdf(LINEAR)
    best = peer.fit(LINEAR).score(LINEAR)
    assert best - 0.02 < exact.mean() < best + 1e-3
    log_density, error = vae.score_samples(LINEAR, return_std=True)
    assert (np.abs(log_density - exact) < 4 * error + 1e-6).mean() > 0.995  # of 500 rows
    np.testing.assert_allclose(log_density.mean(), exact.mean(), atol=1e-3)
    assert (vae.elbo(LINEAR) <= exact + 1e-6).all()


CONTINUOUS = [
    {},
    {"likelihood": [("lognormal", [1]), ("gaussian", [0])], "prior": "mixture"},
    {"likelihood": Gaussian("row")},
    {"likelihood": "student_t", "prior": "mixture"},
    {"prior": "vamp", "objective": "iwae", "n_importance_samples": 4},
    {"likelihood": [("student_t", [0]), (Gaussian("shared"), [1])], "standardize": False},
]


@pytest.mark.parametrize("parameters", CONTINUOUS, ids=str)
def test_a_density_integrates_to_one(parameters):
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, 2 * np.pi, 400)
    ring = np.c_[3 * np.cos(angle), 5 + np.sin(angle)] + rng.normal(0, 0.2, (400, 2))
    vae = quick(n_components=2, n_score_samples=512, **parameters).fit(ring)
    x, y = np.linspace(-9, 9, 72), np.linspace(-1, 11, 60)
    if "lognormal" in str(parameters):
        y = y[y > 0]
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    mass = np.exp(vae.score_samples(grid)).sum() * (x[1] - x[0]) * (y[1] - y[0])
    # Student's tails reach beyond every grid.
    tolerance = 0.04 if "student_t" in str(parameters) else 0.01
    assert mass == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("prior", ["normal", "mixture", "vamp"])
def test_the_probabilities_of_all_binary_vectors_sum_to_one(prior):
    every = np.array(list(itertools.product([0.0, 1.0], repeat=8)))
    rng = np.random.default_rng(1)
    X = (rng.uniform(size=(300, 8)) < 1 / (1 + np.exp(-rng.normal(0, 3, (300, 1))))).astype(float)
    vae = quick(likelihood="bernoulli", prior=prior, n_score_samples=1024).fit(X)
    assert np.exp(vae.score_samples(every)).sum() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_the_probabilities_of_all_counts_sum_to_one(likelihood):
    rng = np.random.default_rng(1)
    X = rng.poisson(np.exp(rng.normal(0.5, 0.5, (300, 1))), (300, 2)).astype(float)
    vae = quick(likelihood=likelihood, n_components=1).fit(X)
    every = np.array(list(itertools.product(range(60), repeat=2)), dtype=float)
    assert np.exp(vae.score_samples(every)).sum() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("likelihood", ["gaussian", "student_t", Gaussian("row")], ids=str)
def test_units_that_are_powers_of_two_change_the_score_by_exactly_their_volume(likelihood):
    X = LINEAR[:80]
    here = quick(likelihood=likelihood, max_iter=5).fit(X)
    scores, Z = here.score_samples(X), here.transform(X)
    for scale in (2.0, -8.0, 2.0**-300, 2.0**300, [4.0, -0.5, 1, 2, 16]):
        there = quick(likelihood=likelihood, max_iter=5).fit(X * scale)
        jacobian = np.log(np.abs(np.broadcast_to(scale, 5))).sum()
        np.testing.assert_allclose(there.score_samples(X * scale), scores - jacobian, rtol=1e-12)
        np.testing.assert_array_equal(there.transform(X * scale), Z)
        np.testing.assert_allclose(there.lower_bounds_, here.lower_bounds_ - jacobian, rtol=1e-12)


@costly(8)
@given(st.floats(-100, 100).filter(lambda a: abs(a) > 1e-3), st.sampled_from([0.0, 7.3, -1e8]))
def test_other_units_change_it_closely(scale, offset):
    X = LINEAR[:80]
    here, there = quick(max_iter=3).fit(X), quick(max_iter=3).fit(X * scale + offset)
    difference = there.score_samples(X * scale + offset) - here.score_samples(X)
    np.testing.assert_allclose(difference, -5 * np.log(abs(scale)), atol=1e-3)


def mixed_table(colours):
    rng = np.random.default_rng(1)
    group = rng.integers(0, 3, 300)
    return pd.DataFrame(
        {
            "length": rng.normal(group, 0.3),
            "colour": np.array(colours, dtype=object)[group],
            "count": rng.poisson(group + 1.0),
            "flag": (rng.uniform(size=300) < 0.2 + 0.3 * group).astype(int),
        }
    )


MIXED = [
    ("gaussian", ["length"]),
    ("categorical", ["colour"]),
    ("poisson", ["count"]),
    ("bernoulli", ["flag"]),
]


def test_scores_of_mixed_tables_do_not_depend_on_the_names_of_labels():
    table = mixed_table(["red", "green", "blue"])
    renamed = table.assign(colour=table["colour"].map({"red": 7, "green": -1, "blue": 0}))
    one, other = quick(likelihood=MIXED).fit(table), quick(likelihood=MIXED).fit(renamed)
    np.testing.assert_array_equal(one.score_samples(table), other.score_samples(renamed))
    back = {7: "red", -1: "green", 0: "blue"}
    X, X_renamed = (vae.sample(50, random_state=0)[0] for vae in (one, other))
    assert [back[label] for label in X_renamed[:, 1]] == list(X[:, 1])


def test_a_mixed_table_comes_back_in_its_own_columns_and_units():
    table = mixed_table(["red", "green", "blue"])
    vae = quick(likelihood=MIXED, max_iter=100, n_components=3).fit(table)
    X = vae.inverse_transform(vae.transform(table))
    assert X.dtype == object
    assert np.corrcoef(X[:, 0].astype(float), table["length"])[0, 1] > 0.9
    assert (X[:, 1] == table["colour"]).mean() > 0.8
    assert X[:, 2].astype(float).mean() == pytest.approx(table["count"].mean(), rel=0.1)
    drawn, _ = vae.sample(2000, random_state=0)
    shares = pd.Series(drawn[:, 1]).value_counts(normalize=True)
    for label, share in table["colour"].value_counts(normalize=True).items():
        assert shares[label] == pytest.approx(share, abs=0.08)


def test_a_label_that_fit_has_not_seen_is_improbable_but_possible():
    table = mixed_table(["red", "green", "blue"])
    vae = quick(likelihood=MIXED).fit(table)
    strange = table.assign(colour="mauve")
    log_probability = vae.score_samples(strange)
    assert np.isfinite(log_probability).all()
    assert (log_probability < vae.score_samples(table)).mean() > 0.9


def test_samples_have_the_scores_of_the_rows_they_imitate():
    vae = quick(max_iter=100).fit(LINEAR)
    X, Z = vae.sample(500, random_state=1)
    assert vae.score(X) == pytest.approx(vae.score(LINEAR), abs=0.5)
    np.testing.assert_allclose(np.cov(X.T), np.cov(LINEAR.T), atol=0.6)
    np.testing.assert_allclose(Z.mean(0), 0, atol=0.2)


def test_more_samples_raise_the_importance_bound_in_expectation():
    vae = quick(likelihood=Gaussian("row"), n_components=4, max_iter=10).fit(LINEAR)

    def expected_score(n_samples):
        vae.set_params(n_score_samples=n_samples)
        scores = []
        for vae._score_seed in range(20):
            scores.append(vae.score(LINEAR))
        return np.mean(scores)

    few, some, many = map(expected_score, (1, 16, 256))
    assert few + 0.1 < some < many - 0.01
    assert vae.elbo(LINEAR).mean() < some


def test_the_iwae_bound_lies_between_the_elbo_and_the_log_density():
    vae = quick(
        max_iter=10,
        n_components=4,
        likelihood=Gaussian("row"),
        early_stopping=False,
        objective="iwae",
        n_importance_samples=8,
    ).fit(LINEAR)
    assert vae.elbo(LINEAR).mean() + 0.05 < vae.lower_bound_ < vae.score(LINEAR) - 0.02


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_components_of_the_prior_have_the_posterior_of_quadrature(likelihood):
    """p(c | x) is proportional to the integral of p(x | z) p(z, c) over z."""
    rng = np.random.default_rng(0)
    centre = rng.choice([0.5, 2.0, 3.0], 300)[:, None]
    X = rng.poisson(np.exp(centre), (300, 4)).astype(float)
    vae = quick(
        n_components=1,
        likelihood=likelihood,
        prior="mixture",
        n_prior_components=4,
        n_score_samples=8192,
    ).fit(X)
    rows = X[:8]
    probabilities = vae.predict_proba(rows)
    assert probabilities.shape == (8, 4)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    np.testing.assert_array_equal(vae.predict(rows), probabilities.argmax(1))
    np.testing.assert_array_equal(vae.predict_proba(rows), probabilities)
    np.testing.assert_allclose(vae.predict_proba(rows[3:5]), probabilities[3:5], rtol=1e-12)
    networks = vae.module_.double().requires_grad_(False)
    prior = networks.prior_density()
    z = torch.linspace(-12, 12, 2001, dtype=torch.float64)[:, None]
    scale, mean = prior.log_scale.exp(), prior.mean
    log_joint = stats.norm(mean.T.numpy(), scale.T.numpy()).logpdf(z.numpy())
    log_joint = log_joint + prior.log_weight.numpy()
    codes = torch.from_numpy(vae._table.encode(rows, np.float64, exact=True))
    log_likelihood = networks.decoder.log_prob(codes, z[None]).numpy()
    total = logsumexp(log_likelihood[:, :, None] + log_joint, axis=1)
    exact = np.exp(total - logsumexp(total, axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, exact, atol=0.02)
    assert np.ptp(exact, axis=0).max() > 0.2  # else nothing was told apart
    single = vae.predict_proba(rows.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, probabilities, atol=1e-3)
    far = vae.predict_proba(np.full((1, 4), 1e6))
    np.testing.assert_allclose(far.sum(), 1)


@pytest.mark.parametrize("prior", ["normal", "vamp"])
def test_only_a_mixture_has_components_to_predict(prior):
    for vae in (quick(prior=prior), quick(prior=prior, max_iter=1).fit(LINEAR[:50])):
        assert not hasattr(vae, "predict")
        assert not hasattr(vae, "predict_proba")
    assert hasattr(quick(prior="mixture"), "predict")
    fitted = quick(prior="mixture", max_iter=1).fit(LINEAR[:50]).set_params(prior="normal")
    assert fitted.predict(LINEAR[:3]).shape == (3,)
