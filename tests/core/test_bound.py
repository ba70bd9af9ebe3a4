"""Laws of the free energy: log p(x) - F = KL >= 0, zero when q is exact; NumPy and torch alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from skemvae.core.bound import Posterior, free_energy, importance_bound
from tests.strategies import seeds


def joint_and_q(seed, n=6, k=4):
    rng = np.random.default_rng(seed)
    log_joint = 5 * rng.standard_normal((n, k))
    log_q = rng.standard_normal((n, k))
    return log_joint, log_q - logsumexp(log_q, axis=1, keepdims=True)


@given(seeds)
def test_evidence_minus_free_energy_is_the_divergence(seed):
    log_joint, log_q = joint_and_q(seed)
    evidence = logsumexp(log_joint, axis=1)
    log_posterior = log_joint - evidence[:, None]
    divergence = (np.exp(log_q) * (log_q - log_posterior)).sum(1)
    gap = evidence - free_energy(log_joint, log_q, np.exp(log_q))
    np.testing.assert_allclose(gap, divergence, atol=1e-12)
    assert (gap >= -1e-12).all()


@given(seeds)
def test_exact_posterior_closes_the_gap(seed):
    log_joint, _ = joint_and_q(seed)
    q = Posterior.exact(log_joint)
    evidence = logsumexp(log_joint, axis=1)
    np.testing.assert_allclose(q.log_evidence, evidence, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(q.weight.sum(1), 1)
    np.testing.assert_allclose(np.exp(q.log_q), q.weight, rtol=1e-12)
    np.testing.assert_allclose(free_energy(log_joint, q.log_q, q.weight), evidence, atol=1e-12)


@given(seeds)
def test_both_forms_of_the_free_energy_agree(seed):
    """E_q[log p(x|z)] - KL(q||p(z)) = log p(x) - KL(q||p(z|x)), the entropy form too."""
    log_likelihood, log_prior = joint_and_q(seed)
    log_prior = log_prior[0]
    q = Posterior.exact(log_likelihood + log_prior)
    reconstruction = (q.weight * log_likelihood).sum(1)
    np.testing.assert_allclose(reconstruction - q.kl(log_prior), q.log_evidence, atol=1e-12)
    energy = (q.weight * (log_likelihood + log_prior)).sum(1)
    np.testing.assert_allclose(energy + q.entropy, q.log_evidence, atol=1e-12)
    assert (q.kl(log_prior) >= -1e-12).all()
    assert (q.entropy >= 0).all()


@given(seeds)
def test_importance_bound_of_all_states_is_the_evidence(seed):
    log_joint, log_q = joint_and_q(seed)
    bound = importance_bound(log_joint, log_q, np.exp(log_q))
    np.testing.assert_allclose(bound, logsumexp(log_joint, axis=1), rtol=1e-12)


@given(seeds, st.integers(1, 20))
def test_importance_bound_of_samples_is_above_their_free_energy(seed, n_samples):
    log_joint, log_q = joint_and_q(seed, k=n_samples)
    weight = np.full_like(log_joint, 1 / n_samples)
    lower = free_energy(log_joint, log_q, weight)
    assert (importance_bound(log_joint, log_q, weight) >= lower - 1e-12).all()


def test_zero_weight_contributes_nothing():
    log_joint = np.array([[0.0, -np.inf]])
    q = Posterior.exact(log_joint)
    assert q.weight.tolist() == [[1.0, 0.0]]
    assert free_energy(log_joint, q.log_q, q.weight) == 0.0
    assert importance_bound(log_joint, q.log_q, q.weight) == 0.0
    assert q.entropy == 0.0


def test_unreachable_row_has_no_evidence_and_no_favourite():
    q = Posterior.exact(np.full((1, 4), -np.inf))
    assert q.log_evidence == -np.inf
    assert q.weight.tolist() == [[0.25] * 4]
    assert free_energy(q.log_joint, q.log_q, q.weight) == -np.inf


def test_torch_and_numpy_share_the_expressions():
    torch = pytest.importorskip("torch")
    log_joint, log_q = joint_and_q(0)
    arrays = log_joint, log_q, np.exp(log_q)
    tensors = [torch.tensor(array) for array in arrays]
    for function in (free_energy, importance_bound):
        np.testing.assert_allclose(function(*tensors).numpy(), function(*arrays), rtol=1e-14)
