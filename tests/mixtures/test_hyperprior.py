"""The prior that is fitted with the components, against exact evidence."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skemvae.core.rows import Frame, Rows
from skemvae.engine.passes.numpy_pass import moments_given
from skemvae.mixtures.hyperprior import Hyperprior
from skemvae.mixtures.normal_wishart import NormalWishart
from skemvae.structures.registry import STRUCTURES
from tests.conjugacy import log_evidence_given_labels
from tests.laws import costly
from tests.strategies import CONJUGATE, conjugates, seeds

sizes = st.tuples(st.integers(1, 4), st.integers(1, 3))


def prior_of(structure, k, d, rng):
    """One prior for K components."""
    factor = rng.standard_normal((d, d + 2))
    dense = factor @ factor.T + 0.1 * np.eye(d)
    public = {
        "full": np.broadcast_to(dense, (k, d, d)),
        "tied": dense,
        "diag": np.broadcast_to(np.diag(dense), (k, d)),
        "spherical": np.full(k, dense[0, 0]),
    }[structure]
    return NormalWishart(
        np.broadcast_to(rng.standard_normal(d), (k, d)),
        np.full(k, rng.uniform(0.1, 3)),
        np.full(k, d + rng.uniform(0, 3)),
        STRUCTURES[structure].from_public(public, k, d),
    )


class Case:
    """Rows with labels, a prior, and what is known of it."""

    def __init__(self, structure, size, seed, n=9):
        (self.k, self.d), rng = size, np.random.default_rng(seed)
        self.structure = structure
        self.prior = prior_of(structure, self.k, self.d, rng)
        self.labels = rng.integers(self.k, size=n)
        self.X = rng.choice([0.1, 1.0, 5.0]) * rng.standard_normal((n, self.d))
        self.X += rng.choice([0.0, 10.0]) * self.labels[:, None]
        centre = prior_of(structure, self.k, self.d, rng)
        centre = replace(centre, mean=self.prior.mean, dof=self.prior.dof)
        self.hyperprior = Hyperprior(centre, rng.uniform(0, 0.1, self.d) ** 2, True, True)
        self.moments = self.moments_of(self.X)

    def moments_of(self, X, k=None):
        k = k or self.k
        unit = STRUCTURES[self.structure].identity(k, self.d)
        return moments_given(np.eye(k)[self.labels], unit, Rows.of(X, None))

    def objective(self, prior):
        """log p(X | labels, prior), and of the prior, by definition."""
        evidence = log_evidence_given_labels(
            self.structure,
            self.X,
            self.labels,
            self.k,
            prior.mean[0],
            prior.mean_precision[0],
            prior.dof[0],
            prior.dof[0] * prior.covariance.dense()[0],
        )
        return evidence - self.hyperprior.penalty(prior)


@given(conjugates, sizes, seeds)
def test_no_step_lowers_the_probability_of_rows_and_prior(structure, size, seed):
    case = Case(structure, size, seed)
    prior, values = case.prior, [case.objective(case.prior)]
    for _ in range(6):
        prior = case.hyperprior.better(prior, case.moments)
        values.append(case.objective(prior))
    assert np.diff(values).min() >= -1e-9 * max(1.0, np.abs(values).max())


@given(conjugates, sizes, seeds)
@costly(8)
def test_many_steps_lead_to_a_stationary_point(structure, size, seed):
    case = Case(structure, size, seed)
    prior = case.prior
    for _ in range(400):
        prior = case.hyperprior.better(prior, case.moments)
    direction = prior_of(structure, case.k, case.d, np.random.default_rng(seed)).covariance.values
    # A small part of the prior in the units of the direction.
    size_of = 1 / (prior.covariance.block_traces(direction)).max()

    def moved(step):
        covariance = type(prior.covariance)(prior.covariance.values + step * direction * size_of)
        moved = replace(prior, covariance=covariance)
        return case.objective(replace(moved, mean_precision=prior.mean_precision * np.exp(step)))

    np.testing.assert_allclose((moved(1e-4) - moved(-1e-4)) / 2e-4, 0, atol=2e-3)


@given(conjugates, sizes, seeds)
def test_components_without_rows_say_nothing(structure, size, seed):
    case = Case(structure, size, seed)
    more = case.k + 3

    def with_more(prior):
        one = prior.covariance.values[0]
        return replace(
            prior,
            mean=np.broadcast_to(prior.mean[0], (more, case.d)),
            mean_precision=np.full(more, prior.mean_precision[0]),
            dof=np.full(more, prior.dof[0]),
            covariance=type(prior.covariance)(np.broadcast_to(one, (more, *one.shape))),
        )

    hyperprior = replace(case.hyperprior, centre=with_more(case.hyperprior.centre))
    few = case.hyperprior.better(case.prior, case.moments)
    many = hyperprior.better(with_more(case.prior), case.moments_of(case.X, more))
    np.testing.assert_allclose(many.covariance.values[-1], few.covariance.values[-1], rtol=1e-8)
    np.testing.assert_allclose(many.mean_precision[-1], few.mean_precision[-1], rtol=1e-8)
    np.testing.assert_allclose(hyperprior.penalty(many), case.hyperprior.penalty(few), atol=1e-7)


@given(conjugates, sizes, seeds)
def test_the_penalty_is_zero_at_the_centre_and_else_positive(structure, size, seed):
    case = Case(structure, size, seed)
    exact = replace(case.hyperprior, scatter=np.zeros(case.d))
    np.testing.assert_allclose(exact.penalty(exact.centre), 0, atol=1e-9)
    assert case.hyperprior.penalty(case.prior) > exact.penalty(case.prior) > 0


@pytest.mark.parametrize("structure", CONJUGATE)
def test_what_is_given_stays(structure):
    case = Case(structure, (3, 2), 0)
    fixed = replace(case.hyperprior, fits_covariance=False, fits_mean_precision=False)
    assert fixed.better(case.prior, case.moments) is case.prior
    assert fixed.penalty(case.prior) == 0
    means = replace(case.hyperprior, fits_covariance=False).better(case.prior, case.moments)
    assert means.covariance is case.prior.covariance
    assert (means.mean_precision != case.prior.mean_precision).all()
    widths = replace(case.hyperprior, fits_mean_precision=False).better(case.prior, case.moments)
    assert widths.mean_precision is case.prior.mean_precision
    assert (widths.covariance.variances != case.prior.covariance.variances).all()


@given(conjugates, sizes, seeds)
def test_a_change_of_units_changes_units_only(structure, size, seed):
    case, rng = Case(structure, size, seed), np.random.default_rng(seed)
    d = case.d
    scale = np.full(d, rng.lognormal()) if structure == "spherical" else rng.lognormal(size=d)
    frame = Frame(rng.standard_normal(d), scale)
    plain = case.hyperprior.better(case.prior, case.moments)
    z = (case.X - frame.origin) / frame.scale
    moved = case.hyperprior.into(frame).better(case.prior.into(frame), case.moments_of(z))
    np.testing.assert_allclose(moved.out_of(frame).covariance.values, plain.covariance.values)
    np.testing.assert_allclose(moved.mean_precision, plain.mean_precision)
    penalty = case.hyperprior.into(frame).penalty(case.prior.into(frame))
    np.testing.assert_allclose(penalty, case.hyperprior.penalty(case.prior), rtol=1e-9)
