"""Structures of one's own, defined here: the kernel serves those only whose M step it has."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skemvae import EMGaussianMixture, VariationalEM
from skemvae.kernel import native
from skemvae.models import BayesianMixture
from skemvae.structures.axis import Diagonal
from skemvae.structures.dense import Full
from skemvae.structures.registry import STRUCTURES
from tests.levels import path
from tests.strategies import seeds


class Blocks(Full):
    """Two groups of columns that are independent given the component."""

    name = "blocks"

    @classmethod
    def pool(cls, covariances, count):
        covariances = np.array(covariances)
        half = covariances.shape[1] // 2
        covariances[:, :half, half:] = covariances[:, half:, :half] = 0
        return covariances

    @property
    def n_parameters(self):
        half = self.n_features // 2
        rest = self.n_features - half
        return self.n_components * (half * (half + 1) + rest * (rest + 1)) // 2


class EqualShape(Diagonal):
    """Variances that all components share."""

    name = "equal"

    @classmethod
    def pool(cls, covariances, count):
        return np.broadcast_to(count @ covariances / count.sum(), covariances.shape)

    @classmethod
    def observations(cls, count, n_features):
        return np.full_like(count, count.sum())

    @property
    def copies(self):
        return self.n_components

    @property
    def n_parameters(self):
        return self.n_features


OWN = {own.name: own for own in (Blocks, EqualShape)}


def rows(seed, n=300, d=4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 3 * rng.integers(
        2, size=(n, 1)
    )


@pytest.fixture(autouse=True)
def _registered():
    with patch.dict(STRUCTURES, OWN):
        yield


@pytest.mark.parametrize("own", sorted(OWN))
def test_promises_are_not_inherited(own):
    base = OWN[own].__mro__[1]
    assert base.kernel_form is not None
    assert base.is_conjugate
    assert OWN[own].kernel_form is None
    assert not OWN[own].is_conjugate


@given(seeds, st.sampled_from([*sorted(OWN), "full", "tied", "diag", "spherical"]))
def test_the_bound_is_the_same_with_and_without_the_kernel(seed, structure):
    X, bounds = rows(seed), []
    for level in {None, *native.LEVELS[-1:]}:
        with path(level):
            fitted = EMGaussianMixture(
                2, covariance_type=structure, init_params="kmeans", random_state=0
            ).fit(X)
        assert np.diff(fitted.lower_bounds_).min() >= -1e-9
        bounds.append(fitted.lower_bound_)
    np.testing.assert_allclose(bounds, bounds[0], rtol=1e-7)


@pytest.mark.parametrize("n", [300, 5000])
@pytest.mark.parametrize("init_params", ["auto", "kmeans"])
def test_what_a_structure_of_ones_own_shares_is_shared(n, init_params):
    X = rows(0, n)
    parameters = {"n_components": 2, "init_params": init_params, "random_state": 0}
    blocks = EMGaussianMixture(covariance_type="blocks", **parameters).fit(X)
    assert (blocks.covariances_[:, :2, 2:] == 0).all()
    assert blocks.bic(X) == pytest.approx(
        -2 * n * blocks.score(X) + (1 + 8 + 2 * 6) * np.log(n), rel=1e-9
    )
    assert blocks.lower_bound_ < EMGaussianMixture(**parameters).fit(X).lower_bound_ - 0.01
    equal = EMGaussianMixture(covariance_type="equal", **parameters).fit(X)
    np.testing.assert_array_equal(equal.covariances_[0], equal.covariances_[1])


@pytest.mark.parametrize("own", sorted(OWN))
def test_a_bayesian_mixture_asks_for_a_conjugate_prior(own):
    em = VariationalEM(BayesianMixture(2, own))
    with pytest.raises(ValueError, match=f"covariance_type='{own}' has no conjugate prior"):
        em.fit(rows(0))
