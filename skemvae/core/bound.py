"""The free energy (bound) and its relatives, for each row, in nats.

The bounds take the same three arrays, whose last axis is the *latent axis*
L: either the K enumerated states of a discrete z, weighted by their
responsibilities, or S samples of a continuous z, each weighted 1/S. Both
NumPy arrays and torch tensors are accepted.

``log_joint``
    log p(x, z_l), shape (n, L).
``log_q``
    log q(z_l | x), shape (n, L).
``weight``
    The weight of state l in the expectation under q, shape (n, L). A state of
    weight zero contributes nothing, whatever its logarithms are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skemvae.core.arrays import Array


def _namespace(x: Any) -> Any:
    """Return numpy or torch, whichever ``x`` belongs to, without importing torch."""
    return sys.modules[type(x).__module__.partition(".")[0]]


def free_energy(log_joint: Any, log_q: Any, weight: Any) -> Any:
    """Return E_q[log p(x, z) - log q(z | x)], the evidence lower bound of each row.

    Returns
    -------
    array of shape (n,)
        Nats. It equals ``log_evidence(log_joint)`` when q is the exact
        posterior, and lies below it by KL(q || p(z | x)) otherwise.

    References
    ----------
    Neal and Hinton (1998), "A view of the EM algorithm that justifies
    incremental, sparse, and other variants".
    """
    xp = _namespace(log_joint)
    zero = xp.zeros_like(log_joint)
    # Both logarithms may be -inf where the weight is 0: mask before subtracting.
    difference = xp.where(weight > 0, log_joint, zero) - xp.where(weight > 0, log_q, zero)
    return (weight * difference).sum(-1)


def importance_bound(log_joint: Any, log_q: Any, weight: Any) -> Any:
    """Return log sum_l w_l p(x, z_l) / q(z_l | x), the importance-weighted bound of each row.

    Returns
    -------
    array of shape (n,)
        Nats. With samples, its expectation lies between the free energy and
        log p(x); with all states enumerated, it is log p(x).

    References
    ----------
    Burda, Grosse and Salakhutdinov (2016), "Importance weighted autoencoders".
    """
    xp = _namespace(log_joint)
    zero = xp.zeros_like(log_joint)
    ratio = xp.where(weight > 0, log_joint, zero) - xp.where(weight > 0, log_q, zero)
    ratio = xp.where(weight > 0, ratio, zero - xp.inf)
    largest = xp.amax(ratio, -1)
    shift = xp.where(xp.isfinite(largest), largest, xp.zeros_like(largest))
    return xp.log((weight * xp.exp(ratio - shift[..., None])).sum(-1)) + shift


def log_conditionals(log_joint: Any, log_given: Any) -> Any:
    """Return log p(x_j | all other columns) for each column j.

    Since p(x_-j, z) = p(x, z) / p(x_j | z, x_-j), the posterior mean of
    1 / p(x_j | z, x_-j) is 1 / p(x_j | x_-j).

    Parameters
    ----------
    log_joint : array of shape (n, L)
        log p(x, z_l) for all states; for samples, the log weights
        log p(x, z_l) - log q(z_l | x). A constant that all l share cancels.
    log_given : array of shape (n, L, d)
        log p(x_j | z_l, x_-j).

    Returns
    -------
    array of shape (n, d)
        Nats; -inf where it underflows. Where p(x) underflows in all states,
        they count equally.

    References
    ----------
    Gelfand, Dey and Chang (1992), "Model determination using predictive
    distributions", give the identity for rows.
    """
    xp = _namespace(log_joint)
    zero = xp.zeros_like(log_joint)
    largest = xp.amax(log_joint, -1)[:, None]
    reachable = xp.isfinite(largest)
    # Relative to the largest, so that a single state loses no precision.
    log_joint = xp.where(reachable, log_joint, zero) - xp.where(reachable, largest, zero[:, :1])
    with np.errstate(invalid="ignore"):
        without = log_joint[:, :, None] - log_given
    without = xp.where(xp.isnan(without), -xp.inf, without)  # -inf - -inf: an impossible state
    return _log_sum_exp(log_joint)[:, None] - _log_sum_exp(without)


def _log_sum_exp(x: Any) -> Any:
    """log sum exp over axis 1."""
    xp = _namespace(x)
    largest = xp.amax(x, 1)
    shift = xp.where(xp.isfinite(largest), largest, xp.zeros_like(largest))
    with np.errstate(divide="ignore"):
        return xp.log(xp.exp(x - shift[:, None]).sum(1)) + shift


@dataclass(frozen=True)
class Posterior:
    """The exact posterior over K enumerated states, by Bayes' rule.

    Attributes
    ----------
    log_joint : array of shape (n, K)
    weight : array of shape (n, K)
        The responsibilities p(z | x); each row sums to 1.
    log_evidence : array of shape (n,)
        log p(x), nats.
    """

    log_joint: Array
    weight: Array
    log_evidence: Array

    @classmethod
    def exact(cls, log_joint: Array, out: Array | None = None) -> Posterior:
        """Normalise ``log_joint`` over its last axis, writing the weights to ``out``.

        ``out`` may be ``log_joint`` itself; then ``log_joint`` is lost, and with it
        ``log_q``, ``entropy`` and ``kl``. Where p(x) underflows in every state, the
        evidence is -inf and all states have the same weight.
        """
        largest = log_joint.max(-1, keepdims=True)
        unreachable = ~np.isfinite(largest[..., 0])
        if unreachable.any():
            largest = np.where(unreachable[..., None], 0.0, largest)
        weight = np.subtract(log_joint, largest, out=out)
        np.exp(weight, out=weight)
        if unreachable.any():
            weight[unreachable] = 1.0
        total = weight.sum(-1, keepdims=True)
        weight *= 1 / total  # faster than dividing
        log_evidence = (largest + np.log(total))[..., 0]
        log_evidence[unreachable] = -np.inf
        return cls(log_joint, weight, log_evidence)

    @cached_property
    def log_q(self) -> Array:
        """log p(z | x), shape (n, K); precise even where the weight underflows."""
        reachable = np.isfinite(self.log_evidence)[..., None]
        log_q: Array = self.log_joint - np.where(reachable, self.log_evidence[..., None], 0.0)
        return np.where(reachable, log_q, -np.log(self.weight.shape[-1]))

    @property
    def entropy(self) -> Array:
        """H[q] of each row, shape (n,), nats."""
        entropy: Array = -free_energy(self.log_q, np.zeros_like(self.log_q), self.weight)
        return entropy

    def kl(self, log_prior: Array) -> Array:
        """KL(q || p(z)) of each row, shape (n,), nats, for a prior of shape (K,)."""
        prior = np.broadcast_to(log_prior, self.weight.shape)
        kl: Array = -free_energy(prior, self.log_q, self.weight)
        return kl


# The posteriors a fit can use, by the name that users give. Each takes log p(x, z) of shape
# (n, K), and returns a posterior whose ``weight`` is q and whose ``log_evidence`` is the
# free energy of q. Only with "exact" is that log p(x).
POSTERIORS: dict[str, Callable[..., Posterior]] = {"exact": Posterior.exact}
