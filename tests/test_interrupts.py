"""Ctrl-C at any line of a public call: nothing stays half done.

``SKEMVAE_EVERY_LINE=1 pytest tests/test_interrupts.py`` strikes at every line that a call comes to,
at its first and at its last visit (an hour); otherwise at a sample of them, and at all lines of the
code that gives back and publishes.
"""

import copy
import os
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from skemvae import (
    DensityOutlierDetector,
    EMGaussianMixture,
    TransformedDensity,
    VAEEstimator,
    VariationalEM,
    compare,
)
from skemvae.base import LatentDensityEstimator
from skemvae.models import BayesianMixture, FactorModel
from tests.interrupting import (
    Struck,
    check_no_region_is_open,
    lines_of,
    strike,
    surroundings,
)
from tests.own_models import GaussianPair, LinearGaussian
from tests.threads import limited

pytestmark = pytest.mark.filterwarnings("ignore")

EVERY_LINE = bool(os.environ.get("SKEMVAE_EVERY_LINE"))
SAMPLED = 5
# What gives back and what publishes, the same for all calls: struck at all of its lines in one.
CRITICAL = {"em.score_samples": "core/parallel.py", "em.partial_fit": "skemvae/base.py"}

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3)) + np.repeat([[0.0], [4.0]], 20, axis=0)
OTHER = rng.normal(size=(30, 2))

ESTIMATORS = {
    "em": lambda: EMGaussianMixture(2, max_iter=3, tol=0, n_init=2, random_state=0),
    "bayesian": lambda: VariationalEM(BayesianMixture(3), max_iter=2, tol=0, random_state=0),
    "factors": lambda: VariationalEM(FactorModel(1), max_iter=2, tol=0, random_state=0),
    "own": lambda: VariationalEM(LinearGaussian(1), max_iter=1, tol=0, random_state=0),
    "enumerated": lambda: VariationalEM(GaussianPair(2), max_iter=2, tol=0, random_state=0),
    "vae": lambda: VAEEstimator(
        1, hidden_layer_sizes=(4,), max_iter=2, n_score_samples=16, random_state=0
    ),
    "detector": lambda: DensityOutlierDetector(
        EMGaussianMixture(2, max_iter=2, random_state=0), cv=2
    ),
    "transformed": lambda: TransformedDensity(
        StandardScaler(), EMGaussianMixture(2, max_iter=2, random_state=0)
    ),
}
LATENT = ["em", "bayesian", "factors", "own", "enumerated", "vae"]


@pytest.fixture(autouse=True)
def two_threads():
    """So that there is a limit to be held, and a helper to be waited for."""
    before = torch.get_num_threads()
    with limited(2):
        torch.set_num_threads(2)
        yield
    torch.set_num_threads(before)


@cache
def _fitted_to_other(name):
    return ESTIMATORS[name]().fit(OTHER)


@cache
def _fitted(name):
    return ESTIMATORS[name]().fit(X)


@dataclass(frozen=True)
class Call:
    """A public call that may be interrupted.

    Attributes
    ----------
    name : str
        Of an estimator, or what is called instead.
    method : str
    changes : bool
        Whether it changes the estimator.
    """

    name: str
    method: str
    changes: bool = False

    def __str__(self):
        return f"{self.name}.{self.method}"

    def subject(self) -> Any:
        """A fitted estimator; before ``fit`` to another table, with other columns."""
        if self.name not in ESTIMATORS:
            return SEARCHES[self.name]
        fitted = _fitted_to_other if self.method == "fit" else _fitted
        return copy.copy(fitted(self.name))

    def on(self, subject):
        """Make the call."""
        if self.name not in ESTIMATORS:
            return subject()
        if self.method == "sample":
            return subject.sample(5, random_state=0)
        return getattr(subject, self.method)(X)


def search():
    em = EMGaussianMixture(max_iter=2, random_state=0)
    return GridSearchCV(em, {"n_components": [1, 2]}, cv=2).fit(X).best_estimator_


def comparison():
    estimators = {"em": ESTIMATORS["em"](), "bayesian": ESTIMATORS["bayesian"]()}
    return compare(estimators, X, cv=2).log_densities


