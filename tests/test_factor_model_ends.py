"""Where fits of factor models end: what is called converged gains no more than it says."""

import numpy as np
import pytest

from skemvae import VariationalEM
from skemvae.models import FactorModel
from tests.test_factor_model_laws import LIKELIHOODS, assert_no_fall, table

TOL = 1e-3
# Normal columns are fitted by a quasi-Newton method, up to their maximum.
CLIMBED = [kind for kind in LIKELIHOODS if kind not in ("gaussian", "shared", "lognormal")]


def climbed(model, X, tol=TOL, sample_weight=None, **parameters):
    em = VariationalEM(model, tol=tol, random_state=0, **parameters)
    em.fit(X, sample_weight=sample_weight)
    assert em.converged_
    assert_no_fall(em.lower_bounds_)
    return em


def further(em, X, sample_weight=None, n_iter=200):
    """The gain of so many plain iterations, from where a fit has ended."""
    bound = em.lower_bound_
    em.set_params(warm_start=True, acceleration=None, tol=0, max_iter=n_iter)
    with pytest.warns(match="did not converge"):
        em.fit(X, sample_weight=sample_weight)
    assert_no_fall(em.lower_bounds_[-n_iter - 1 :])
    return em.lower_bound_ - bound


@pytest.mark.parametrize("kind", CLIMBED)
def test_a_default_fit_that_has_converged_gains_no_more_than_it_says(kind):
    X = table(kind, 40, 4)
    em = climbed(FactorModel(1, LIKELIHOODS[kind]), X)
    assert further(em, X) < 2 * TOL


def test_a_saddle_is_not_the_end():
    """Gains are small there, but grow."""
    X = table("row", 40, 4, seed=4)
    em = climbed(FactorModel(1, LIKELIHOODS["row"]), X)
    assert further(em, X) < 2 * TOL


@pytest.mark.parametrize(("k", "bound"), [(1, -1.34), (2, -1.45)])
def test_labels_that_determine_each_other(k, bound):
    """Loadings grow, ever slower. The table of 450 rows, each kind of row once."""
    counts = np.bincount(np.random.default_rng(0).integers(0, 3, 450)).astype(float)
    X = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 0.0]])
    em = climbed(FactorModel(k, "categorical"), X, sample_weight=counts)
    assert em.lower_bound_ > bound
    assert np.average(em.score_samples(X), weights=counts) > em.lower_bound_ + 0.1
    assert further(em, X, sample_weight=counts) < 2 * TOL


def test_items_have_the_loadings_of_a_long_climb():
    rng = np.random.default_rng(0)
    discrimination, ease = rng.uniform(0.5, 2.5, 12), rng.standard_normal(12)
    ability = rng.standard_normal((500, 1))
    X = (rng.logistic(size=(500, 12)) < ability * discrimination + ease).astype(float)
    model = FactorModel(1, "bernoulli")
    em, end = (climbed(model, X, tol=tol, max_iter=2000) for tol in (TOL, 1e-8))
    loadings, at_the_end = (np.abs(each.model_.loadings_[:, 0]) for each in (em, end))
    np.testing.assert_allclose(loadings, at_the_end, rtol=0.02)


@pytest.mark.parametrize("kind", ["bernoulli", "poisson"])
def test_acceleration_ends_no_lower_than_plain_em_and_earlier(kind):
    X = table(kind, 100, 6)
    model = FactorModel(1, LIKELIHOODS[kind])
    plain, fast = (
        climbed(model, X, tol=1e-5, max_iter=3000, acceleration=how) for how in (None, "auto")
    )
    assert fast.n_iter_ < 0.7 * plain.n_iter_
    assert fast.lower_bound_ > plain.lower_bound_ - 2e-5
