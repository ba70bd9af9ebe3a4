"""Laws of on-line EM: ``EMGaussianMixture.partial_fit``."""

import copy
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import skemvae
from skemvae import EMGaussianMixture
from skemvae.core import em
from skemvae.core.rows import Frame, Rows
from skemvae.engine.samples.grain import Grain
from skemvae.engine.samples.summary import Summary
from skemvae.mixtures.stream import Stream, online_step
from tests.laws import costly
from tests.passes import em_on
from tests.ridge import ridge, width
from tests.steps import SteppingEM, watch
from tests.strategies import MATRICES, matrices, mixtures, regularisations, seeds, tables

PARAMETERS = ("weights_", "means_", "covariances_", "precisions_")


def batch_em(X, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return EMGaussianMixture(**parameters).fit(X)


def clusters(distance, n=20_000, d=3, k=4, seed=0):
    """Rows of a mixture, in random order."""
    rng = np.random.default_rng(seed)
    means = distance * rng.standard_normal((k, d))
    factors = np.eye(d) + 0.4 * rng.standard_normal((k, d, d))
    labels = rng.integers(k, size=n)
    return means[labels] + (factors[labels] @ rng.standard_normal((n, d, 1)))[:, :, 0]


def summary_of(table):
    return Summary.of(Rows.of(table, None))


def stream(mixture, X, size, sample_weight=None):
    for start in range(0, len(X), size):
        rows = slice(start, start + size)
        weight = None if sample_weight is None else sample_weight[rows]
        mixture.partial_fit(X[rows], sample_weight=weight)
    return mixture


def state(mixture):
    """What is fitted, as bytes that can be compared."""
    fitted = {k: v for k, v in vars(mixture).items() if k not in mixture.get_params()}
    return {k: pickle.dumps(v) for k, v in fitted.items()}


def assert_close(one, other, rtol=1e-9):
    for name in PARAMETERS:
        a, b = getattr(one, name), getattr(other, name)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(), err_msg=name)


X = clusters(2.0, n=3000)
SMALL = EMGaussianMixture(3, random_state=0)


# The step.


@given(mixtures(structure=matrices), regularisations)
def test_parameters_and_moments_determine_each_other(mixture, noise):
    mixture = replace(mixture, noise=noise * mixture.covariance.variances.min(0))
    same = mixture.maximise(mixture.moments)
    np.testing.assert_allclose(same.weights, mixture.weights, rtol=1e-12)
    np.testing.assert_array_equal(same.means, mixture.means)
    np.testing.assert_allclose(same.covariance.values, mixture.covariance.values, rtol=1e-9)


