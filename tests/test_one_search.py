"""One search chooses among exact EM, variational EM and VAEs by held-out nats."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM, compare
from skemvae.models import BayesianMixture

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FOLDS = KFold(3, shuffle=True, random_state=0)
PIPELINE = Pipeline([("scale", StandardScaler()), ("density", EMGaussianMixture())])
GRID = [
    {
        "density": [EMGaussianMixture(random_state=0)],
        "density__n_components": [1, 2],
        "density__covariance_type": ["full", "spherical"],
    },
    {
        "density": [VariationalEM(random_state=0)],
        "density__model": [BayesianMixture(3)],
        "density__model__covariance_type": ["full", "tied"],
    },
    {
        "density": [
            VAEEstimator(2, hidden_layer_sizes=(), max_iter=6, n_score_samples=16, random_state=0)
        ],
        "density__likelihood": ["gaussian", "student_t"],
    },
]
FAMILIES = {"EMGaussianMixture", "VariationalEM", "VAEEstimator"}


def light_tails(n=200):
    """Rows of one Gaussian."""
    rng = np.random.default_rng(0)
    return rng.multivariate_normal([5, -1, 0], [[2, 1, 0], [1, 1, 0], [0, 0, 9]], n)


def heavy_tails(n=200):
    """Rows along a line, with outliers in each feature that few Gaussians explain."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 1)) + 0.3 * rng.standard_t(1.5, size=(n, 4))


def family(search, i):
    return type(search.cv_results_["params"][i]["density"]).__name__


def test_all_families_are_searched_and_scored_on_one_scale():
    X = load_iris().data[::2]
    search = GridSearchCV(PIPELINE, GRID, cv=FOLDS, error_score="raise").fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert {family(search, i) for i in range(len(scores))} == FAMILIES
    assert np.isfinite(scores).all()
    assert search.best_score_ == scores.max()
    # The same number by hand, for the best of each family.
    for name in FAMILIES:
        i = max(
            (i for i in range(len(scores)) if family(search, i) == name), key=lambda i: scores[i]
        )
        chosen = PIPELINE.set_params(**search.cv_results_["params"][i])
        by_hand = compare({name: chosen}, X, cv=FOLDS).best
        assert scores[i] == pytest.approx(by_hand.mean, rel=1e-9)
    assert search.score(X) == pytest.approx(search.score_samples(X).mean())


def test_the_data_decide():
    vae = VAEEstimator(
        1,
        hidden_layer_sizes=(),
        likelihood="student_t",
        learning_rate="cosine",
        learning_rate_init=0.03,
        max_iter=20,
        n_score_samples=16,
        random_state=0,
    )
    grid = [
        {"density": [EMGaussianMixture(random_state=0)], "density__n_components": [1, 2]},
        {"density": [vae]},
    ]
    winners = [
        type(GridSearchCV(PIPELINE, grid, cv=FOLDS).fit(X).best_estimator_["density"]).__name__
        for X in (light_tails(), heavy_tails())
    ]
    assert winners == ["EMGaussianMixture", "VAEEstimator"]


def test_the_same_choice_with_any_number_of_jobs():
    searches = [
        GridSearchCV(PIPELINE, GRID[:2], cv=FOLDS, n_jobs=n_jobs).fit(load_iris().data[::2])
        for n_jobs in (1, 2)
    ]
    for key in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(*(search.cv_results_[key] for search in searches))
    assert str(searches[0].best_params_) == str(searches[1].best_params_)


def test_halving_spends_rows_on_the_good_ones():
    X = np.tile(load_iris().data, (2, 1)) + np.random.default_rng(0).normal(0, 0.1, (300, 4))
    search = HalvingGridSearchCV(
        PIPELINE, GRID, cv=FOLDS, min_resources=60, factor=4, random_state=0, error_score="raise"
    ).fit(X)
    assert search.n_candidates_ == [8, 2]
    assert search.n_resources_ == [60, 240]
    results = search.cv_results_
    first = results["iter"] == 0
    assert {family(search, i) for i in np.flatnonzero(first)} == FAMILIES
    went_on = np.sort(results["mean_test_score"][first])[-2:]
    again = {str(p) for p in np.array(results["params"])[results["iter"] == 1]}
    for i in np.flatnonzero(first):
        went = str(results["params"][i]) in again
        assert went == (results["mean_test_score"][i] in went_on)
    assert search.score_samples(X).shape == (len(X),)
