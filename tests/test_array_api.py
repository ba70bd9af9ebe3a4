"""Tensors in, tensors out: what scikit-learn's dispatch on arrays of other libraries asks for."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest
import sklearn
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import (
    DensityOutlierDetector,
    EMGaussianMixture,
    VariationalEM,
    compare,
    from_batches,
)
from skemvae.array_api import as_numpy
from skemvae.models import FactorModel
from tests.estimators import ESTIMATORS
from tests.versions import RECENT

pytestmark = [
    pytest.mark.skipif(not RECENT, reason="dispatch on tensors asks for a recent scikit-learn"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

ROWS = np.random.default_rng(0).normal(size=(120, 3))
TENSOR = torch.from_numpy(ROWS.copy())
MIXTURE = EMGaussianMixture(2, random_state=0)
FITTED = {
    **ESTIMATORS,
    "factors": VariationalEM(FactorModel(1), max_iter=2, random_state=0),
    "detector": DensityOutlierDetector(make_pipeline(StandardScaler(), MIXTURE), cv=2),
}
METHODS = ["score_samples", "elbo", "transform", "predict", "predict_proba", "decision_function"]
METHODS += ["feature_scores", "fit_predict", "fit_transform"]


@pytest.fixture
def _dispatch():
    with sklearn.config_context(array_api_dispatch=True):
        yield


@pytest.mark.usefixtures("_dispatch")
@pytest.mark.parametrize("name", FITTED)
def test_tensors_come_out_where_tensors_go_in_and_are_the_same_numbers(name):
    estimator = FITTED[name]
    expected = sklearn.clone(estimator).fit(ROWS)
    fitted = sklearn.clone(estimator).fit(TENSOR)
    assert fitted.score_samples(ROWS).__class__ is np.ndarray  # one fit serves all libraries
    for method in [method for method in METHODS if hasattr(fitted, method)]:
        answer = getattr(fitted, method)(TENSOR)
        assert isinstance(answer, torch.Tensor), method
        assert answer.device == TENSOR.device
        np.testing.assert_array_equal(answer.numpy(), getattr(expected, method)(ROWS))
    _, errors = fitted.score_samples(TENSOR, return_std=True)
    assert isinstance(errors, torch.Tensor)
    if hasattr(fitted, "score"):
        weight = np.arange(120.0)
        score = fitted.score(TENSOR, sample_weight=torch.from_numpy(weight))
        assert score == expected.score(ROWS, sample_weight=weight)
    if hasattr(fitted, "decompose_bound"):
        parts, same = fitted.decompose_bound(TENSOR), expected.decompose_bound(ROWS)
        np.testing.assert_array_equal(parts.log_likelihood, same.log_likelihood)


@pytest.mark.usefixtures("_dispatch")
def test_pipelines_and_searches_take_tensors():
    behind = make_pipeline(StandardScaler(), MIXTURE).fit(TENSOR)
    scores = behind.score_samples(TENSOR)
    same = make_pipeline(StandardScaler(), MIXTURE).fit(ROWS).score_samples(ROWS)
    np.testing.assert_allclose(scores.numpy(), same, atol=1e-9)
    before = make_pipeline(MIXTURE, Ridge(solver="svd")).fit(TENSOR, TENSOR[:, 0])
    assert isinstance(before.predict(TENSOR), torch.Tensor)
    search = GridSearchCV(MIXTURE, {"n_components": [1, 2]}, cv=2, error_score="raise")
    assert search.fit(TENSOR).best_score_ == search.fit(ROWS).best_score_
    assert compare([MIXTURE], TENSOR, cv=2).best.mean == compare([MIXTURE], ROWS, cv=2).best.mean


@pytest.mark.usefixtures("_dispatch")
def test_whatever_else_belongs_to_rows_may_be_a_tensor():
    labels = torch.arange(120) % 2
    expected = sklearn.clone(MIXTURE).set_params(init_params=labels.numpy(), means_init=ROWS[:2])
    expected.fit(ROWS, sample_weight=np.arange(120.0))
    asked = sklearn.clone(MIXTURE).set_params(init_params=labels, means_init=TENSOR[:2])
    asked.fit(TENSOR, sample_weight=torch.arange(120.0))
    np.testing.assert_array_equal(asked.means_, expected.means_)
    batches = from_batches([TENSOR[:50], (TENSOR[50:])])
    assert sklearn.clone(MIXTURE).fit(batches).score(TENSOR) == pytest.approx(
        sklearn.clone(MIXTURE).fit(from_batches([ROWS[:50], ROWS[50:]])).score(ROWS), abs=1e-12
    )


@pytest.mark.parametrize("name", FITTED)
def test_without_dispatch_answers_are_arrays(name):
    """Also of tensors that have a gradient, of which NumPy knows nothing."""
    X = TENSOR.clone().requires_grad_()
    fitted = sklearn.clone(FITTED[name]).fit(X)
    expected = sklearn.clone(FITTED[name]).fit(ROWS).score_samples(ROWS)
    scores = fitted.score_samples(X)
    assert type(scores) is np.ndarray
    np.testing.assert_array_equal(scores, expected)


def test_what_is_no_array_of_another_library_stays_what_it_is():
    for X in (ROWS, ROWS.tolist(), np.ma.masked_array(ROWS), None, "X"):
        assert as_numpy(X) is X
