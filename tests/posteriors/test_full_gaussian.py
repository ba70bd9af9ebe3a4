"""A normal q(z) with any covariance: its density, entropy, points and rows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skemvae.posteriors.gaussians import DiagonalGaussian, FullGaussian, StandardNormal
from tests.strategies import seeds

sizes = st.integers(1, 4)


def drawn(seed, n=3, k=2):
    """Means of order 2, standard deviations from e^-2 to e, any correlations."""
    rng = np.random.default_rng(seed)
    root = np.tril(rng.standard_normal((n, k, k)), -1)
    root = root + np.exp(rng.uniform(-1, 2, (n, k)))[:, :, None] * np.eye(k)
    mean = 2 * rng.standard_normal((n, k))
    return FullGaussian(torch.from_numpy(mean), torch.from_numpy(root))


def scipy_of(q):
    """scipy's distribution of each row, from the precisions alone."""
    root = q.precision_cholesky.numpy()
    covariances = np.linalg.inv(root @ root.swapaxes(1, 2))
    return [stats.multivariate_normal(m, S) for m, S in zip(q.mean, covariances, strict=True)]


def normal(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@given(seeds, sizes, sizes, st.booleans())
def test_it_has_the_density_of_scipy(seed, n, k, shared):
    """Also at points that all rows share."""
    q, z = drawn(seed, n, k), 3 * normal(seed, 1 if shared else n, 5, k)
    log_prob = q.log_prob(z)
    assert log_prob.shape == (n, 5)
    for i, one in enumerate(scipy_of(q)):
        expected = np.reshape(one.logpdf(z[0 if shared else i].numpy()), 5)
        np.testing.assert_allclose(log_prob[i], expected, rtol=1e-8, atol=1e-8)


@given(seeds, sizes, sizes)
def test_it_has_the_entropy_and_the_moments_of_scipy(seed, n, k):
    q = drawn(seed, n, k)
    assert q.entropy.shape == (n,)
    for i, one in enumerate(scipy_of(q)):
        np.testing.assert_allclose(q.entropy[i], one.entropy(), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(q.covariance[i], one.cov, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(q.precision[i], np.linalg.inv(one.cov), rtol=1e-6, atol=1e-6)


@given(seeds, sizes, sizes)
def test_the_scale_is_an_upper_triangular_root_of_the_covariance(seed, n, k):
    q = drawn(seed, n, k)
    assert torch.equal(q.scale, q.scale.triu())
    identity = torch.eye(k, dtype=torch.float64).expand(n, k, k)
    product = q.scale @ q.scale.mT @ q.precision
    torch.testing.assert_close(product, identity, rtol=0, atol=1e-8)


@given(seeds, sizes, sizes, st.booleans())
def test_points_have_the_mean_and_covariance_of_their_row(seed, n, k, shared):
    """Along the unit vectors: m + A e."""
    q, unit = drawn(seed, n, k), torch.eye(k, dtype=torch.float64)[None]
    unit = unit if shared else unit.expand(n, k, k)
    z = q.at(unit)
    assert z.shape == (n, k, k)
    torch.testing.assert_close(z, q.mean[:, None] + q.scale.mT)
    torch.testing.assert_close(q.at(0 * unit), q.mean[:, None].expand(n, k, k))


@given(seeds, sizes, sizes)
def test_the_density_at_its_points_is_that_of_the_noise_less_the_volume(seed, n, k):
    q, noise = drawn(seed, n, k), normal(seed, n, 5, k)
    volume = q.scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    expected = StandardNormal().log_prob(noise) - volume[:, None]
    torch.testing.assert_close(q.log_prob(q.at(noise)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_draws_have_the_density(seed):
    """Every direction is normal."""
    q, direction = drawn(seed, 2, 3), normal(seed, 3)
    points = q.at(normal(seed, 2, 5000, 3)) @ direction
    variances = (q.covariance @ direction) @ direction
    for z, mean, variance in zip(points, q.mean @ direction, variances, strict=True):
        assert stats.kstest(z, stats.norm(mean, variance.sqrt()).cdf).pvalue > 1e-3


@given(seeds, sizes, sizes)
def test_with_a_diagonal_covariance_it_is_the_diagonal_gaussian(seed, n, k):
    mean, log_scale = normal(seed, n, k), normal(seed + 1, n, k)
    one = DiagonalGaussian(mean, log_scale)
    q = FullGaussian(mean, torch.diag_embed(torch.exp(-log_scale)))
    noise, z = normal(seed + 2, 1, 5, k), normal(seed + 3, n, 5, k)
    torch.testing.assert_close(q.log_prob(z), one.log_prob(z))
    torch.testing.assert_close(q.at(noise), one.at(noise))


@given(seeds, sizes, sizes)
def test_the_standard_one_is_the_prior(seed, n, k):
    q, z = FullGaussian.standard(n, k), normal(seed, n, 5, k)
    torch.testing.assert_close(q.log_prob(z), StandardNormal().log_prob(z))
    assert torch.equal(q.at(z), z)
    assert FullGaussian.standard(n, k, torch.float32).entropy.dtype == torch.float32


@given(seeds, st.integers(2, 6), sizes)
def test_rows_are_taken_apart_and_put_together_again(seed, n, k):
    q, z = drawn(seed, n, k), normal(seed, n, 5, k)
    again = FullGaussian.of_blocks([q.rows(slice(0, 1)), q.rows(torch.arange(1, n))])
    for whole, parts in ((q.mean, again.mean), (q.precision_cholesky, again.precision_cholesky)):
        assert torch.equal(whole, parts)
    torch.testing.assert_close(q.rows(torch.tensor([n - 1])).log_prob(z[-1:]), q.log_prob(z)[-1:])