SEARCHES = {"search": search, "comparison": comparison}
CALLS = [
    *(Call(name, "fit", True) for name in ESTIMATORS),
    *(Call(name, "partial_fit", True) for name in ("em", "vae")),
    *(Call(name, "score_samples") for name in ESTIMATORS),
    *(Call(name, "sample") for name in (*LATENT, "transformed")),
    *(Call(name, "transform") for name in LATENT),
    *(Call(name, "decompose_bound") for name in (LATENT if EVERY_LINE else ("em", "bayesian"))),
    *(Call(name, "feature_scores") for name in ("em", "bayesian", "factors", "vae", "detector")),
    *(Call(name, "predict") for name in ("em", "bayesian", "enumerated", "detector")),
    *(Call(name, "call") for name in SEARCHES),
]


def places(call):
    """Lines and visits where to strike."""
    visits = lines_of(lambda: call.on(call.subject()))
    found = [(line, n) for line, last in visits.items() for n in sorted({1, last})]
    if EVERY_LINE:
        return found
    in_full = CRITICAL.get(str(call))
    critical = [place for place in found if in_full and place[0][0].endswith(in_full)]
    others = [place for place in found if place not in critical]
    chosen = np.linspace(0, len(others) - 1, min(SAMPLED, len(others))).round().astype(int)
    return [*critical, *(others[i] for i in chosen)]


def as_bits(value):
    """What can be compared to the last bit."""
    if hasattr(value, "__getstate__") and not isinstance(value, np.ndarray | np.generic):
        state = value.__getstate__()
        if isinstance(state, dict):
            return as_bits(state)
    if isinstance(value, dict):
        return {name: as_bits(each) for name, each in value.items() if name != "fit_times"}
    if isinstance(value, list | tuple):
        return [as_bits(each) for each in value]
    if hasattr(value, "numpy"):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    return repr(value)


def check_whole(subject, before, complete):
    """All attributes are those of before, or all are those of one new fit."""
    if subject.__dict__.keys() == before.keys() and all(
        subject.__dict__[name] is value for name, value in before.items()
    ):
        return
    assert subject.__dict__.keys() == complete.__dict__.keys()
    assert subject.n_features_in_ == X.shape[1]
    assert np.isfinite(subject.score_samples(X)).all()
    if hasattr(subject, "lower_bounds_"):
        if not isinstance(subject, VAEEstimator):
            assert subject.lower_bound_ == subject.lower_bounds_[-1]
        assert subject.status_ in ("interrupted", complete.status_)
        if subject.status_ != "ongoing":
            assert len(subject.lower_bounds_) == subject.n_iter_ + 1
    if hasattr(subject, "estimator_"):  # it may have been told to stop, and be usable
        check_whole(subject.estimator_, {}, complete.estimator_)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_nothing_stays_half_done(call):
    complete = call.subject()
    answer = as_bits(call.on(complete))
    around = surroundings()
    failures, n_struck = [], 0
    for line, visit in places(call):
        subject = call.subject()
        before = dict(getattr(subject, "__dict__", {}))
        was_struck, was_raised = strike(partial(call.on, subject), line, visit)
        n_struck += was_struck
        try:
            assert surroundings() == around
            check_no_region_is_open()
            if call.changes:
                check_whole(subject, before, complete)
            elif call.name in ESTIMATORS:
                assert was_raised or not was_struck
                assert subject.__dict__ == before
            assert as_bits(call.on(call.subject())) == answer
        except Exception as failure:
            failures.append(f"{line}, visit {visit}: {type(failure).__name__} {failure}"[:300])
    print(f"{call}: {n_struck} interrupts, {len(failures)} failures")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("name", LATENT)
def test_closing_statistics_that_are_interrupted_lose_no_climb(name, monkeypatch):
    complete = ESTIMATORS[name]().fit(X)
    subject = copy.copy(_fitted_to_other(name))

    def struck(*_):
        raise Struck

    monkeypatch.setattr(LatentDensityEstimator, "_remember_surprise", struck)
    with pytest.warns(ConvergenceWarning, match="Interrupted"):
        subject.fit(X)
    assert subject.status_ == "interrupted"
    assert not subject.converged_
    assert as_bits(subject.lower_bounds_) == as_bits(complete.lower_bounds_)
    assert as_bits(subject.score_samples(X)) == as_bits(complete.score_samples(X))
    if name not in ("own", "enumerated"):  # which do not say how probable each column is
        assert np.isfinite(subject.feature_scores(X)).all()
