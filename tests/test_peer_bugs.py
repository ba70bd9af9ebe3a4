"""Bugs of respected peers that we must be free of: each test states what a peer gets wrong."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skemvae import EMGaussianMixture
from tests.strategies import ALL

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
IRIS = load_iris().data
N = len(IRIS)


def fit(X=IRIS, cls=EMGaussianMixture, **parameters):
    return cls(**{"n_components": 3, "random_state": 0, **parameters}).fit(X)


def test_1_the_bound_belongs_to_the_returned_parameters():
    """A peer reports -349.784 after 5 iterations on Iris, where its parameters have -335.535."""
    start = {"tol": 0, "max_iter": 5, "means_init": IRIS[:3], "reg_covar": 0}
    precisions = np.broadcast_to(np.eye(4), (3, 4, 4))
    start |= {"precisions_init": precisions, "weights_init": np.full(3, 1 / 3)}
    ours, theirs = fit(**start, acceleration=None), fit(cls=GaussianMixture, **start)
    np.testing.assert_allclose(ours.score(IRIS), theirs.score(IRIS), rtol=1e-6)
    np.testing.assert_allclose(ours.lower_bound_, ours.score(IRIS), rtol=1e-12)
    assert theirs.lower_bound_ < theirs.score(IRIS) - 1e-3  # the peer's is stale


@pytest.mark.parametrize("scale", [1e-3, 1e-2, 1e3])
def test_2_the_fit_does_not_depend_on_units(scale):
    """With an absolute reg_covar LL + n d log s is -753 at s = 1e-3, instead of -180.2."""
    parameters = {"tol": 1e-6, "max_iter": 1000}
    ours = fit(scale * IRIS, **parameters).score(scale * IRIS) * N + IRIS.size * np.log(scale)
    np.testing.assert_allclose(ours, fit(**parameters).score(IRIS) * N, atol=1e-3)
    if scale == 1e-3:
        theirs = fit(scale * IRIS, cls=GaussianMixture, **parameters)
        assert theirs.score(scale * IRIS) * N + IRIS.size * np.log(scale) < -700


def test_3_the_regularised_objective_is_monotone():
    """Adding reg_covar after the M step makes the bound fall in 20 of 20 fits on Iris x 1e-3."""
    X = 1e-3 * IRIS
    for seed in range(5):
        for reg_covar in (1e-6, 1e-2):
            parameters = {"n_components": 5, "tol": 0, "max_iter": 40, "reg_covar": reg_covar}
            bounds = fit(X, random_state=seed, **parameters).lower_bounds_
            assert np.diff(bounds).min() > -1e-12
    # The peer's bound after each iteration, from its score: the reported one may be stale.
    peer = GaussianMixture(5, tol=0, max_iter=1, warm_start=True, random_state=0)
    assert np.diff([peer.fit(X).score(X) for _ in range(20)]).min() < -1e-6


@pytest.mark.filterwarnings("ignore:Columns:skemvae.DoubtfulFitWarning")  # two factors of four
def test_4_the_bound_is_a_bound_and_a_float():
    """A peer's bound drops constants (+272 above a likelihood of -180) and may be an array."""
    for structure in ALL:
        for k in (1, 3, 6):
            mixture = fit(n_components=k, covariance_type=structure, reg_covar=1e-2)
            assert isinstance(mixture.lower_bound_, float)
            assert mixture.lower_bound_ <= mixture.score(IRIS) + 1e-12


@pytest.mark.parametrize("structure", ALL)
def test_5_the_scores_are_a_density(structure):
    """The exponential of a peer's scores integrates to 0.871."""
    X = IRIS[:, 2:3]
    mixture = fit(X, covariance_type=structure)
    grid = np.linspace(-20, 30, 20_001)
    total = np.exp(mixture.score_samples(grid[:, None])).sum() * (grid[1] - grid[0])
    np.testing.assert_allclose(total, 1, atol=1e-9)


