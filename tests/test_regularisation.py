"""What the scale of ``reg_covar`` depends on, and that nothing far away blurs what is close."""

import warnings

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from skemvae import DensityOutlierDetector, EMGaussianMixture
from skemvae.core.rows import Frame, Rows
from skemvae.engine.samples.summary import Summary
from tests.ridge import ridge
from tests.strategies import seeds

SEEDS = range(3)
COLUMNS = ("normal", "flag", "likert", "year", "rounded", "zeros", "code", "far row", "constant")


def column(kind, rng, n=300):
    """A column as there are many."""
    normal = rng.normal(size=n)
    return {
        "normal": normal,
        "flag": (normal > 0).astype(float),
        "likert": np.clip(np.round(normal + 3), 1, 5),
        "year": 2019 + rng.integers(0, 8, n),
        "rounded": np.round(normal, 1),
        "zeros": np.where(rng.random(n) < 0.6, 0.0, normal),
        "code": np.where(rng.random(n) < 0.1, -9999.0, normal),
        "far row": np.where(np.arange(n) == 7, 1e6, normal),
        "constant": np.full(n, 3.0),
    }[kind].astype(float)


def noise_of(X, weight=None, share=1.0):
    rows = Rows.of(X, weight)
    summary = Summary.of(rows)
    frame = Frame(summary.mean, summary.scale)
    sketch = summary.sketch(rows.framed(frame), 4096)
    return summary.noise(share, summary.grain(sketch, frame))


def fit(X, k, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return EMGaussianMixture(k, random_state=0, **parameters).fit(X)


def deviations(mixture):
    """Of one column, in the order of the means."""
    order = np.argsort(mixture.means_[:, 0])
    return mixture.means_[order, 0], np.sqrt(mixture.covariances_.reshape(len(order))[order])


# The scale.


@pytest.mark.parametrize("kind", COLUMNS)
@given(seeds)
def test_the_ridge_is_what_is_documented(kind, seed):
    X = column(kind, np.random.default_rng(seed))[:, None]
    floor = (4096 * np.finfo(float).eps * np.abs(X).max()) ** 2
    np.testing.assert_allclose(noise_of(X), np.maximum(ridge(X, 1.0), floor), rtol=1e-6)


@pytest.mark.parametrize("kind", COLUMNS)
@given(seeds, st.sampled_from([-3.7, 0.01, 1e50]), st.sampled_from([0.0, 1e3]))
def test_the_ridge_sees_neither_order_nor_repetition_nor_units(kind, seed, scale, offset):
    rng = np.random.default_rng(seed)
    X = column(kind, rng)[:, None]
    weight = rng.integers(0, 4, len(X)).astype(float)
    if kind == "constant":
        scale, offset = 1.0, 0.0  # the floor is that of the largest value
    noise = noise_of(X, weight)
    repeated = rng.permutation(np.repeat(X, weight.astype(int), axis=0))
    np.testing.assert_allclose(noise_of(repeated), noise, rtol=1e-6)
    changed = scale * (X + offset)
    np.testing.assert_allclose(noise_of(changed, weight), scale**2 * noise, rtol=1e-6)


@given(seeds, st.integers(2, 6), st.sampled_from([1e2, 1e4, 1e6]))
@example(135, 2, 1e6)
def test_the_ridge_stays_when_groups_move_apart(seed, k, distance):
    rng = np.random.default_rng(seed)
    # On a grid that is wide beside the rounding of far values, so that none meet there.
    X, labels = rng.normal(size=(400, 1)).round(3), rng.integers(k, size=400)
    apart = noise_of(X + distance * labels[:, None])
    assert 0.2 * k**2 < apart < 2 * k**2
    np.testing.assert_allclose(apart, noise_of(X + 30 * labels[:, None]), rtol=1e-4)


@given(seeds)
def test_the_ridge_of_a_normal_column_is_a_share_of_its_variance(seed):
    X = np.random.default_rng(seed).normal(size=(4000, 3))
    np.testing.assert_allclose(noise_of(X, share=1e-3), 1e-3, rtol=0.25)


def test_the_ridge_of_a_long_table_has_no_seed():
    X = np.random.default_rng(0).normal(size=(20_000, 3))
    one, other = (EMGaussianMixture(2, random_state=seed, max_iter=1) for seed in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one.fit(X), other.fit(X)
    np.testing.assert_array_equal(one._stream.noise, other._stream.noise)


def test_a_batch_of_few_rows_counts_little_in_the_ridge_of_a_stream():
    """Ten rows do not show 50 groups, which the first batch has shown."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 1)) + 100.0 * rng.integers(50, size=(5000, 1))
    mixture = fit(X, 50)
    before = mixture._stream.noise
    for rows in np.split(X[:200], 20):
        mixture.partial_fit(rows)
    np.testing.assert_allclose(mixture._stream.noise, before, rtol=0.3)


# What used to be blurred.


@pytest.mark.parametrize("seed", SEEDS)
def test_a_code_blurs_no_clusters(seed):
    rng = np.random.default_rng(seed)
    x = np.r_[rng.normal(0, 1, 500), rng.normal(8, 1, 500), np.full(50, -9999.0)]
    with pytest.warns(UserWarning, match="collapsed"):
        means, widths = deviations(fit(x[:, None], 3))
    np.testing.assert_allclose(means, [-9999, 0, 8], atol=0.2)
    np.testing.assert_allclose(widths, [0, 1, 1], atol=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_far_row_hides_no_clusters(seed):
    rng = np.random.default_rng(seed)
    x = np.r_[rng.normal(0, 1, 500), rng.normal(8, 1, 500), 1e6]
    means, widths = deviations(fit(x[:, None], 3))
    np.testing.assert_allclose(means, [0, 8, 1e6], atol=0.2)
    np.testing.assert_allclose(widths, [1, 1, 0], atol=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_tight_clusters_stay_tight_however_far_apart(seed):
    rng = np.random.default_rng(seed)
    x = np.r_[rng.normal(0, 0.05, 500), rng.normal(20_000, 0.05, 500)]
    _, widths = deviations(fit(x[:, None], 2))
    np.testing.assert_allclose(widths, 0.05, rtol=0.15)


@pytest.mark.parametrize("k", [50, 100, 200])
@pytest.mark.parametrize("seed", SEEDS)
def test_many_groups_have_their_own_width(k, seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(k), 100)
    x = 100.0 * labels + rng.normal(size=100 * k)
    mixture = fit(x[:, None], k)
    assert adjusted_rand_score(labels, mixture.predict(x[:, None])) == 1
    own = x.reshape(k, 100).std(1)
    np.testing.assert_allclose(deviations(mixture)[1], own, rtol=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_detector_sees_beside_one_far_row(seed):
    rng = np.random.default_rng(seed)
    X = np.r_[rng.normal(size=(1000, 3)), [[1e6, 0.0, 0.0]]]
    new = rng.normal(size=(2000, 3))
    detector = DensityOutlierDetector(EMGaussianMixture(2, random_state=0)).fit(X)
    assert (detector.predict(new) < 0).mean() < 0.1
    assert (detector.predict(new + np.array([8, 0, 0])) < 0).mean() > 0.99
