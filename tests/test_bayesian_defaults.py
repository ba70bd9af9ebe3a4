"""How many components the default Bayesian mixture finds, and that more of them end no lower."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.metrics import adjusted_rand_score

from skemvae import VariationalEM
from skemvae.doubts import DoubtfulFitWarning
from skemvae.models import BayesianMixture
from tests.strategies import CONJUGATE


def fitted(X, n_components=10, *args, **parameters):
    return VariationalEM(BayesianMixture(n_components, *args, **parameters), random_state=0).fit(X)


def clusters(seed, n, d, k, distance):
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    return distance * rng.standard_normal((k, d))[labels] + rng.standard_normal((n, d)), labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "d"), [(40, 20), (60, 20), (200, 30), (1000, 20), (300, 2)])
def test_one_gaussian_is_one_component(n, d, seed):
    """However few its rows are, and also if its columns have units and are correlated."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    for table in (X, X @ rng.standard_normal((d, d)) * 10.0 ** rng.integers(-3, 4, d)):
        em = fitted(table)
        assert em.model_.n_active_components_ == 1
        assert em.lower_bound_ > fitted(table, 1).lower_bound_ - 5 / n


@pytest.mark.parametrize("structure", CONJUGATE)
def test_one_gaussian_of_few_rows_is_one_component_in_every_structure(structure):
    X = np.random.default_rng(0).standard_normal((200, 30))
    assert fitted(X, 10, structure).model_.n_active_components_ == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("distance", [2, 4])
def test_clusters_of_few_rows_are_found(distance, seed):
    X, labels = clusters(seed, 500, 30, 3, distance)
    em = fitted(X)
    assert em.model_.n_active_components_ == 3
    assert adjusted_rand_score(labels, em.predict(X)) > 0.98


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("code", [-9999.0, 1e6])
def test_far_codes_do_not_blur_clusters(code, seed):
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(0, 1, 500), rng.normal(8, 1, 500), np.full(50, code)])
    with pytest.warns(DoubtfulFitWarning, match="collapsed"):
        model = fitted(x[:, None]).model_
    active = np.sort(model.means_[model.weights_ > 0.01].ravel())
    np.testing.assert_allclose(np.sort([0, 8, code]), active, atol=0.3)


def tables():
    yield "iris", load_iris().data
    yield "wine", load_wine().data
    for seed, (n, d, k) in enumerate([(35, 10, 3), (95, 30, 3), (100, 5, 6), (300, 2, 6)]):
        X, _ = clusters(seed, n, d, k, 3)
        yield f"clusters {n} x {d}", X
        yield f"rounded {n} x {d}", np.round(X)
        heavy = X * np.random.default_rng(seed).standard_t(3, size=(n, 1))
        yield f"heavy {n} x {d}", heavy


@pytest.mark.filterwarnings("ignore::skemvae.doubts.DoubtfulFitWarning")
@pytest.mark.parametrize("X", [pytest.param(X, id=name) for name, X in tables()])
def test_more_components_end_no_lower(X):
    """By a process of the same concentration; that there is more than one costs half a nat."""
    bounds = [
        fitted(X, k, weight_concentration_prior=0.1).lower_bound_ for k in (1, 2, 3, 5, 8, 10)
    ]
    assert bounds[-1] >= max(bounds) - 0.01 - 0.5 / len(X)
