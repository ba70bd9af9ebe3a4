"""What log p(x) is made of: a bound's parts and its gaps, row by row."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True)
class BoundDecomposition:
    """The parts of log p(x) under an approximate posterior q(z|x), for each row.

    log p(x) = elbo + gap, elbo = expected_log_likelihood - kl_to_prior and
    gap = approximation_gap + amortisation_gap hold row by row.

    Attributes
    ----------
    log_likelihood : ndarray of shape (n_samples,)
        log p(x), or an importance estimate of it. All parts are in nats, the
        likelihoods in the units of X.
    expected_log_likelihood : ndarray of shape (n_samples,)
        E_q[log p(x|z)]: how well z, as q sees it, explains the row
        (reconstruction).
    kl_to_prior : ndarray of shape (n_samples,)
        KL(q(z|x) || p(z)): how much q says about z that the prior does not.
    amortisation_gap : ndarray of shape (n_samples,)
        What an encoder loses against the best q of its family for this row; 0
        where each row has a q of its own.
    log_likelihood_std, elbo_std, amortisation_gap_std : ndarray of shape (n_samples,)
        Standard errors; 0 where a value is exact.

    References
    ----------
    Cremer, Li and Duvenaud (2018), "Inference suboptimality in variational
    autoencoders".
    """

    log_likelihood: Any
    expected_log_likelihood: Any
    kl_to_prior: Any
    amortisation_gap: Any
    log_likelihood_std: Any
    elbo_std: Any
    amortisation_gap_std: Any

    @property
    def elbo(self) -> Any:
        """The evidence lower bound, shape (n_samples,)."""
        return self.expected_log_likelihood - self.kl_to_prior

    @property
    def gap(self) -> Any:
        """KL(q(z|x) || p(z|x)), shape (n_samples,)."""
        return self.log_likelihood - self.elbo

    @property
    def gap_std(self) -> Any:
        """Standard error of the gap, shape (n_samples,)."""
        return np.hypot(self.log_likelihood_std, self.elbo_std)

    @property
    def approximation_gap(self) -> Any:
        """What the best q of the family leaves, shape (n_samples,)."""
        return self.gap - self.amortisation_gap

    def to_frame(self) -> Any:
        """All parts as a pandas DataFrame, a row for each row of X."""
        import pandas as pd

        derived = ("elbo", "gap", "gap_std", "approximation_gap")
        names = [*(field.name for field in fields(self)), *derived]
        return pd.DataFrame({name: getattr(self, name) for name in names})
