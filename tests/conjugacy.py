"""Exact evidence of conjugate models, by definition: no sufficient statistics, no updates."""

from itertools import product

import numpy as np
from scipy.special import betaln, gammaln, logsumexp, multigammaln


def log_evidence_of_groups(groups, mean_precision, dof, inverse_scale):
    """log p of groups of residuals (n_g, p), each group about a mean of its own, one Wishart.

    Without its mean a group is matrix normal, with covariance I + 1 1^T / mean_precision
    between rows; without the precision all of them are a matrix t.
    """
    p, n = len(inverse_scale), sum(map(len, groups))
    log_det, scatter = 0.0, np.array(inverse_scale)
    for group in groups:
        between = np.eye(len(group)) + 1 / mean_precision
        log_det += np.linalg.slogdet(between)[1]
        scatter = scatter + group.T @ np.linalg.solve(between, group)
    return (
        multigammaln((dof + n) / 2, p)
        - multigammaln(dof / 2, p)
        - 0.5 * (n * p * np.log(np.pi) + p * log_det)
        + 0.5 * dof * np.linalg.slogdet(inverse_scale)[1]
        - 0.5 * (dof + n) * np.linalg.slogdet(scatter)[1]
    )


def log_evidence_given_labels(structure, X, labels, k, mean, mean_precision, dof, inverse_scale):
    """log p(X | labels); the inverse scale is a matrix, whatever the structure."""
    parts = [X[labels == i] - mean for i in range(k)]
    columns = range(X.shape[1])
    wisharts = {
        "full": [([part], inverse_scale) for part in parts],
        "tied": [(parts, inverse_scale)],
        "diag": [
            ([part[:, [j]]], inverse_scale[j : j + 1, j : j + 1]) for part in parts for j in columns
        ],
        "spherical": [([part[:, [j]] for j in columns], inverse_scale[:1, :1]) for part in parts],
    }[structure]
    return sum(
        log_evidence_of_groups(groups, mean_precision, dof, scale) for groups, scale in wisharts
    )


def log_prior_of_labels(kind, labels, k, concentration):
    """log p(labels), with the weights integrated out."""
    count = np.bincount(labels, minlength=k)
    if kind == "dirichlet_distribution":
        posterior, total = concentration + count, k * concentration
        return (
            gammaln(posterior).sum()
            - k * gammaln(concentration)
            + gammaln(total)
            - gammaln(posterior.sum())
        )
    return sum(
        betaln(1 + count[j], concentration + count[j + 1 :].sum()) - betaln(1, concentration)
        for j in range(k - 1)
    )


def log_evidence(structure, kind, X, k, concentration, *prior):
    """log p(X), the sum over all k^n labels."""
    terms = []
    for labels in map(np.array, product(range(k), repeat=len(X))):
        terms.append(
            log_prior_of_labels(kind, labels, k, concentration)
            + log_evidence_given_labels(structure, X, labels, k, *prior)
        )
    return logsumexp(terms)
