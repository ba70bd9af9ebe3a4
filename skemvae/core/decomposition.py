"""The decomposition of log p(x) into the parts of the bound and its gaps, for each row."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from skemvae.core.arrays import AnyArray
from skemvae.core.bound import free_energy, importance_bound
from skemvae.optional import require

if TYPE_CHECKING:
    from pandas import DataFrame

# Properties that are computed from the fields.
_DERIVED = ("expected_log_likelihood", "gap", "gap_std", "approximation_gap")


@dataclass(frozen=True)
class BoundDecomposition:
    """The parts of log p(x) under a posterior q(z|x), for each row, in nats.

    For each row:

    - log_likelihood = elbo + gap,
    - elbo = expected_log_likelihood - kl_to_prior,
    - gap = approximation_gap + amortisation_gap.

    Attributes
    ----------
    log_likelihood : ndarray of shape (n_samples,)
        log p(x), exact or by importance sampling, in the units of X.
    elbo : ndarray of shape (n_samples,)
        The evidence lower bound, E_q[log p(x, z)] + H[q], in the units of X.
    kl_to_prior : ndarray of shape (n_samples,)
        KL(q(z|x) || p(z)): how much the row says about z. NaN if a custom model
        does not give its prior.
    amortisation_gap : ndarray of shape (n_samples,)
        The loss of an encoder against the best q of its family for this row; 0
        if each row has its own q.
    log_likelihood_std, elbo_std, amortisation_gap_std : ndarray of shape (n_samples,)
        Standard errors; 0 where a value is exact.
    expected_log_likelihood : ndarray of shape (n_samples,)
        E_q[log p(x|z)]: how well z explains the row, in the units of X.
    gap : ndarray of shape (n_samples,)
        KL(q(z|x) || p(z|x)).
    gap_std : ndarray of shape (n_samples,)
        Its standard error.
    approximation_gap : ndarray of shape (n_samples,)
        The gap that remains with the best q of the family.

    References
    ----------
    Cremer, Li and Duvenaud (2018), "Inference suboptimality in variational
    autoencoders".
    """

    log_likelihood: AnyArray
    elbo: AnyArray
    kl_to_prior: AnyArray
    amortisation_gap: AnyArray
    log_likelihood_std: AnyArray
    elbo_std: AnyArray
    amortisation_gap_std: AnyArray

    @classmethod
    def own_posteriors(
        cls,
        log_likelihood: AnyArray,
        log_likelihood_std: AnyArray,
        elbo: AnyArray,
        elbo_std: AnyArray,
        kl: AnyArray,
    ) -> BoundDecomposition:
        """Build the decomposition for a posterior in which each row has its own q."""
        zero = np.zeros_like(elbo)
        return cls(log_likelihood, elbo, kl, zero, log_likelihood_std, elbo_std, zero)

    @property
    def expected_log_likelihood(self) -> AnyArray:
        """E_q[log p(x|z)], shape (n_samples,)."""
        return self.elbo + self.kl_to_prior

    @property
    def gap(self) -> AnyArray:
        """KL(q(z|x) || p(z|x)), shape (n_samples,)."""
        unreachable = np.isneginf(self.log_likelihood) & np.isneginf(self.elbo)
        return np.where(unreachable, 0.0, self.log_likelihood) - np.where(
            unreachable, 0.0, self.elbo
        )

    @property
    def gap_std(self) -> AnyArray:
        """Standard error of the gap, shape (n_samples,)."""
        return np.hypot(self.log_likelihood_std, self.elbo_std)

    @property
    def approximation_gap(self) -> AnyArray:
        """The gap that remains with the best q of the family, shape (n_samples,)."""
        return self.gap - self.amortisation_gap

    def to_frame(self) -> DataFrame:
        """Return all parts as a pandas DataFrame.

        Returns
        -------
        pandas.DataFrame
            One row for each row of X, one column for each attribute.
        """
        pd = require("pandas", purpose="BoundDecomposition.to_frame")

        names = [*(field.name for field in fields(self)), *_DERIVED]
        return pd.DataFrame({name: getattr(self, name) for name in names})


def decompose_bound(
    log_likelihood: npt.ArrayLike,
    log_prior: npt.ArrayLike,
    log_q: npt.ArrayLike,
    weight: npt.ArrayLike,
    log_evidence: npt.ArrayLike | None = None,
) -> BoundDecomposition:
    """Decompose the bound for any model p(x, z) and posterior q(z|x).

    The last axis of all arrays holds either all K states of a discrete z,
    weighted by their responsibilities, or S samples z ~ q, weighted 1/S.

    Parameters
    ----------
    log_likelihood : array-like of shape (n, L)
        The values log p(x | z_l).
    log_prior : array-like of shape (n, L) or (L,)
        The values log p(z_l).
    log_q : array-like of shape (n, L)
        The values log q(z_l | x).
    weight : array-like of shape (n, L)
        The weight of state l in the expectation under q.
    log_evidence : array-like of shape (n,), default=None
        The value of log p(x), if it is known. None uses the importance-weighted bound of
        the same points: with all states it equals log p(x); with samples its expectation
        is lower.

    Returns
    -------
    BoundDecomposition
        Its standard errors are 0. For samples, repeat the call with new samples and take
        the spread of the results.

    Raises
    ------
    ValueError
        If the shapes disagree.

    Examples
    --------
    One of two coins was tossed, and q guesses that both are equally likely:

    >>> import numpy as np
    >>> from skemvae import decompose_bound
    >>> log_likelihood = np.log([[0.9, 0.1]])  # of heads, for either coin
    >>> prior, q = np.array([0.5, 0.5]), np.array([[0.5, 0.5]])
    >>> parts = decompose_bound(log_likelihood, np.log(prior), np.log(q), q)
    >>> parts.log_likelihood.round(3), parts.gap.round(3)
    (array([-0.693]), array([0.511]))
    """
    log_likelihood, log_q, weight = (
        np.asarray(part, dtype=np.float64) for part in (log_likelihood, log_q, weight)
    )
    log_prior = np.broadcast_to(np.asarray(log_prior, dtype=np.float64), log_q.shape)
    if not log_likelihood.shape == log_q.shape == weight.shape or log_q.ndim != 2:
        raise ValueError(
            f"log_likelihood, log_q and weight have shapes {log_likelihood.shape}, {log_q.shape} "
            f"and {weight.shape}: all must be (n, L)."
        )
    log_joint = log_likelihood + log_prior
    if log_evidence is None:
        log_evidence = importance_bound(log_joint, log_q, weight)
    elbo = free_energy(log_joint, log_q, weight)
    kl = -free_energy(log_prior, log_q, weight)
    zero = np.zeros_like(elbo)
    return BoundDecomposition.own_posteriors(
        np.asarray(log_evidence, dtype=np.float64), zero, elbo, zero, kl
    )
