"""Normal-Wishart distributions of K means and precisions, for any covariance structure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.special import digamma, gammaln, multigammaln

from skemvae.core.arrays import AnyArray, Array
from skemvae.core.moments import Moments
from skemvae.core.rows import Frame
from skemvae.core.scan import Metric, Scan
from skemvae.mixtures.student_metric import student_metric
from skemvae.structures.matrices import MatrixCovariance


@dataclass(frozen=True)
class NormalWishart:
    """Normal-Wishart distributions of K means mu_k and precisions L_k.

    mu_k | L_k ~ N(mean_k, (mean_precision_k L_k)^-1) and L_k ~ Wishart(dof_k, scale_k).

    Each block of the structure has one Wishart distribution: a block is the
    whole matrix if the structure is dense, and a single variance if it is
    axis-aligned (a Wishart of one dimension is a gamma distribution).
    Components and features that share a covariance share its Wishart.

    Attributes
    ----------
    mean : array of shape (K, d)
    mean_precision : array of shape (K,)
        The number of rows that the prior or posterior of the mean is worth.
    dof : array of shape (K,)
    covariance : MatrixCovariance
        E[L]^-1, the inverse scale divided by ``dof``.

    References
    ----------
    Bishop (2006), "Pattern Recognition and Machine Learning", section 10.2
    and appendix B.
    """

    mean: Array
    mean_precision: Array
    dof: Array
    covariance: MatrixCovariance

    def posterior(self, moments: Moments) -> Self:
        """The posterior, given expected sufficient statistics (conjugate update)."""
        structure = type(self.covariance)
        count, d = moments.count, self.mean.shape[1]
        mean_precision = self.mean_precision + count
        shift = moments.means - self.mean
        # The scatter about the means, plus that of the means about the prior's.
        off = np.sqrt(self.mean_precision / mean_precision)[:, None] * shift
        dense = moments.second.ndim == 3
        scatter = moments.covariances + (off[:, :, None] * off[:, None, :] if dense else off**2)
        gained = structure.observations(count, d)
        dof = self.dof + gained
        prior, gained, total = (
            x.reshape(-1, *(1,) * (scatter.ndim - 1)) for x in (self.dof, gained, dof)
        )
        pooled = structure.pool(scatter, np.maximum(count, np.finfo(float).tiny))
        values = (prior * self.covariance.values + gained * pooled) / total
        if dense:
            values = (values + values.transpose(0, 2, 1)) / 2
        return replace(
            self,
            mean=self.mean + (count / mean_precision)[:, None] * shift,
            mean_precision=mean_precision,
            dof=dof,
            covariance=structure(values),
        )

    def take(self, components: AnyArray) -> Self:
        """The distributions of some components, in the given order."""
        parts = (self.mean, self.mean_precision, self.dof, self.covariance.values)
        mean, mean_precision, dof, values = (part[components] for part in parts)
        return replace(
            self,
            mean=mean,
            mean_precision=mean_precision,
            dof=dof,
            covariance=type(self.covariance)(values),
        )

    def log_evidence(self, moments: Moments) -> Array:
        """log p(rows) for K groups of rows, each from one component, shape (K,), nats.

        It does not hold for components that share a precision, as groups are then dependent.
        """
        posterior, d, p = self.posterior(moments), self.mean.shape[1], self.covariance.block_size
        terms = multigammaln(posterior.dof / 2, p) - multigammaln(self.dof / 2, p)
        for q, sign in ((self, 1), (posterior, -1)):
            log_dets = p * np.log(q.dof) + q.covariance.block_log_dets.mean(1)
            terms = terms + sign * q.dof / 2 * log_dets
        ratio = self.mean_precision / posterior.mean_precision
        constant = np.log(ratio) - moments.count * np.log(np.pi)
        n_blocks = d / p / self.covariance.copies
        evidence: Array = n_blocks * terms + d / 2 * constant
        return evidence

    def log_evidence_given(self, q: Self, moments: Moments) -> Array:
        """The same if q of the precisions is fixed; its KL divergence is left out."""
        d = self.mean.shape[1]
        ratio = self.mean_precision / (self.mean_precision + moments.count)
        shift = np.sqrt(ratio)[:, None] * (moments.means - self.mean)
        square = shift[:, :, None] * shift[:, None, :] if moments.second.ndim == 3 else shift**2
        traces = q.covariance.block_traces(moments.covariances + square).sum(1)
        constant = q.expected_log_det - d * np.log(2 * np.pi) - traces
        evidence: Array = 0.5 * (d * np.log(ratio) + moments.count * constant)
        return evidence

    def moved(self, count: Array, mean: Array, covariance: MatrixCovariance) -> Self:
        """The distributions after ``count`` rows of each component, with this mean and E[L]^-1."""
        gained = type(covariance).observations(count, self.mean.shape[1])
        return replace(
            self,
            mean=mean,
            mean_precision=self.mean_precision + count,
            dof=self.dof + gained,
            covariance=covariance,
        )

    # Expectations.

    @property
    def expected_log_det(self) -> Array:
        """E log |L_k|, shape (K,)."""
        expected: Array = self._expected_log_dets.sum(1)
        return expected

    @property
    def _expected_log_dets(self) -> Array:
        """E log |L| of each block, shape (K, d / block_size)."""
        p = self.covariance.block_size
        steps = digamma((self.dof[:, None] - np.arange(p)) / 2).sum(1)
        standard: Array = steps + p * np.log(2 / self.dof)
        return standard[:, None] - self.covariance.block_log_dets

    @property
    def log_normaliser(self) -> Array:
        """E log N(x | mu_k, L_k^-1) at x = mean_k, shape (K,)."""
        d = self.mean.shape[1]
        normaliser: Array = 0.5 * (
            self.expected_log_det - d * np.log(2 * np.pi) - d / self.mean_precision
        )
        return normaliser

    def scan(self) -> Scan:
        """The arithmetic of E[(x - mu_k)^T L_k (x - mu_k)], minus d / mean_precision_k."""
        return self.covariance.scan(self.mean)

    def divergence(self, prior: Self) -> float:
        """KL(self || prior), nats."""
        return self._divergence_of_means(prior) + self._divergence_of_precisions(prior)

    def _divergence_of_means(self, prior: Self) -> float:
        ratio = prior.mean_precision / self.mean_precision
        lengths = self.covariance.squared_lengths(self.mean - prior.mean)
        d = self.mean.shape[1]
        terms = d * (ratio - 1 - np.log(ratio)) + prior.mean_precision * lengths
        return float(0.5 * terms.sum())

    def _divergence_of_precisions(self, prior: Self) -> float:
        p = self.covariance.block_size
        dof, prior_dof = self.dof[:, None], prior.dof[:, None]
        log_det = self.covariance.block_log_dets - prior.covariance.block_log_dets
        log_det = log_det + p * np.log(dof / prior_dof)
        steps = digamma((dof - np.arange(p)) / 2).sum(1, keepdims=True)
        traces = prior_dof / dof * self.covariance.block_traces(prior.covariance.values)
        terms = 0.5 * (prior_dof * log_det + dof * (traces - p) + (dof - prior_dof) * steps)
        terms = terms + multigammaln(prior_dof / 2, p) - multigammaln(dof / 2, p)
        return float(terms.sum() / self.covariance.copies)

    # The next row.

    @property
    def _power(self) -> Array:
        """The degrees of freedom after one more row, shape (K,)."""
        count: Array = np.eye(len(self.dof))[0]
        one = float(self.covariance.observations(count, self.mean.shape[1])[0])
        return self.dof + one

    def predictive_metric(self) -> Metric:
        """The arithmetic of the predictive densities: Student's t."""
        shrinkage = self.mean_precision / ((self.mean_precision + 1) * self.dof)
        return student_metric(self.covariance, self.mean, self._power, shrinkage)

    @property
    def predictive_log_normaliser(self) -> Array:
        """The part of the log predictive density that does not depend on x, shape (K,)."""
        d = self.mean.shape[1]
        power, size = self._power, self.covariance.radial_size
        log_scale = np.log(self.mean_precision + 1) - np.log(self.mean_precision)
        per_group = (
            gammaln(power / 2)
            - gammaln((power - size) / 2)
            - 0.5 * size * (np.log(np.pi * self.dof) + log_scale)
        )
        normaliser: Array = d / size * per_group - 0.5 * self.covariance.log_det
        return normaliser

    def draw(self, labels: AnyArray, rng: Any) -> Array:
        """Draw one row for each label, from the predictive density of that component."""
        n, d = len(labels), self.mean.shape[1]
        size = self.covariance.radial_size
        chi_square = rng.chisquare((self._power - size)[labels, None], (n, d // size))
        inflation = self.dof * (self.mean_precision + 1) / self.mean_precision
        normal = self.covariance.draw(labels, rng)
        drawn: Array = self.mean[labels] + normal * np.sqrt(inflation[labels, None] / chi_square)
        return drawn

    # Change of coordinates.

    def into(self, frame: Frame) -> Self:
        """The same distribution in the coordinates z of a frame."""
        return replace(
            self,
            mean=(self.mean - frame.origin) / frame.scale,
            covariance=self.covariance.scaled(1 / frame.scale),
        )

    def out_of(self, frame: Frame) -> Self:
        """The distribution for x, if this one is for the coordinates z of a frame."""
        return replace(
            self,
            mean=frame.origin + frame.scale * self.mean,
            covariance=self.covariance.scaled(frame.scale),
        )
