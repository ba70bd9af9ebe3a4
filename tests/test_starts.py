"""Starts: what a tournament and a race cost, whom they keep, and what they do not depend on."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from skemvae import EMGaussianMixture
from skemvae.core.moments import Moments
from skemvae.core.rows import Frame, Rows
from skemvae.engine.climbs.whole_steps import work_of_step
from skemvae.engine.passes.numpy_pass import moments_given
from skemvae.engine.samples.sketch import Sketch
from skemvae.engine.samples.summary import Summary
from skemvae.engine.starts.initialisation import Initialiser
from skemvae.engine.starts.races import Judge
from skemvae.engine.starts.regularisation import Regularisation
from skemvae.kernel import native
from skemvae.structures.registry import STRUCTURES
from tests.levels import path
from tests.passes import em_on
from tests.recording import Recorder
from tests.steps import watch
from tests.strategies import MATRICES, matrices, seeds
from tests.threads import limited
from tests.versions import needs_callbacks

IRIS = load_iris().data
METHODS = ("auto", "kmeans", "k-means++", "random_from_data", "random")


def overlapping(n=3000, d=4, k=6, seed=0):
    """Elliptic clusters that EM needs tens of iterations for."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    centres = 1.6 * rng.standard_normal((k, d))
    scales = np.exp(0.5 * rng.standard_normal((k, d)))
    return centres[labels] + scales[labels] * rng.standard_normal((n, d))


def fit(X, k=6, sample_weight=None, **parameters):
    parameters = {"random_state": 0, "tol": 1e-6, "max_iter": 1000, **parameters}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return EMGaussianMixture(k, **parameters).fit(X, sample_weight=sample_weight)


def initialiser(X, k=6, structure="full", weight=None):
    d = X.shape[1]
    summary = Summary.of(Rows.of(X, weight))
    rows = Rows(X, weight, Frame(np.zeros(d), np.ones(d)))
    ridge = Regularisation(1e-6, STRUCTURES[structure], k)
    return Initialiser.of(STRUCTURES[structure], k, rows, summary, ridge)


# What starts are made of.


@given(st.integers(0, 2**31), st.sampled_from(["full", "diag"]), st.integers(1, 5))
def test_moments_of_groups_are_those_of_certain_responsibilities(seed, structure, k):
    rng = np.random.default_rng(seed)
    X, weight = rng.standard_normal((40, 3)), rng.uniform(0.5, 2, 40)
    labels = rng.integers(k + 1, size=40) % k
    unit = STRUCTURES[structure].identity(k + 1, 3)  # one component without rows
    rows = Rows(X, weight, Frame.identity(3))
    expected = moments_given(np.eye(k + 1)[labels], unit, rows)
    moments = Moments.of_groups(X, weight, labels, unit.values.shape).about(expected.origin)
    for name in ("count", "first", "second"):
        actual, desired = getattr(moments, name), getattr(expected, name)
        np.testing.assert_allclose(actual, desired, rtol=1e-12, atol=1e-12)


@given(st.integers(1, 120), st.integers(0, 1000))
def test_a_part_of_a_sketch_is_a_smaller_sketch(n_rows, seed):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 9, size=(300, 2)).astype(float)  # at most 81 distinct rows
    rows = Rows(X, None, Frame.identity(2))

    def sketch(size):
        return Sketch.of(rows, X.mean(0), X.std(0), size)

    part, smaller = sketch(100).part(n_rows), sketch(n_rows)
    np.testing.assert_array_equal(part.rows.X, smaller.rows.X)
    np.testing.assert_array_equal(part.rows.weight, smaller.rows.weight)
    np.testing.assert_array_equal(part.standardised, smaller.standardised)
    if n_rows < sketch(100).n_rows:
        assert part.fraction == smaller.fraction


# What they cost.


@pytest.mark.parametrize("n", [2_000, 20_000, 200_000])
@pytest.mark.parametrize(("d", "k"), [(4, 6), (20, 10)])
def test_a_tournament_costs_two_passes_or_a_few_milliseconds(n, d, k, monkeypatch):
    starts = initialiser(overlapping(n, d, k), k)
    cost = []
    watch(monkeypatch, cost.append)
    starts.tournament(np.random.RandomState(0))
    unit = STRUCTURES["full"].identity(k, d)
    work = sum(work_of_step(unit, n_rows) for n_rows in cost)
    assert work < max(2 * work_of_step(unit, n), 6e8)