def test_6_the_tolerance_is_in_nats_per_sample():
    """A peer's siblings disagree: a mean in one class, a total in the other."""
    once = fit(tol=1e-4, init_params="kmeans")
    thrice = fit(np.tile(IRIS, (3, 1)), tol=1e-4, init_params="kmeans")
    assert once.n_iter_ == thrice.n_iter_
    remaining = fit(tol=1e-10, max_iter=5000, init_params="kmeans").lower_bound_
    assert 0 <= remaining - once.lower_bound_ < 2e-4


@pytest.mark.parametrize("structure", ALL)
@pytest.mark.parametrize(("dtype", "offset"), [(np.float64, 1e8), (np.float32, 1e4)])
def test_7_no_cancellation_far_from_the_origin(structure, dtype, offset):
    """Peers raise, or return a variance of 112 for 0.1."""
    rng = np.random.default_rng(0)
    X = np.r_[rng.standard_normal((500, 2)), rng.standard_normal((500, 2)) + 8]
    mixture = fit((X + offset).astype(dtype), n_components=2, covariance_type=structure)
    variances = np.diagonal(mixture._mixture().covariance.dense(), axis1=1, axis2=2)
    np.testing.assert_allclose(variances, 1, atol=0.2)


def test_7_is_what_a_peer_fails():
    rng = np.random.default_rng(0)
    X = np.r_[rng.standard_normal((500, 2)), rng.standard_normal((500, 2)) + 8] + 1e8
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = fit(X, cls=GaussianMixture, n_components=2, covariance_type="diag")
    except ValueError:
        return
    assert np.abs(theirs.covariances_ - 1).max() > 0.2


@pytest.mark.parametrize("method", ["k-means++", "random_from_data"])
def test_8_starts_from_few_rows_are_proper_and_reach_the_optimum(method):
    """A peer starts with covariances of 1e-6 and weights that sum to K / n."""
    start = fit(init_params=method, max_iter=0)
    np.testing.assert_allclose(start.weights_.sum(), 1)
    assert np.linalg.eigvalsh(start.covariances_).min() > 1e-3
    theirs = fit(cls=GaussianMixture, init_params=method, max_iter=0)
    assert np.linalg.eigvalsh(theirs.covariances_).min() < 1e-5
    parameters = {"tol": 1e-6, "max_iter": 1000}
    parameters |= {"init_params": method, "n_init": 10}
    ours = [fit(random_state=seed, **parameters).score(IRIS) * N for seed in range(5)]
    np.testing.assert_allclose(ours, -180.185, atol=0.5)


def test_9_samples_are_shuffled_and_another_seed_gives_others():
    """A peer returns rows sorted by component, and the same rows at every call."""
    ours, theirs = fit(), fit(cls=GaussianMixture)
    assert (np.diff(theirs.sample(300)[1]) >= 0).all()
    assert (np.diff(ours.sample(300)[1]) < 0).any()
    assert not np.array_equal(ours.sample(300, random_state=1)[0], ours.sample(300)[0])


@pytest.mark.filterwarnings("ignore:Columns:skemvae.DoubtfulFitWarning")  # two factors of four
@pytest.mark.parametrize("structure", ALL)
def test_10_weights_count_everywhere(structure):
    """Peers ignore them in the tied scatter, or in a sum beside weighted parameters."""
    weight = np.random.default_rng(0).integers(0, 4, N)
    repeated = np.repeat(IRIS, weight, axis=0)
    mixture = EMGaussianMixture(3, covariance_type=structure, random_state=0)
    weighted = mixture.fit(IRIS, sample_weight=weight)
    expected = EMGaussianMixture(3, covariance_type=structure, random_state=0).fit(repeated)
    for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
        np.testing.assert_allclose(
            getattr(weighted, name), getattr(expected, name), rtol=1e-6, err_msg=name
        )
    np.testing.assert_allclose(
        weighted.score(IRIS, sample_weight=weight), expected.score(repeated), rtol=1e-9
    )
    np.testing.assert_allclose(weighted.bic(IRIS, weight), expected.bic(repeated), rtol=1e-9)


def test_10_a_falling_likelihood_is_no_convergence():
    from skemvae.core.iterate import Aitken

    assert not Aitken(1e-3)([-1.0, -0.9, -0.90001])


def test_convergence_warnings_are_scikit_learns():
    with pytest.warns(ConvergenceWarning):
        fit(tol=0, max_iter=1)
