"""Maxima of the likelihood that are known from the literature, reached from default starts."""

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score

from skemvae import EMGaussianMixture

IRIS = load_iris().data


def total(X, k, seed, **parameters):
    parameters = {"tol": 1e-6, "max_iter": 1000, "random_state": seed, **parameters}
    return EMGaussianMixture(k, **parameters).fit(X).score(X) * len(X)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(("k", "optimum"), [(3, -180.185), (2, -214.355)])
def test_iris(k, optimum, seed):
    np.testing.assert_allclose(total(IRIS, k, seed), optimum, atol=0.5)
    np.testing.assert_allclose(total(IRIS, k, seed, tol=1e-9), optimum, atol=0.01)


@pytest.fixture(scope="module")
def old_faithful():
    """Waiting times and durations; not shipped with any dependency, hence from SKEMVAE_DATA."""
    folder = os.environ.get("SKEMVAE_DATA")
    if not folder:
        pytest.skip("set SKEMVAE_DATA to the folder that holds classic/faithful.csv")
    path = Path(folder) / "classic" / "faithful.csv"
    return np.loadtxt(path, delimiter=",", skiprows=1, usecols=(-2, -1))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("k", "structure", "optimum"), [(2, "full", -1130.264), (3, "tied", -1126.316)]
)
def test_old_faithful(k, structure, optimum, seed, old_faithful):
    reached = total(old_faithful, k, seed, covariance_type=structure, tol=1e-8)
    np.testing.assert_allclose(reached, optimum, atol=0.01)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_two_cigars(seed, angle):
    """Two parallel clusters, 50 times as long as wide: k-means cuts them across."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((4000, 2)) * [50, 1]
    X[2000:] += [20, 6]
    X = X @ [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    labels = EMGaussianMixture(2, random_state=seed).fit_predict(X)
    assert adjusted_rand_score(np.repeat([0, 1], 2000), labels) > 0.95
