"""Accelerated EM: never falls, ends where EM ends, in fewer passes, and knows when."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skemvae import EMGaussianMixture, VariationalEM
from skemvae.core.chart import Chart
from skemvae.core.gaussian_mixture import GaussianMixture
from skemvae.core.rows import Frame, Rows
from skemvae.engine.climbs.acceleration import Accelerator, Terrain
from skemvae.models import BayesianMixture, FactorModel
from skemvae.structures.registry import STRUCTURES
from tests.passes import em_on
from tests.steps import watch
from tests.strategies import CONJUGATE, MATRICES, matrices, seeds, structures

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def overlapping(seed=0, n=400, d=2, distance=2.2):
    """Three clusters that EM takes long to tell apart."""
    rng = np.random.default_rng(seed)
    centres = distance * np.array([[0.0, 0.0], [1.0, 0.2], [0.3, 1.0]])
    X = rng.standard_normal((n, d))
    X[:, :2] += centres[rng.choice(3, p=[0.5, 0.3, 0.2], size=n)]
    return X


def near_the_truth(structure, order=(0, 1, 2), scale=1.0, distance=2.2):
    """A start from which there is one way up."""
    order = list(order)
    identity = {
        "full": np.tile(np.eye(2), (3, 1, 1)),
        "tied": np.eye(2),
        "diag": np.ones((3, 2)),
        "spherical": np.ones(3),
    }[structure]
    return {
        "n_components": 3,
        "covariance_type": structure,
        "weights_init": np.array([0.5, 0.3, 0.2])[order],
        "means_init": scale * distance * np.array([[0.0, 0.0], [1.0, 0.2], [0.3, 1.0]])[order],
        "precisions_init": identity / scale**2,
    }


def state_of(X, structure="full", k=3, seed=0):
    """EM on a table, and its state at random rows as means."""
    rng = np.random.default_rng(seed)
    means = X[rng.choice(len(X), k, replace=False)]
    covariance = STRUCTURES[structure].identity(k, X.shape[1])
    ascent = em_on(Rows(X, None, Frame.identity(X.shape[1])))
    noise = np.full(X.shape[1], 1e-6)
    return ascent, ascent.start(GaussianMixture(np.full(k, 1 / k), means, covariance, noise))


@pytest.mark.parametrize("structure", MATRICES)
def test_it_ends_where_em_ends_in_half_the_passes(structure):
    X = overlapping(n=1000)
    begin = {**near_the_truth(structure), "tol": 1e-9, "max_iter": 20_000}
    plain = EMGaussianMixture(**begin, acceleration=None).fit(X)
    fast = EMGaussianMixture(**begin).fit(X)
    assert plain.converged_
    assert fast.converged_
    assert fast.n_iter_ < plain.n_iter_ / 2
    np.testing.assert_allclose(fast.lower_bound_, plain.lower_bound_, atol=1e-8)
    np.testing.assert_allclose(fast.means_, plain.means_, atol=3e-3)
    np.testing.assert_allclose(fast.weights_, plain.weights_, atol=3e-3)


@pytest.mark.parametrize("structure", MATRICES)
@pytest.mark.parametrize("tol", [1e-6, 1e-8])
def test_less_than_tol_remains(structure, tol):
    """Of the gain; with a looser tolerance plain EM, too, ends on the first plateau."""
    for seed in range(3):
        X = overlapping(seed, n=1000, distance=3)
        begin = near_the_truth(structure, distance=3)
        fast = EMGaussianMixture(**begin, tol=tol, max_iter=2000).fit(X)
        end = EMGaussianMixture(**begin, tol=1e-11, max_iter=2000).fit(X)
        assert fast.converged_
        assert end.lower_bound_ - fast.lower_bound_ < 2 * tol


@given(seeds, structures, st.integers(1, 6), st.sampled_from([0.0, 1e-6, 1e-2]))
@pytest.mark.filterwarnings("ignore:Columns:skemvae.DoubtfulFitWarning")  # two factors of three
@example(34813, "diag", 1, 1e-2)  # all pairs of steps are rounding errors
def test_the_bound_never_falls(seed, structure, k, reg_covar):
    """Long climbs, some to a collapse."""
    X = overlapping(seed, n=60, d=3)
    fitted = EMGaussianMixture(
        k,
        covariance_type=structure,
        reg_covar=reg_covar,
        init_params="random_from_data",
        tol=0,
        max_iter=80,
        random_state=seed % 1000,
    ).fit(X)
    assert np.diff(fitted.lower_bounds_).min() >= -1e-9
    assert fitted.lower_bounds_[-1] == fitted.lower_bound_
    assert len(fitted.lower_bounds_) == 81


@pytest.mark.parametrize("acceleration", ["auto", None])
@pytest.mark.parametrize("structure", MATRICES)
def test_a_default_fit_that_has_converged_gains_no_more_than_it_says(structure, acceleration):
    """The first gains shrink fast, since a start on a sample is corrected: they say little."""
    for seed in range(4):
        X = overlapping(seed, n=1500, d=3, distance=2.5)
        fitted = EMGaussianMixture(
            3, covariance_type=structure, acceleration=acceleration, max_iter=1000, random_state=0
        ).fit(X)
        bound = fitted.lower_bound_
        assert fitted.converged_
        fitted.set_params(warm_start=True, acceleration=None, tol=0, max_iter=200).fit(X)
        assert fitted.lower_bound_ - bound < 2e-3


@pytest.mark.parametrize("structure", MATRICES)
def test_every_pass_counts(structure, monkeypatch):
    passes = []
    watch(monkeypatch, passes.append)
    begin = near_the_truth(structure)
    fitted = EMGaussianMixture(**begin, tol=1e-9, max_iter=500).fit(overlapping())
    assert len(passes) == fitted.n_iter_ + 1
    assert len(fitted.lower_bounds_) == fitted.n_iter_ + 1


def test_a_proposal_that_is_not_taken_leaves_all_as_it_was():
    X = overlapping()
    begin = {"n_components": 5, "tol": 0, "init_params": "random_from_data", "random_state": 0}
    whole = EMGaussianMixture(**begin, max_iter=60).fit(X)
    refused = np.flatnonzero(np.diff(whole.lower_bounds_) == 0)
    assert 0 < len(refused) < 20
    for i in refused[:3]:
        before, after = (EMGaussianMixture(**begin, max_iter=n).fit(X) for n in (i, i + 1))
        np.testing.assert_array_equal(before.covariances_, after.covariances_)
        assert after.lower_bound_ == whole.lower_bounds_[i] == whole.lower_bounds_[i + 1]


class NothingGoes:
    """EM on which every extrapolation fails."""

    def __init__(self, ascent, bound):
        self.ascent, self.bound, self.n_refused = ascent, bound, 0
        self.step, self.sampled = ascent.step, ascent.sampled

    def start(self, model):
        self.n_refused += 1
        return replace(self.ascent.start(model), bound=self.bound)


@pytest.mark.parametrize("bound", [-np.inf, np.nan])
def test_failures_cost_little_and_leave_plain_em(bound):
    ascent, start = state_of(overlapping())
    nothing_goes = NothingGoes(ascent, bound)
    accelerator = Accelerator(nothing_goes, 0.0)
    state = start
    for _ in range(200):
        state = accelerator.step(state)
    plain = start
    for _ in range(200 - nothing_goes.n_refused):
        plain = ascent.step(plain)
    assert 3 <= nothing_goes.n_refused <= 8  # the pauses double
    assert state.bound == plain.bound


def test_after_a_failure_the_refused_state_tells_how_far_to_go():
    """A shorter leap is tried at once, from the two states; it need not wait for plain steps."""
    ascent, state = state_of(overlapping())
    lengths = []

    class LastFails:
        step, sampled = ascent.step, ascent.sampled

        def start(self, model):
            lengths.append(np.linalg.norm(Chart(state.model).coordinates(model)))
            return replace(ascent.start(model), bound=-np.inf if len(lengths) == 5 else np.inf)

    accelerator = Accelerator(LastFails(), 1e3)
    while len(lengths) < 5:
        before, state = state, accelerator.step(state)
    assert state is before
    assert not accelerator.has_converged(())
    accelerator.step(state)
    refused, shorter = lengths[-2:]
    assert 0 < shorter < refused


def test_a_jump_begins_anew():
    X = overlapping()
    ascent, plain = state_of(X)
    state, accelerator = plain, Accelerator(ascent, 1e-9)
    for _ in range(12):
        state, plain = accelerator.step(state), ascent.step(plain)
    assert state.bound > plain.bound + 1e-6  # it is under way
    _, elsewhere = state_of(X, seed=1)
    for _ in range(2):  # plain steps, with nothing left of what was learnt
        expected = ascent.step(elsewhere)
        elsewhere = accelerator.step(elsewhere)
        assert elsewhere.bound == expected.bound
        assert not accelerator.has_converged(())


@pytest.mark.parametrize("structure", MATRICES)
def test_leaps_are_those_of_a_symmetric_positive_matrix_that_knows_the_last_pair(structure):
    """The secant equation: a gradient like the last bend asks for the last move."""
    ascent, state = state_of(overlapping(n=1000), structure)
    states = [state := ascent.step(state) for _ in range(30)]
    terrain = Terrain(*states[-8:-6])
    for state in states[-6:]:
        terrain.visit(state)

    memory = terrain._memory
    leap = memory.newton_step
    last = (memory._oldest + len(memory) - 1) % len(memory._moves)
    move, bend = memory._moves[last], memory._bends[last]
    np.testing.assert_allclose(leap(bend), move, rtol=1e-6, atol=1e-9 * np.abs(move).max())
    u, v = np.random.default_rng(0).standard_normal((2, move.size))
    np.testing.assert_allclose(u @ leap(v), v @ leap(u), rtol=1e-6, atol=1e-6)
    assert u @ leap(u) > 0


magnitudes = st.floats(-308, 308).map(lambda power: 10**power)


@given(seeds, matrices, st.lists(st.tuples(magnitudes, magnitudes), max_size=5), magnitudes)
@example(0, "full", [(1e-17, 1e-33)] * 5, 1.0)  # rounding errors, whose rates multiply
def test_there_is_no_gradient_beyond_arithmetic(seed, structure, pairs, size):
    """Positions and gradients of any magnitude: a finite leap or none, and no warning."""
    ascent, state = state_of(overlapping(n=40), structure)
    terrain = Terrain(state, ascent.step(state))
    rng = np.random.default_rng(seed)
    for away, slope in pairs:
        terrain._position = terrain._position + away * rng.uniform(-1, 1, terrain._position.size)
        terrain._gradient = terrain._gradient + slope * rng.uniform(-1, 1, terrain._position.size)
        terrain.visit(state)
    terrain._gradient = size * rng.uniform(-1, 1, terrain._position.size)
    assert terrain.remaining_gain >= 0
    model, length = terrain.leap(2.0)
    assert 0 <= length < np.inf
    assert model is None or np.isfinite(ascent.start(model).bound)


@pytest.mark.parametrize("structure", ["diag", "full", "spherical"])
def test_where_the_bound_bends_upwards_steps_are_longer_and_nothing_is_known_of_the_end(structure):
    """Near a saddle, components that are almost the same: EM crawls away from it."""
    X = overlapping()
    ascent, state = state_of(X, structure)
    means = X.mean(0) + 1e-3 * state.model.means
    state = ascent.start(replace(state.model, means=means))
    for _ in range(3):
        before, state = state, ascent.step(state)
    after = ascent.step(state)
    assert after.bound - state.bound > state.bound - before.bound > 0
    terrain = Terrain(before, state)
    assert terrain.remaining_gain == np.inf
    model, length = terrain.leap(2.0)
    assert length > 2 * np.linalg.norm(Chart(state.model).coordinates(state.maximised))
    assert ascent.start(model).bound > after.bound


@pytest.mark.parametrize("structure", MATRICES)
def test_powers_of_two_change_no_digit(structure):
    """As long as gains exceed the rounding of the bound, which units move."""
    X = overlapping()
    scale = np.full(2, 2.0**30) if structure == "spherical" else np.array([2.0**30, 2.0**-40])
    parameters = {"covariance_type": structure, "tol": 0, "max_iter": 15, "random_state": 0}
    plain, changed = (EMGaussianMixture(3, **parameters).fit(a * X) for a in (1.0, scale))
    np.testing.assert_array_equal(changed.weights_, plain.weights_)
    np.testing.assert_array_equal(changed.means_, scale * plain.means_)
    model, X = BayesianMixture(6, structure), np.random.default_rng(0).exponential(size=(400, 2))
    plain, changed = (
        VariationalEM(model, tol=0, max_iter=6, random_state=0).fit(a * X) for a in (1.0, scale)
    )
    np.testing.assert_array_equal(changed.model_.weights_, plain.model_.weights_)


@pytest.mark.parametrize("structure", MATRICES)
def test_other_units_and_another_order_make_the_same_climb(structure):
    X = overlapping(n=1000)
    climbs = [
        EMGaussianMixture(**near_the_truth(structure, order, scale), tol=0, max_iter=20)
        .fit(scale * X)
        .lower_bounds_
        + 2 * np.log(scale)
        for order, scale in [((0, 1, 2), 1.0), ((2, 0, 1), 1.0), ((0, 1, 2), 0.37)]
    ]
    np.testing.assert_allclose(climbs[1], climbs[0], atol=1e-8)
    np.testing.assert_allclose(climbs[2], climbs[0], atol=1e-8)


@pytest.mark.parametrize("structure", MATRICES)
def test_a_fixed_point_stays(structure):
    X = overlapping(n=1000)
    end = EMGaussianMixture(**near_the_truth(structure), tol=1e-12, max_iter=5000).fit(X)
    bound, means = end.lower_bound_, end.means_
    end.set_params(warm_start=True, tol=1e-6).fit(X)
    assert end.converged_
    assert end.n_iter_ <= 3
    np.testing.assert_allclose(end.lower_bound_, bound, atol=1e-11)
    np.testing.assert_allclose(end.means_, means, atol=1e-4)


@pytest.mark.parametrize("structure", CONJUGATE)
@pytest.mark.parametrize("kind", ["dirichlet_process", "dirichlet_distribution"])
def test_a_bayesian_mixture_ends_no_lower_and_earlier(structure, kind):
    X = overlapping(n=500, distance=2.5)
    model = BayesianMixture(4, structure, kind)
    plain, fast = (
        VariationalEM(model, tol=1e-7, max_iter=2000, random_state=0, acceleration=how).fit(X)
        for how in (None, "auto")
    )
    assert plain.converged_
    assert fast.converged_
    assert np.diff(fast.lower_bounds_).min() >= 0
    assert fast.n_iter_ <= 0.7 * plain.n_iter_
    assert fast.lower_bound_ > plain.lower_bound_ - 1e-6
    assert fast.model_.n_active_components_ == plain.model_.n_active_components_


def test_normal_columns_climb_as_they_are():
    """Their factor model is fitted by a quasi-Newton method anyway."""
    X = overlapping()
    plain, fast = (
        VariationalEM(FactorModel(1), max_iter=5, random_state=0, acceleration=how).fit(X)
        for how in (None, "auto")
    )
    np.testing.assert_array_equal(fast.lower_bounds_, plain.lower_bounds_)


def test_ctrl_c_while_a_proposal_is_tried_keeps_the_last_state(monkeypatch):
    X = overlapping()
    begin = near_the_truth("full")
    calls = []

    def interrupt(n_rows):
        calls.append(n_rows)
        if len(calls) == 12:
            raise KeyboardInterrupt

    watch(monkeypatch, interrupt)
    fitted = EMGaussianMixture(**begin, tol=0).fit(X)
    monkeypatch.undo()
    assert (fitted.status_, fitted.n_iter_) == ("interrupted", 10)
    expected = EMGaussianMixture(**begin, tol=0, max_iter=10).fit(X)
    np.testing.assert_array_equal(fitted.means_, expected.means_)


@pytest.mark.filterwarnings("ignore:Components .2. hold no rows:skemvae.DoubtfulFitWarning")
def test_components_without_weight_are_left_to_em():
    """An extrapolation cannot tell where they go, and need not."""
    X = overlapping()
    begin = near_the_truth("full")
    begin["weights_init"] = np.array([0.6, 0.4, 0.0])
    plain, fast = (
        EMGaussianMixture(**begin, tol=0, max_iter=30, acceleration=how).fit(X)
        for how in (None, "auto")
    )
    assert fast.weights_[2] == 0
    np.testing.assert_array_equal(fast.lower_bounds_, plain.lower_bounds_)


@pytest.mark.parametrize("how", ["squarem", True, 1, ""])
@pytest.mark.parametrize("estimator", [EMGaussianMixture(), VariationalEM()], ids=repr)
def test_another_acceleration_is_refused_by_name(estimator, how):
    with pytest.raises(ValueError, match="acceleration="):
        estimator.set_params(acceleration=how).fit(overlapping())


@pytest.mark.parametrize("structure", MATRICES)
def test_on_a_long_table_a_sample_goes_ahead(structure):
    """The third pass leads to where the sample does; what is left takes few more."""
    X = overlapping(n=70_000)
    begin = {**near_the_truth(structure), "tol": 1e-7, "max_iter": 2000}
    begin["means_init"] = begin["means_init"] + [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    plain = EMGaussianMixture(**begin, acceleration=None).fit(X)
    fast = EMGaussianMixture(**begin).fit(X)
    np.testing.assert_array_equal(fast.lower_bounds_[:3], plain.lower_bounds_[:3])
    assert plain.lower_bound_ - fast.lower_bounds_[3] < 1e-3
    assert fast.n_iter_ < plain.n_iter_ / 3
    np.testing.assert_allclose(fast.lower_bound_, plain.lower_bound_, atol=1e-6)


class Sampled:
    """EM on a table that is long enough, with what it samples in place of that."""

    def __init__(self, ascent, sample):
        self.start, self.step, self.sample, self.sizes = ascent.start, ascent.step, sample, []

    def sampled(self, size):
        self.sizes.append(size)
        return self.sample


def climbed(accelerator, state, n_passes):
    """The states on the way."""
    states = [state]
    for _ in range(n_passes):
        states.append(accelerator.step(states[-1]))
    return states


def test_a_sample_that_misleads_costs_one_pass_and_is_not_asked_again():
    ascent, start = state_of(overlapping())
    elsewhere, _ = state_of(overlapping(seed=3) + 5)
    em = Sampled(ascent, elsewhere)
    misled = [state.bound for state in climbed(Accelerator(em, 0.0), start, 20)]
    alone = [state.bound for state in climbed(Accelerator(ascent, 0.0), start, 19)]
    assert misled == [*alone[:3], alone[2], *alone[3:]]
    assert len(em.sizes) == 1


def test_a_climb_that_is_short_asks_for_no_sample():
    """Where less remains than rows differ by chance, they have nothing to tell."""
    X = overlapping(distance=6, n=2000)
    ascent, start = state_of(X)
    truth = 6 * np.array([[0.0, 0.0], [1.0, 0.2], [0.3, 1.0]])
    em = Sampled(ascent, None)
    start = ascent.start(replace(start.model, means=truth))
    climbed(Accelerator(em, 0.0), start, 10)
    assert not em.sizes


def test_a_sample_that_gains_by_chance_only_is_left_alone():
    X = overlapping(n=20_000)
    ascent, state = state_of(X)
    *_, state = climbed(Accelerator(ascent, 0.0), state, 40)
    sample, _ = state_of(X[::2])
    accelerator = Accelerator(Sampled(ascent, sample), 0.0)
    accelerator._begin(state)
    accelerator._plain.extend([state, state])
    accelerator._gain = 1.0  # as if it were a long way
    assert accelerator._climb_on_sample(state) is None
    assert accelerator._em.sizes


def test_the_sample_grows_with_the_parameters_and_short_tables_have_none():
    ascent, start = state_of(overlapping(n=200, d=6), k=40)
    em = Sampled(ascent, None)
    climbed(Accelerator(em, 0.0), start, 3)
    assert em.sizes == [16 * (39 + 40 * 6 + 40 * 21)]
    assert ascent.sampled(100) is None
    long, _ = state_of(overlapping(n=2000, d=6))
    assert long.sampled(150).table.total == pytest.approx(2000, rel=0.3)
    few = em_on(Rows.of(np.tile(ascent.table.X, (5, 1))))  # distinct rows, many times each
    assert few.sampled(100) is None


def test_ctrl_c_while_the_sample_climbs_keeps_the_last_state():
    ascent, start = state_of(overlapping())

    def interrupt(state):
        raise KeyboardInterrupt

    sample = Sampled(ascent, None)
    sample.step = interrupt
    with pytest.raises(KeyboardInterrupt):
        climbed(Accelerator(Sampled(ascent, sample), 0.0), start, 3)