def test_of_many_starts_few_climb_on_the_table(monkeypatch):
    X = overlapping(50_000)
    cost = []
    watch(monkeypatch, cost.append)
    fit(X, n_init=8, init_params="random_from_data", tol=1e-3, max_iter=100)
    whole = sum(n == len(X) for n in cost)
    single = 0
    for seed in range(3):
        cost.clear()
        fit(X, init_params="random_from_data", tol=1e-3, max_iter=100, random_state=seed)
        single += sum(n == len(X) for n in cost) / 3
    assert whole < 3 * single


@needs_callbacks
def test_callbacks_see_the_climbs_on_the_table():
    recorder = Recorder("iteration")
    EMGaussianMixture(3, n_init=10, random_state=0).set_callbacks(recorder).fit(IRIS)
    assert 1 <= recorder.begun.count("initialization") <= 3
    assert recorder.begun.count("fit") == recorder.ended.count("fit") == 1


# What they are the same with, and without.


@pytest.mark.skipif(not native.LEVELS, reason="the kernel was not built")
@pytest.mark.parametrize("structure", MATRICES)
@pytest.mark.parametrize(("n", "d", "k"), [(300, 3, 3), (9_000, 5, 4)])
def test_a_start_is_the_same_with_and_without_the_kernel(structure, n, d, k):
    X = overlapping(n, d, k)
    starts = {}
    for level in (None, *native.LEVELS):
        with path(level):
            own = initialiser(X, k, structure)
            starts[level] = [
                own.by_name(method, np.random.RandomState(0)).model
                for method in METHODS
                if method != "auto"  # climbs as far as there is time
            ]
    for level in native.LEVELS:
        for model, other in zip(starts[level], starts[None], strict=True):
            np.testing.assert_allclose(model.means, other.means, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(
                model.covariance.values, other.covariance.values, rtol=1e-6, atol=1e-6
            )


@pytest.mark.parametrize("level", [None, *native.LEVELS])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("distance", [1e-3, 1e-6])
def test_as_many_components_as_distinct_rows_have_one_each(level, method, distance):
    X = np.array([[0.0], [1e3], [1e3 + distance]])
    with path(level):
        mixture = fit(X, 3, [1e6, 1, 1], init_params=method, max_iter=0)
    assert (mixture.weights_ > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_components_may_be_of_any_integer_type(method):
    plain = fit(IRIS, 3, init_params=method).means_
    for k in (np.int64(3), np.int8(3)):
        np.testing.assert_array_equal(fit(IRIS, k, init_params=method).means_, plain)


@pytest.mark.parametrize("level", [None, *native.LEVELS])
def test_means_may_be_given_in_any_order_of_memory(level):
    means = IRIS[::60]
    with path(level):
        mixtures = [fit(IRIS, 3, means_init=own) for own in (means, np.asfortranarray(means))]
    np.testing.assert_array_equal(mixtures[0].means_, mixtures[1].means_)


# Whom they keep.


@pytest.mark.parametrize(
    ("method", "n"),
    [*((method, 600) for method in METHODS), ("auto", 6_000), ("random_from_data", 6_000)],
)
def test_more_starts_lead_no_lower(method, n):
    X = overlapping(n)
    bounds = [fit(X, init_params=method, n_init=m).lower_bound_ for m in (1, 3, 9)]
    assert np.diff(bounds).min() > -1e-4


def test_the_same_place_is_counted_once_and_the_best_comes_first():
    starts = initialiser(IRIS, 3)
    models = [starts.by_name(name, np.random.RandomState(0)).model for name in METHODS]
    states = starts.judge.race(2 * models, 3, 10)
    assert len(states) <= len(models)
    assert [s.bound for s in states] == sorted((s.bound for s in states), reverse=True)
    alone = [starts.judge.race([model], 3, 1)[0].bound for model in models]
    assert states[0].bound == max(alone)


@pytest.mark.parametrize("few", [[101, 142], [0, 50, 100]])  # the same flower twice; three flowers
def test_a_spike_does_not_win_a_race(few):
    starts = initialiser(IRIS, 2)
    rows = Rows(IRIS, None, Frame.identity(4))
    spiky = np.eye(2)[np.isin(np.arange(150), few).astype(int)]
    spike = starts.from_responsibilities(spiky, rows).model
    spike = spike.maximise(moments_given(spiky, spike.covariance, rows))
    sound = starts.by_name("random", np.random.RandomState(0)).model
    states = starts.judge.race([spike, sound], 0, 2)
    np.testing.assert_array_equal(states[0].model.means, sound.means)
    assert states[0].bound < states[1].bound


def with_year(rng):
    """Two clusters, and a column that is constant within each."""
    labels = rng.integers(0, 2, 500)
    return np.c_[rng.normal(size=(500, 3)) + 3 * labels[:, None], 2019 + labels], labels


def with_five_far_rows(rng):
    X, labels = rng.normal(size=(605, 5)), np.repeat([0, 1, 2], [300, 300, 5])
    X[300:600, 0] += 6
    X[600:] += 40
    return X, labels


@pytest.mark.parametrize("n_init", [1, 10])
@pytest.mark.parametrize(
    ("draw", "structure"),
    [(with_year, "full"), (with_year, "diag"), (with_five_far_rows, "tied")],
)
@pytest.mark.filterwarnings("ignore::skemvae.DoubtfulFitWarning")
def test_a_component_without_variance_in_a_column_may_be_a_cluster(draw, structure, n_init):
    for seed in range(5):
        X, labels = draw(np.random.default_rng(seed))
        mixture = EMGaussianMixture(
            labels.max() + 1, covariance_type=structure, n_init=n_init, random_state=0
        )
        assert adjusted_rand_score(labels, mixture.fit(X).predict(X)) > 0.9


def test_many_small_clusters_are_found():
    rng = np.random.default_rng(0)
    centres = 5 * rng.normal(size=(200, 6))
    X = centres[rng.integers(200, size=20_000)] + 0.5 * rng.normal(size=(20_000, 6))
    own, k_means = (
        EMGaussianMixture(200, covariance_type="diag", init_params=init, random_state=0).fit(X)
        for init in ("auto", "kmeans")
    )
    assert own.lower_bound_ > k_means.lower_bound_ - 0.01
    assert own.weights_.min() > 1e-4


def test_one_answer_on_a_scale_is_no_cluster():
    """Its density has no limit, but what it says of whole numbers has."""
    X = np.random.default_rng(0).integers(5, size=(400, 4)).astype(float)
    starts = initialiser(X, 2)
    rows = Rows(X, None, Frame.identity(4))
    spiky = np.stack([X[:, 0] == 2, X[:, 0] != 2], axis=1).astype(float)
    spike = starts.from_responsibilities(spiky, rows).model
    spike = spike.maximise(moments_given(spiky, spike.covariance, rows))
    whole = starts.from_responsibilities(np.full((400, 2), 0.5), rows).model
    states = starts.judge.race([spike, whole], 0, 2)
    np.testing.assert_array_equal(states[0].model.means, whole.means)
    assert states[0].bound < states[1].bound


@given(seeds, matrices)
def test_the_merit_of_a_fit_does_not_depend_on_units_or_repetition(seed, structure):
    rng = np.random.default_rng(seed)
    X = np.round(overlapping(60, 3, 3, seed), 1)
    scale = np.full(3, 8.0) if structure == "spherical" else np.array([0.25, 1.0, 64.0])
    responsibilities = rng.dirichlet(np.full(3, 0.1), size=60)
    merits = []
    for own, repeat in ((X, 1), (scale * X, 1), (X, 2)):
        own, r = np.repeat(own, repeat, axis=0), np.repeat(responsibilities, repeat, axis=0)
        starts = initialiser(own, 3, structure)
        starts = replace(starts, judge=replace(starts.judge, noise=1e-6 * own.var(0)))
        rows = Rows(own, None, Frame.identity(3))
        state = em_on(rows).start(starts.from_responsibilities(r, rows).model)
        merits.append(starts.judge._merit(state, state.expectation.moments.count))
    assert merits[0] < np.inf
    np.testing.assert_allclose(merits[1], merits[0] - np.log(scale).sum(), atol=1e-7)
    np.testing.assert_allclose(merits[2], merits[0], atol=1e-7)


@pytest.mark.parametrize(("distance", "clear"), [(0.003, False), (0.5, True)])
def test_fits_that_a_sketch_cannot_tell_apart_both_go_on(distance, clear):
    X = np.random.default_rng(0).standard_normal((30_000, 2))
    starts = initialiser(X, 1)
    model = starts.by_name("kmeans", np.random.RandomState(0)).model
    moved = replace(model, means=model.means + distance)
    assert starts.judge.sketch.fraction < 0.2
    best, other = (em_on(starts.sketch.rows).start(m) for m in (model, moved))
    assert starts.judge._leads(best, other) == clear
    # Where the sketch holds all rows, nothing is uncertain.
    certain = replace(starts.judge, sketch=replace(starts.sketch, size=30_000))
    assert certain._leads(best, other)


def test_no_iterations_return_a_start_itself():
    starts = [fit(IRIS, 3, init_params="kmeans", max_iter=0, random_state=s) for s in range(3)]
    best = fit(IRIS, 3, init_params="kmeans", max_iter=0, n_init=5)
    assert best.n_iter_ == 0
    assert best.lower_bound_ >= min(start.lower_bound_ for start in starts) - 1e-9
    assert best.lower_bound_ < fit(IRIS, 3, init_params="kmeans", max_iter=3).lower_bound_


def test_ctrl_c_in_a_race_keeps_the_best_start(monkeypatch):
    races = []
    race = Judge.race

    def interrupted(self, models, n_iter, n_best):
        if races:
            raise KeyboardInterrupt
        races.append(race(self, models, n_iter, n_best))
        return races[0]

    monkeypatch.setattr(Judge, "race", interrupted)
    mixture = EMGaussianMixture(3, init_params="random_from_data", n_init=8, random_state=0)
    with pytest.warns(ConvergenceWarning, match="Interrupted after 0 iterations"):
        mixture.fit(IRIS)
    np.testing.assert_allclose(mixture.lower_bound_, races[0][0].bound, rtol=1e-9)


# What they do not depend on.


@pytest.mark.parametrize("n", [400, 9_000])
def test_order_repetition_and_units_do_not_matter_to_several_starts(n):
    X = overlapping(n)
    rng = np.random.default_rng(0)
    reference = fit(X, n_init=3, max_iter=5)
    weight = rng.integers(1, 3, size=n)
    repeated = rng.permutation(np.repeat(X, weight, axis=0))
    for other, expected in [
        (fit(X[rng.permutation(n)], n_init=3, max_iter=5), reference),
        (fit(8 * X, n_init=3, max_iter=5), reference),
        (fit(repeated, n_init=3, max_iter=5), fit(X, sample_weight=weight, n_init=3, max_iter=5)),
    ]:
        unit = 8 if other.means_.std() > 4 * expected.means_.std() else 1
        np.testing.assert_allclose(other.means_, unit * expected.means_, rtol=1e-6, atol=1e-6)


@given(seeds, matrices)
def test_the_order_of_rows_that_span_all_they_can_does_not_matter(seed, structure):
    # Whitened, such rows would be equally far from each other, and rounding would choose.
    rng = np.random.default_rng(seed)
    rows = rng.uniform(size=(13, 30)).repeat(rng.integers(1, 5, 13), axis=0)
    starts = [
        initialiser(X, 3, structure).tournament(np.random.RandomState(0)).model
        for X in (rows, rng.permutation(rows))
    ]
    np.testing.assert_allclose(starts[0].means, starts[1].means, rtol=1e-6, atol=1e-9)


def test_the_number_of_threads_does_not_matter():
    X = overlapping(9_000)
    with limited(1):
        one = fit(X, n_init=4, max_iter=20)
    with limited(2):
        two = fit(X, n_init=4, max_iter=20)
    np.testing.assert_array_equal(one.means_, two.means_)
    np.testing.assert_array_equal(one.lower_bounds_, two.lower_bounds_)