@given(mixtures(structure=matrices), seeds, st.floats(0.01, 1.0))
def test_half_a_batch_and_then_the_other_half_is_the_batch(mixture, seed, step):
    """While the responsibilities stay, steps are additive: nothing is lost between two calls."""
    d = mixture.means.shape[1]
    drawn, _ = mixture.sample(40, np.random.RandomState(seed))
    whole, first, second = (
        em_on(Rows(rows, None, Frame.identity(d))).start(mixture)
        for rows in (drawn, drawn[:20], drawn[20:])
    )
    half = online_step(mixture, first.expectation, (step / 2) / (1 - step / 2))
    both = online_step(half, second.expectation, step / 2)
    at_once = online_step(mixture, whole.expectation, step)
    np.testing.assert_allclose(both.weights, at_once.weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(both.means, at_once.means, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(
        both.covariance.values, at_once.covariance.values, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("covariance_type", MATRICES)
@pytest.mark.parametrize("reg_covar", [0, 1e-6, 0.1])
def test_the_whole_table_as_a_batch_is_an_iteration_of_em(covariance_type, reg_covar):
    parameters = {
        "n_components": 3,
        "covariance_type": covariance_type,
        "reg_covar": reg_covar,
        "random_state": 0,
        "tol": 0,
        "acceleration": None,
        "learning_decay": 0,
    }
    mixture = EMGaussianMixture(**parameters)
    for n_iter in (1, 2, 3):
        mixture.partial_fit(X)
        expected = batch_em(X, **parameters, max_iter=n_iter)
        assert_close(mixture, expected)
        # Of the parameters before each step.
        np.testing.assert_allclose(mixture.lower_bounds_, expected.lower_bounds_[:-1], rtol=1e-12)
    assert_close(expected.partial_fit(X), batch_em(X, **parameters, max_iter=4))


def test_known_parameters_go_on_by_an_iteration_of_em():
    begin = batch_em(X, n_components=2, random_state=0, max_iter=1)
    known = EMGaussianMixture.from_parameters(begin.weights_, begin.means_, begin.covariances_)
    assert_close(known.partial_fit(X), begin.set_params(learning_decay=0).partial_fit(X), 1e-5)
    assert known.n_samples_seen_ == len(X)


def test_steps_get_shorter_as_documented():
    summary, grain = summary_of(X), Grain.of(X, np.zeros(3), len(X))
    batch = Stream(summary, grain, summary.noise(0, grain), 1e4, 10_000)
    past, steps = batch.unseen, []
    for _ in range(50):
        steps.append(past.step_sizes(batch, 0.8, 10))
        past = past.followed_by(batch, steps[-1].average, lambda _, __: batch.noise)
    t = np.arange(1, 51)
    climb, average = np.transpose(steps)
    np.testing.assert_allclose(climb, np.minimum(1, 5 * t**-0.4))
    np.testing.assert_allclose(average, np.minimum(1, 3 * t**-0.8))
    assert past.weight == 50 * batch.weight
    assert past.n_rows == 50 * batch.n_rows
    one_row = replace(batch, weight=1.0, n_rows=1)
    # A row of half a million moves no more than the memory of 5 rows per parameter allows ...
    assert past.step_sizes(one_row, 0.0, 1000) == (1 / 5000, 1 / 5000)
    # ... unless there were fewer rows.
    few = replace(batch, weight=9.0, n_rows=9)
    assert few.step_sizes(one_row, 0.7, 1000) == (0.1, 0.1)


def test_the_average_of_one_component_weighs_the_last_third():
    """Where no E step can err, the t-th of equal batches counts as the square of t."""
    X = clusters(1.0, n=5000)
    mixture = stream(EMGaussianMixture(reg_covar=0.1), X, 100)
    steps = np.minimum(1, 3 / np.arange(1, 51))
    weight = steps * np.cumprod(np.append(1, 1 - steps[:0:-1]))[::-1]
    weight = np.repeat(weight / 100, 100)
    np.testing.assert_allclose(mixture.means_[0], weight @ X, rtol=1e-9)
    expected = np.cov(X.T, aweights=weight, bias=True)
    # All batches have as many gaps: the width is that of the average batch.
    widths = np.array([[width(x) for x in batch.T] for batch in X.reshape(50, 100, 3)])
    scale = np.minimum(weight[::100] * 100 @ widths, np.sqrt(np.diag(expected)))
    expected += 0.1 * np.diag(scale**2)
    np.testing.assert_allclose(mixture.covariances_[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("learning_decay", [0.9, 1.0])
def test_e_steps_climb_while_their_moments_are_averaged_twice(learning_decay):
    """The step as it is documented, written out."""
    X = clusters(1.0, n=12_000)
    mixture = EMGaussianMixture(4, reg_covar=0, random_state=0, learning_decay=learning_decay)
    mixture.partial_fit(X[:200])

    def m_step(moments):
        count, first, second = moments
        means = first / count[:, None]
        covariances = second / count[:, None, None] - means[:, :, None] * means[:, None, :]
        return EMGaussianMixture.from_parameters(count, means, covariances)

    covariances = mixture.covariances_ + mixture.means_[:, :, None] * mixture.means_[:, None, :]
    weight = mixture.weights_
    moments = weight, weight[:, None] * mixture.means_, weight[:, None, None] * covariances
    climbing = average = moments
    for t, batch in enumerate(np.split(X[200:], 59), 2):
        climber = m_step(climbing)
        r = climber.predict_proba(batch) / len(batch)
        moments = r.sum(0), r.T @ batch, np.einsum("nk,ni,nj->kij", r, batch, batch)
        climb, step = min(1, 5 * t ** (-learning_decay / 2)), min(1, 3 * t**-learning_decay)
        climbing = [(1 - climb) * a + climb * b for a, b in zip(climbing, moments, strict=True)]
        average = [(1 - step) * a + step * b for a, b in zip(average, moments, strict=True)]
        mixture.partial_fit(batch)
        assert mixture.lower_bound_ == pytest.approx(climber.score(batch), rel=1e-9)
    assert_close(mixture, m_step(average), 1e-6)


def test_where_batch_em_rests_the_stream_does():
    rest = batch_em(X, n_components=3, random_state=0, tol=1e-13, max_iter=10_000)
    moved = copy.deepcopy(rest)
    for _ in range(5):
        moved.partial_fit(X)
    assert_close(moved, rest, 1e-5)


@given(tables(), tables(), st.sampled_from([0.0, -1e6]))
def test_summaries_blend_to_that_of_all_rows(one, other, offset):
    d = min(one.shape[1], other.shape[1])
    one, other = one[:, :d] + offset, other[:, :d] + offset
    together = summary_of(np.concatenate([one, other]))
    blended = summary_of(one).blend(summary_of(other), len(other) / (len(one) + len(other)))
    np.testing.assert_allclose(blended.mean, together.mean, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(blended.spread, together.spread, rtol=1e-7, atol=1e-9)
    assert (blended.largest <= together.largest * (1 + 1e-12)).all()
    assert (blended.largest >= np.abs(other).max(0)).all()


# What must not matter.


@costly(3)
@given(matrices, st.integers(-300, 300), seeds)
def test_units_move_the_bounds_by_their_volume_only(covariance_type, exponent, seed):
    table = clusters(2.0, n=90, d=2, k=2, seed=seed)
    plain, other = (
        stream(EMGaussianMixture(2, covariance_type=covariance_type, random_state=0), rows, 30)
        for rows in (table, np.ldexp(table, exponent))
    )
    np.testing.assert_array_equal(other.means_, np.ldexp(plain.means_, exponent))
    np.testing.assert_array_equal(other.weights_, plain.weights_)
    shifted = plain.lower_bounds_ - 2 * exponent * np.log(2)
    np.testing.assert_allclose(other.lower_bounds_, shifted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("covariance_type", MATRICES)
def test_offsets_cost_no_digits(covariance_type):
    exact = np.ldexp(
        np.rint(np.ldexp(X, 20)), -20
    )  # the sums are exact, so the starts are the same
    near, far = (
        stream(EMGaussianMixture(3, covariance_type=covariance_type, random_state=0), rows, 500)
        for rows in (exact, exact + 1e8)
    )
    np.testing.assert_allclose(far.means_ - 1e8, near.means_, atol=1e-5)
    np.testing.assert_allclose(far.covariances_, near.covariances_, rtol=1e-5, atol=1e-6)


def test_weights_count_rows_relative_to_all_batches():
    weight = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)
    weighted = stream(clone(SMALL), X, 1000, weight)
    scaled = stream(clone(SMALL), X, 1000, weight * 2.0**-30)
    assert_close(scaled, weighted, 0)
    np.testing.assert_array_equal(scaled.lower_bounds_, weighted.lower_bounds_)
    repeated = clone(SMALL)
    for start in range(0, len(X), 1000):
        rows = slice(start, start + 1000)
        repeated.partial_fit(np.repeat(X[rows], weight[rows].astype(int), axis=0))
    assert_close(repeated, weighted, 1e-6)
    assert repeated.n_samples_seen_ == weight.sum()
    assert weighted.n_samples_seen_ == len(X)
    heavy = stream(clone(SMALL), X, 1000).partial_fit(X[:1000] + 9, sample_weight=np.full(1000, 50))
    light = stream(clone(SMALL), X, 1000).partial_fit(X[:1000] + 9, sample_weight=0.02)
    assert heavy.score(X + 9) > light.score(X + 9) + 1


def test_rows_of_weight_zero_do_not_exist():
    weight = np.ones(600)
    weight[::3] = 0
    there = X[:600].copy()
    there[::3] = 1e50
    some = stream(clone(SMALL), there, 200, weight)
    assert_close(some, stream(clone(SMALL), X[:600], 200, weight), 1e-9)
    assert some.n_samples_seen_ == 400


@pytest.mark.parametrize("kind", ["float32", "integers", "frame", "read-only memmap"])
def test_kinds_of_tables(kind, tmp_path):
    table = np.round(10 * X[:900])
    np.save(tmp_path / "X.npy", table)
    same = {
        "float32": lambda rows: rows.astype(np.float32),
        "integers": lambda rows: rows.astype(int),
        "frame": lambda rows: pd.DataFrame(rows, columns=list("abc")),
        "read-only memmap": lambda _: np.load(tmp_path / "X.npy", mmap_mode="r"),
    }[kind](table)
    mixture = clone(SMALL)
    for start in range(0, 900, 300):
        mixture.partial_fit(same[start : start + 300])
    assert_close(mixture, stream(clone(SMALL), table, 300), 0)
    assert hasattr(mixture, "feature_names_in_") == (kind == "frame")


@pytest.mark.parametrize("covariance_type", MATRICES)
def test_the_second_half_of_a_stream_may_be_another_process(covariance_type, tmp_path):
    half = stream(clone(SMALL).set_params(covariance_type=covariance_type), X[:1500], 150)
    skemvae.save(half, tmp_path / "file")
    skops.io.dump(half, tmp_path / "skops")
    trusted = skops.io.get_untrusted_types(file=tmp_path / "skops")
    copies = [
        skemvae.load(tmp_path / "file"),
        skops.io.load(tmp_path / "skops", trusted=trusted),
        pickle.loads(pickle.dumps(half)),
        copy.deepcopy(half),
    ]
    expected = stream(half, X[1500:], 150)
    for other in copies:
        assert_close(stream(other, X[1500:], 150), expected, 0)
        np.testing.assert_array_equal(other.lower_bounds_, expected.lower_bounds_)


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()
    stream(clone(SMALL), X, 500)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


# How good it is.


@pytest.mark.parametrize("distance", [0.7, 1.5, 6.0])
@pytest.mark.parametrize("size", [500, 2000])
def test_three_passes_come_near_to_batch_em(distance, size):
    table = clusters(distance)
    mixture = EMGaussianMixture(4, random_state=0)
    for _ in range(3):
        stream(mixture, table, size)
    # Of 2e4 rows; benchmarks/online.py takes 1e6.
    assert (
        mixture.score(table) > batch_em(table, n_components=4, random_state=0).score(table) - 0.02
    )


def test_overlap_takes_few_passes():
    """EM is slow where clusters overlap: one average alone would end far below."""
    table = clusters(0.2, n=100_000, d=4, k=4, seed=1)
    best = batch_em(table, n_components=4, random_state=0, tol=1e-6, max_iter=1000)
    mixture = EMGaussianMixture(4, random_state=0)
    for _ in range(3):
        stream(mixture, table, 2000)
    assert mixture.score(table) > best.score(table) - 5e-4


@pytest.mark.parametrize("covariance_type", MATRICES)
def test_rows_one_by_one(covariance_type):
    table = clusters(4.0, n=400, d=2, k=2)
    mixture = EMGaussianMixture(2, covariance_type=covariance_type, random_state=0)
    mixture.partial_fit(table[:30])
    stream(mixture, table[30:], 1)
    assert mixture.n_iter_ == 371
    best = batch_em(table, n_components=2, covariance_type=covariance_type, random_state=0)
    assert mixture.score(table) > best.score(table) - 0.15


def test_the_mixture_follows_rows_that_wander_away():
    table = np.random.default_rng(0).standard_normal((20_000, 2))
    table[:, 0] += np.where(np.arange(len(table)) % 2, 5, -5)
    mixture = EMGaussianMixture(2, random_state=0, learning_decay=0.3)
    for step, rows in enumerate(np.split(table, 100)):
        mixture.partial_fit(rows + 0.5 * step)
    means = mixture.means_[np.argsort(mixture.means_[:, 0])] - 0.5 * step
    np.testing.assert_allclose(means, [[-5, 0], [5, 0]], atol=0.7)


@pytest.mark.filterwarnings("ignore::skemvae.DoubtfulFitWarning")
@pytest.mark.parametrize("reg_covar", [0, 1e-6])
@pytest.mark.parametrize("covariance_type", MATRICES)
def test_columns_without_variance_stay_finite(covariance_type, reg_covar):
    table = np.c_[X[:600, :2], 2 * X[:600, 0] + 1, np.full(600, -3.5), np.zeros(600)]
    mixture = EMGaussianMixture(
        2, covariance_type=covariance_type, reg_covar=reg_covar, random_state=0
    )
    stream(mixture, table, 100)
    stream(mixture, table[:5], 1)
    assert np.isfinite(mixture.score_samples(table)).all()
    whole = batch_em(
        table, n_components=2, covariance_type=covariance_type, reg_covar=reg_covar, random_state=0
    )
    assert mixture.score(table) > whole.score(table) - 5


def test_regularisation_is_that_of_the_running_variances():
    """Not of the batch: one row has no variance."""
    mixture = EMGaussianMixture(reg_covar=0.5, random_state=0, learning_decay=1)
    mixture.partial_fit(X)
    once = mixture.covariances_[0].copy()
    np.testing.assert_allclose(once, np.cov(X.T, bias=True) + np.diag(ridge(X, 0.5)), rtol=1e-9)
    stream(mixture, X[:5], 1)
    np.testing.assert_allclose(mixture.covariances_[0], once, rtol=0.05, atol=0.05)
    # The noise of one call is not that of the next.
    mixture.set_params(reg_covar=0.0).partial_fit(X[:1])
    np.testing.assert_allclose(mixture.covariances_[0], np.cov(X.T), rtol=0.05, atol=0.05)


# What users see.


def test_attributes_after_each_call():
    mixture = clone(SMALL).partial_fit(X[:500])
    assert (mixture.n_iter_, mixture.n_samples_seen_) == (1, 500)
    before = mixture.score(X[500:600])
    assert mixture.partial_fit(X[500:600]) is mixture
    assert (mixture.n_iter_, mixture.n_samples_seen_) == (2, 600)
    assert mixture.status_ == "ongoing"
    assert not mixture.converged_
    assert mixture.lower_bounds_.shape == (2,)
    assert mixture.lower_bound_ == mixture.lower_bounds_[-1]
    assert mixture.lower_bound_ == pytest.approx(before, abs=1e-4)  # rows it had not seen
    for answer in ("score_samples", "predict", "feature_scores", "transform", "bic", "icl"):
        assert np.isfinite(getattr(mixture, answer)(X)).all()
    assert set(vars(mixture)) == set(vars(batch_em(X, n_components=3)))


def test_fit_and_partial_fit_go_on_from_each_other():
    mixture = batch_em(X, n_components=3, random_state=0)
    n_iter = mixture.n_iter_
    assert mixture.n_samples_seen_ == len(X)
    mixture.partial_fit(X[:100])
    assert mixture.n_samples_seen_ == len(X) + 100
    assert mixture.n_iter_ == n_iter + 1
    assert len(mixture.lower_bounds_) == n_iter + 2
    again = clone(SMALL).set_params(warm_start=True, learning_decay=0)
    for _ in range(20):
        again.partial_fit(X)
    again.fit(X)
    assert len(again.lower_bounds_) == again.n_iter_ + 1  # bounds of batches are no history
    assert_close(mixture.fit(X), batch_em(X, n_components=3, random_state=0), 0)
    assert mixture.n_samples_seen_ == len(X)


@pytest.mark.parametrize(
    ("rows", "weight", "message"),
    [
        (np.full((5, 3), np.nan), None, "NaN"),
        (np.full((5, 3), np.inf), None, "infinity"),
        (np.zeros((5, 2)), None, "2 features, but"),
        (np.zeros((0, 3)), None, "0 sample"),
        (np.full((5, 3), 1e200), None, "change its unit"),
        (np.zeros((2, 3)), [1.0, -1.0], "negative"),
        (np.zeros((2, 3)), [0.0, 0.0], "zero everywhere"),
        (np.zeros((2, 3)), [1e308, 1e308], "divide"),
    ],
)
def test_a_refused_batch_leaves_no_trace(rows, weight, message):
    mixture = clone(SMALL).partial_fit(X[:500])
    before = state(mixture)
    with pytest.raises(ValueError, match=message):
        mixture.partial_fit(rows, sample_weight=weight)
    assert state(mixture) == before


def test_a_refused_first_batch_leaves_no_trace():
    mixture = clone(SMALL)
    with pytest.raises(ValueError, match="n_components = 3, n_samples = 2"):
        mixture.partial_fit(X[:2])
    with pytest.raises(ValueError, match="n_samples = 2"):
        mixture.partial_fit(X[:9], sample_weight=np.arange(9) < 2)
    assert not state(mixture)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"learning_decay": 1.5}, ValueError, "learning_decay == 1.5"),
        ({"learning_decay": -0.1}, ValueError, "learning_decay == -0.1"),
        ({"learning_decay": np.nan}, ValueError, "learning_decay=nan must be finite"),
        ({"learning_decay": "fast"}, TypeError, "learning_decay must be"),
        ({"n_components": 2}, ValueError, "n_components=2, but the fitted mixture has 3"),
        ({"covariance_type": "diag"}, ValueError, "covariance_type='diag' does not go"),
    ],
)
def test_parameters_that_do_not_go_with_the_stream(parameters, error, message):
    mixture = clone(SMALL).partial_fit(X[:500])
    before = state(mixture)
    with pytest.raises(error, match=message):
        mixture.set_params(**parameters).partial_fit(X)
    assert state(mixture) == before


def test_what_climbs_has_the_structure_that_is_asked_for():
    """Covariances of two of two features have one shape, tied or diagonal."""
    mixture = EMGaussianMixture(2, covariance_type="diag", random_state=0).partial_fit(X[:, :2])
    with pytest.raises(ValueError, match="covariance_type='tied' does not go with"):
        mixture.set_params(covariance_type="tied").partial_fit(X[:, :2])


def test_ctrl_c_while_a_start_is_sought_ends_the_callers_loop(monkeypatch):
    calls = []

    def interrupt_once(n_rows):
        calls.append(n_rows)
        if len(calls) == 5:
            raise KeyboardInterrupt

    watch(monkeypatch, interrupt_once)
    mixture = clone(SMALL)
    with pytest.raises(KeyboardInterrupt):
        mixture.partial_fit(X[:500])
    assert not state(mixture)


def test_ctrl_c_ends_the_callers_loop(monkeypatch):
    mixture = clone(SMALL)

    def interrupted(self, model):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SteppingEM, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mixture.partial_fit(X[:500])
    assert not state(mixture)
    mixture.partial_fit(X[:500])
    before = state(mixture)
    with monkeypatch.context() as patch:
        patch.setattr(em.MixtureEM, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mixture.partial_fit(X[:500])
    assert state(mixture) == before
