"""Merges in closed form, against exact evidence and passes over the rows."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import xlogy

from skemvae.core.rows import Rows
from skemvae.engine.passes.numpy_pass import moments_given
from skemvae.mixtures.bayesian_mixture import BayesianMixture, Parameters
from skemvae.mixtures.hyperprior import Hyperprior
from skemvae.mixtures.merging import merged
from skemvae.mixtures.normal_wishart import NormalWishart
from skemvae.mixtures.weights import MIXING_WEIGHTS
from skemvae.structures.registry import STRUCTURES
from tests.conjugacy import log_evidence_given_labels, log_prior_of_labels
from tests.passes import em_on
from tests.strategies import CONJUGATE, conjugates, seeds

KINDS = sorted(MIXING_WEIGHTS)
kinds = st.sampled_from(KINDS)


def mixture_of_no_row(structure, kind, k, d, is_fitted=False):
    """With the prior of a standard normal table."""
    unit = STRUCTURES[structure].identity(k, d)
    components = NormalWishart(np.zeros((k, d)), np.ones(k), np.full(k, d + 1.0), unit)
    prior = Parameters(MIXING_WEIGHTS[kind].prior(k, 1 / k), components)
    hyperprior = Hyperprior(components, np.full(d, 1e-9), is_fitted, is_fitted)
    return BayesianMixture(prior, prior, hyperprior)


def moments_of(structure, X, r):
    unit = STRUCTURES[structure].identity(r.shape[1], X.shape[1])
    return moments_given(r, unit, Rows.of(X, None))


@example("diag", "dirichlet_process", 2, 1, 23)  # as many rows in both
@given(conjugates, kinds, st.integers(1, 4), st.integers(1, 3), seeds)
def test_the_value_of_labels_is_their_evidence(structure, kind, k, d, seed):
    """log p(X, labels): labels have no entropy."""
    rng = np.random.default_rng(seed)
    X, labels = 2 * rng.standard_normal((8, d)), rng.integers(k, size=8)
    model = mixture_of_no_row(structure, kind, k, d)
    order = model.prior.weights.order(np.bincount(labels, minlength=k).astype(float))
    labels = np.argsort(order)[labels]
    moments = moments_of(structure, X, np.eye(k)[labels])
    evidence = log_evidence_given_labels(
        structure, X, labels, k, np.zeros(d), 1.0, d + 1.0, (d + 1) * np.eye(d)
    )
    expected = evidence + log_prior_of_labels(kind, labels, k, 1 / k)
    value = model.settled(moments, 1).value(moments)
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)


@given(conjugates, kinds, st.integers(1, 4), seeds, st.booleans())
def test_an_e_step_raises_value_and_entropy(structure, kind, k, seed, is_fitted):
    """They are the bound before it."""
    rng = np.random.default_rng(seed)
    X, r = 2 * rng.standard_normal((12, 2)), rng.dirichlet(np.ones(k), 12)
    model = mixture_of_no_row(structure, kind, k, 2, is_fitted)
    r = r[:, model.prior.weights.order(r.sum(0))]
    moments = moments_of(structure, X, r)
    model = model.settled(moments, 3)
    before = model.value(moments) - xlogy(r, r).sum()
    after = 12 * em_on(Rows.of(X, None)).start(model).bound
    assert after >= before - 1e-9 * max(1.0, abs(after))


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_clusters", [1, 3])
def test_parts_of_clusters_become_clusters_at_once(structure, kind, n_clusters):
    """Each cluster is divided among five components by chance."""
    rng = np.random.default_rng(0)
    n, d, k = 300, 3, 5 * n_clusters
    cluster = np.arange(n) % n_clusters
    X = rng.standard_normal((n, d)) + 10 * rng.standard_normal((n_clusters, d))[cluster]
    X = (X - X.mean(0)) / X.std(0).mean()
    labels = 5 * cluster + rng.integers(5, size=n)
    rows = Rows.of(X, None)
    moments = moments_of(structure, X, np.eye(k)[labels])
    model = mixture_of_no_row(structure, kind, k, d, True).settled(moments, 5)
    best = merged(model, moments, rows)
    assert (em_on(rows).start(best).expectation.moments.count > 1).sum() == n_clusters
