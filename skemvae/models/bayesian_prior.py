"""The prior of a Bayesian mixture, from its parameters and from the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.expectation import expectation
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.table import Table
from skemvae.engine.passes.choice import fastest_pass
from skemvae.engine.samples.summary import Summary
from skemvae.mixtures.bayesian_mixture import BayesianMixture, Parameters
from skemvae.mixtures.hyperprior import Hyperprior
from skemvae.mixtures.normal_wishart import NormalWishart
from skemvae.mixtures.weights import MIXING_WEIGHTS
from skemvae.structures.matrices import MatrixCovariance
from skemvae.validation import LARGEST_SQUARE, check_parameter_array, check_positive_definite

if TYPE_CHECKING:
    from skemvae import models


def prior_of(
    model: models.BayesianMixture,
    structure: type[MatrixCovariance],
    table: Table,
    summary: Summary,
    scatter: Array,
) -> BayesianMixture:
    """The mixture before it has seen any row, in the frame of the table.

    Parts of the prior that the model does not set start as those of a component like the whole
    table. ``scatter`` is that of the hyperprior.

    Raises
    ------
    ValueError
        If parameters of the prior are out of range, or do not fit the table.
    """
    k, d, frame = model.n_components, len(summary.mean), table.frame
    mixing = MIXING_WEIGHTS[model.weight_concentration_prior_type]
    concentration = model.weight_concentration_prior
    if concentration is None:
        concentration = mixing.default_concentration(k)
    mean = np.zeros(d)
    if model.mean_prior is not None:
        mean_prior = check_parameter_array("mean_prior", model.mean_prior, (d,))
        mean = (mean_prior - frame.origin) / frame.scale
    block_size = structure.identity(1, d).block_size
    dof = model.degrees_of_freedom_prior
    dof = float(block_size if dof is None else dof)
    if dof <= block_size - 1:
        raise ValueError(
            f"degrees_of_freedom_prior={dof} must be above {block_size - 1} for "
            f"covariance_type={model.covariance_type!r} and {d} features."
        )
    mean_precision = 1.0 if model.mean_precision_prior is None else model.mean_precision_prior
    if model.covariance_prior is None:
        values, total = pooled(structure, table, summary)
        values = _shrunk(values, total) if values.ndim == 2 else values
    else:
        values = _inverse_scale(model.covariance_prior, structure, table) / dof
    components = NormalWishart(
        np.broadcast_to(mean, (k, d)),
        np.full(k, float(mean_precision)),
        np.full(k, dof),
        structure(np.broadcast_to(values, (k, *values.shape))),
    )
    prior = Parameters(mixing.prior(k, concentration), components)
    hyperprior = Hyperprior(
        components,
        scatter,
        fits_covariance=model.covariance_prior is None,
        fits_mean_precision=model.mean_precision_prior is None,
    )
    return BayesianMixture(prior, prior, hyperprior)


def pooled(
    structure: type[MatrixCovariance], table: Table, summary: Summary
) -> tuple[Array, float]:
    """The covariance of all rows, in the frame of the table, and their total weight."""
    d = len(table.frame.origin)
    unit = structure.identity(1, d)
    # The posterior of a mixture of one component is 1.
    one = GaussianMixture(np.ones(1), np.zeros((1, d)), unit, np.zeros(d))
    everything = expectation(one, table, fastest_pass)
    noise = summary.floor**2 / table.frame.scale**2
    return unit.maximise(everything.moments, noise).values[0], everything.total


def _inverse_scale(given: object, structure: type[MatrixCovariance], table: Table) -> Array:
    d, frame = len(table.frame.origin), table.frame
    shape = {"full": (d, d), "tied": (d, d), "diag": (d,), "spherical": ()}
    public = check_parameter_array("covariance_prior", given, shape[structure.name], LARGEST_SQUARE)
    values = np.broadcast_to(public, structure.identity(1, d).values.shape)
    check_positive_definite("covariance_prior", values)
    inverse_scale: Array = structure(values).scaled(1 / frame.scale).values[0]
    return inverse_scale


def _shrunk(covariance: Array, n_rows: float) -> Array:
    """Shrink correlations to bring them closer to those of the population.

    The intensity is that of oracle approximating shrinkage, but at least that of d + 1 more rows,
    so that the result is not singular with few rows or collinear features.

    References
    ----------
    Chen, Wiesel, Eldar and Hero (2010), "Shrinkage algorithms for MMSE covariance estimation",
    equation 23.
    """
    d = len(covariance)
    scale = np.sqrt(np.diag(covariance))
    square = float(((covariance / scale / scale[:, None]) ** 2).sum())
    error = (1 - 2 / d) * square + d**2
    signal = (n_rows + 1 - 2 / d) * (square - d)
    own = min(n_rows / (n_rows + d + 1), max(1 - error / signal, 0.0) if signal > 0 else 0.0)
    shrunk: Array = own * covariance + (1 - own) * np.diag(np.diag(covariance))
    return shrunk
