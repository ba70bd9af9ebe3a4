"""Training: its batches, its schedule, its patience, and what it does when a bound breaks."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from skemvae.core.iterate import DivergenceError, Patience, Status, iterate
from skemvae.networks.codes import Codes
from skemvae.networks.gradients import ESTIMATORS
from skemvae.networks.training import Progress, RunningMean, Schedule, Trainer
from skemvae.networks.vae import n_active_units
from tests.networks.test_gradients import priors, tiny_vae
from tests.strategies import seeds

REPARAMETERIZED = ESTIMATORS["elbo", "reparameterization"]
NEVER = Patience(100, 0.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def codes(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return Codes.of(rng.standard_normal((n, 2)).astype(np.float32), rng.uniform(0.5, 2, n))


def trainer(prior="normal", *, held_out=8, seed=0, kind="constant", patience=NEVER, **kwargs):
    schedule = Schedule(kind, 0.01, 10, 0, patience)
    settings = dict(
        estimator=REPARAMETERIZED, batch_size=8, n_samples=2, alternating=False, first_epoch=0
    )
    shared = not kwargs.get("alternating", False)
    vae = tiny_vae(prior, shared_encoder=shared).float()
    some, others = codes().split(held_out, generator(seed))
    return Trainer(
        vae, others, some, schedule=schedule, generator=generator(seed), **settings | kwargs
    )


def weights_of(parameters):
    return [parameter.detach().clone() for parameter in parameters]


def same(some, others):
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


# Rows.


@given(seeds, st.integers(1, 60), st.integers(1, 70))
def test_batches_cover_every_row_once_and_are_nearly_equal(seed, n, size):
    rows = Codes(torch.arange(n)[:, None], torch.arange(n) + 0.5)
    batches = list(rows.batches(size, generator(seed)))
    lengths = [len(batch) for batch in batches]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    u = torch.cat([batch.u[:, 0] for batch in batches])
    assert torch.equal(u.sort().values, rows.u[:, 0])
    assert torch.equal(torch.cat([batch.weight for batch in batches]), u + 0.5)
    assert same([torch.cat([block.u for block in rows.blocks()])], [rows.u])


def test_a_split_shares_out_the_rows():
    whole = codes(40)
    some, others = whole.split(15, generator())
    assert len(some) == 15
    both = torch.cat([some.u, others.u]), torch.cat([some.weight, others.weight])
    for part, of_all in zip(both, (whole.u, whole.weight), strict=True):
        assert torch.equal(part.sort(0).values, of_all.sort(0).values)


# Schedules.


@given(st.integers(0, 30), st.integers(0, 60))
def test_the_kl_term_warms_up_evenly_to_one(kl_warmup, epoch):
    schedule = Schedule("constant", 0.1, 60, kl_warmup, NEVER)
    beta = schedule.beta(epoch)
    assert 0 < beta <= 1
    assert (beta == 1) == (epoch >= kl_warmup)
    if epoch < kl_warmup:
        assert schedule.beta(epoch + 1) - beta == pytest.approx(1 / (kl_warmup + 1))


@given(st.integers(1, 200), st.floats(1e-5, 1))
def test_a_cosine_falls_from_the_first_rate_to_zero(n_epochs, rate):
    schedule = Schedule("cosine", rate, n_epochs, 0, NEVER)
    rates = [schedule.learning_rate(epoch, [0.0] * epoch) for epoch in range(n_epochs + 1)]
    assert rates[0] == rate
    assert abs(rates[-1]) < 1e-12
    assert (np.diff(rates) < 0).all()


@given(st.lists(st.floats(-2, 2), max_size=30), st.integers(1, 4))
def test_each_plateau_divides_an_adaptive_rate_by_three(bounds, n_iter):
    patience = Patience(n_iter, 0.1)
    adaptive = Schedule("adaptive", 0.5, 9, 0, patience)
    rates = [adaptive.learning_rate(i, bounds[:i]) for i in range(len(bounds) + 1)]
    assert rates[0] == 0.5
    assert rates[-1] == pytest.approx(0.5 / 3 ** len(patience.plateaus(bounds)))
    assert (np.diff(rates) <= 0).all()
    constant = Schedule("constant", 0.5, 9, 0, patience)
    assert constant.learning_rate(len(bounds), bounds) == 0.5


# Patience.


@given(st.integers(1, 8), st.integers(0, 60), st.floats(0, 1), st.integers(0, 5))
def test_a_flat_bound_has_a_plateau_every_two_windows(n_iter, length, tol, burn_in):
    patience = Patience(n_iter, tol, burn_in)
    bounds = [*range(burn_in), *[-7.0] * length]  # what was before does not count
    ends = [burn_in + 2 * n_iter * i for i in range(1, length // (2 * n_iter) + 1)]
    assert patience.plateaus(bounds) == ends
    assert Patience(n_iter, tol, burn_in, 3)(bounds) == (len(ends) >= 3)


@given(st.integers(1, 8), st.integers(0, 5), st.floats(0.2, 5))
def test_a_plateau_that_raised_the_bound_does_not_end_a_climb(n_iter, burn_in, gain):
    """Whatever the bound was in the warm-up."""
    flat = 2 * n_iter
    bounds = [*[100.0] * burn_in, *[-7.0] * flat, *[-7.0 + gain] * flat]
    patience = Patience(n_iter, 0.1, burn_in, 2)
    assert len(patience.plateaus(bounds)) == 2
    assert not patience(bounds)
    assert patience([*bounds, *[-7.0 + gain] * flat])


def test_weights_of_the_warm_up_do_not_compete():
    """They have climbed another objective. Without a warm-up the start does."""
    for kl_warmup in (0, 3):
        climber = trainer()
        climber.schedule = replace(climber.schedule, kl_warmup=kl_warmup)
        progress = replace(climber.start(), best_bound=1e9)
        for _ in range(5):
            progress = climber.step(progress)
        assert (progress.best_bound == 1e9) == (kl_warmup == 0)
        assert progress.best_bound in (1e9, max(progress.watched[4:]))


@given(st.lists(st.floats(0.2, 5), max_size=40), st.integers(1, 5))
def test_a_rising_bound_has_no_plateau_even_if_it_falls_in_between(gains, n_iter):
    rising = np.cumsum([0.0, *gains])
    assert Patience(n_iter, 0.1).plateaus(rising) == []
    with_falls = np.stack([rising, rising - 0.5], 1).ravel()
    assert Patience(2 * n_iter, 0.1).plateaus(with_falls) == []


def test_a_plateau_is_a_mean_that_does_not_rise_by_more_than_the_tolerance():
    patience = Patience(2, 0.1)
    assert patience.plateaus([0, 0, 0.05, 0.1]) == [4]
    assert patience.plateaus([0, 0, 0.1, 0.2]) == []
    assert patience.plateaus([3, 0, 1, 1]) == [4]  # one lucky maximum is not waited for
    assert patience.plateaus([0, 0, 0, 0, 9, 9, 9, 9]) == [4, 8]
    assert not patience([])


@given(st.integers(1, 6), st.integers(0, 5), st.floats(0.2, 5))
def test_a_loop_ends_at_a_plateau_before_which_the_best_has_not_risen(n_iter, burn_in, gain):
    patience = Patience(n_iter, 0.1, burn_in, n_plateaus=2)
    flat = [0.0] * (burn_in + 2 * n_iter)
    level = [1.0] * (2 * n_iter)
    assert not patience(flat)
    assert patience([*flat, *[0.05] * (2 * n_iter)])
    assert not patience([*flat, *(gain * np.array(level))])
    assert patience([*flat, *(gain * np.array(level)), *(gain * np.array(level))])


@given(st.integers(2, 6))
def test_windows_grow_with_the_climb(n_iter):
    patience = Patience(n_iter, 1e-3)
    climb = np.minimum(np.arange(20.0 * n_iter), 8.0 * n_iter)
    assert 10 * n_iter < patience.plateaus(climb)[0] <= 14 * n_iter + 4
    climb = np.minimum(np.arange(99.0 * n_iter), 60.0 * n_iter)  # up to three times
    assert 65 * n_iter < patience.plateaus(climb)[0] <= 66 * n_iter + 2


# Epochs.


def breaking(times):
    """An estimator that returns NaN for the first batches of ``times`` epochs to come."""
    seen = []

    def estimator(vae, u, noise, beta):
        surrogate, bound = REPARAMETERIZED(vae, u, noise, beta)
        if torch.is_grad_enabled():
            seen.append(weights_of(vae.parameters()))
            if estimator.times:
                estimator.times -= len(seen) % 4 == 0
                return math.nan * surrogate, math.nan * bound
        return surrogate, bound

    estimator.times, estimator.seen = times, seen
    return estimator


@pytest.mark.parametrize("times", [1, 3])
def test_an_epoch_that_breaks_is_undone_and_tried_again_at_half_the_rate(times):
    estimator = breaking(0)
    climber = trainer(estimator=estimator)
    progress = climber.step(climber.start())
    before = weights_of(climber.vae.parameters())
    estimator.times, calls = times, len(estimator.seen)
    with pytest.warns(ConvergenceWarning, match=r"epoch 2: .* half the learning rate") as told:
        progress = climber.step(progress)
    assert len(told) == times
    assert len(estimator.seen) == calls + 4 * (times + 1)
    for attempt in range(times + 1):
        assert same(estimator.seen[calls + 4 * attempt], before)
    assert np.isfinite(progress.watched).all()
    assert len(progress.watched) == 3
    climber.step(progress)  # quietly, still at that rate
    assert climber.optimiser.param_groups[0]["lr"] == pytest.approx(0.01 / 2**times)


def test_a_bound_that_stays_broken_ends_the_loop_at_the_weights_before():
    estimator = breaking(0)
    climber = trainer(estimator=estimator)
    progress = climber.step(climber.start())
    estimator.times = 10**6
    with pytest.warns(ConvergenceWarning), pytest.raises(DivergenceError):
        climber.step(progress)
    assert same(climber.vae.state_dict().values(), progress.weights.values())
    with pytest.warns(ConvergenceWarning):
        result = iterate(climber.step, progress, stop=NEVER, max_iter=5)
    assert (result.status, result.n_iter) == (Status.DIVERGED, 0)
    assert result.state is progress


@priors
def test_alternating_epochs_climb_over_phi_then_over_theta(prior):
    climber = trainer(prior, alternating=True)
    progress = climber.start()
    for epoch in range(4):
        phi, theta = weights_of(climber.vae.phi()), weights_of(climber.vae.theta())
        progress = climber.step(progress)
        changed = [not same(phi, climber.vae.phi()), not same(theta, climber.vae.theta())]
        assert changed == [epoch % 2 == 0, epoch % 2 == 1]


@priors
@pytest.mark.parametrize("kind", ["adaptive", "cosine"])
def test_equal_seeds_give_equal_weights_and_leave_global_random_numbers_alone(prior, kind):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    ends = []
    for seed in (1, 1, 2):
        climber = trainer(prior, kind=kind, seed=seed, patience=Patience(1, 0.0, 0, 99))
        ends.append(iterate(climber.step, climber.start(), stop=NEVER, max_iter=3).state)
    first, again, other = ends
    assert first.watched == again.watched
    assert same(first.weights.values(), again.weights.values())
    assert not same(first.weights.values(), other.weights.values())
    assert torch.equal(torch_state, torch.get_rng_state())
    assert all(map(np.array_equal, numpy_state, np.random.get_state()))


def test_the_gradient_of_an_absurd_batch_is_cut_and_no_other():
    def times(factor):
        def estimator(vae, u, noise, beta):
            surrogate, bound = REPARAMETERIZED(vae, u, noise, beta)
            return factor * surrogate, bound

        climber = trainer(estimator=estimator, batch_size=32)  # one batch
        climber.step(climber.start())
        return torch.cat([p.grad.ravel() for p in climber.vae.parameters()])

    plain, absurd = times(1.0), times(1e8)
    assert plain.norm() < 100
    torch.testing.assert_close(times(1.5), 1.5 * plain)
    torch.testing.assert_close(absurd, 100 * plain / plain.norm(), rtol=1e-4, atol=1e-4)


def test_rows_count_by_their_weight_in_gradients_and_bounds():
    def estimator(vae, u, noise, beta):
        return u[:, 0] * vae.decoder.outputs.bias[0], u[:, 0]

    climber = trainer(estimator=estimator, batch_size=32)  # one batch
    rows, progress = climber.training, climber.step(climber.start())
    mean = (rows.weight * rows.u[:, 0]).mean().item()
    assert progress.training_bounds == pytest.approx([climber.evaluate(rows), mean], rel=1e-5)
    assert climber.vae.decoder.outputs.bias.grad[0].item() == pytest.approx(-mean, rel=1e-5)
    held_out = climber.held_out
    expected = np.average(held_out.u[:, 0].numpy(), weights=held_out.weight.numpy())
    assert progress.bound == pytest.approx(expected, rel=1e-5)


def test_training_rises_and_remembers_the_best():
    climber = trainer(held_out=0)
    state = iterate(climber.step, climber.start(), stop=NEVER, max_iter=20).state
    assert state.bound == max(state.watched) == state.best_bound
    climber.vae.load_state_dict(state.best)  # a mean, not the last weights
    assert state.bound == climber.evaluate(climber.training)
    assert not same(state.best.values(), state.weights.values())
    assert len(state.watched) == len(state.training_bounds) == 21
    assert state.bound > state.watched[0] + 0.1
    assert state.followed_by(-99.0, 0.0, {}, {}).best is state.best
    assert state.followed_by(99.0, 0.0, {}, {"a": 1}).best == {"a": 1}


@given(st.integers(1, 30), st.integers(1, 40))
def test_a_running_mean_is_the_mean_of_all_steps_and_later_of_about_as_many(n_steps, n_seen):
    vae = tiny_vae()
    mean = RunningMean(vae, n_steps)
    bias = vae.decoder.outputs.bias
    values, expected = np.random.default_rng(n_seen).standard_normal(n_seen), 0.0
    for i, value in enumerate(values):
        bias.data.fill_(value)
        mean.update()
        expected += (value - expected) / min(i + 1, n_steps)
    mean.swap()
    torch.testing.assert_close(bias.data, torch.full_like(bias, expected))
    if n_seen <= n_steps:
        assert expected == pytest.approx(values.mean())
    mean.swap()
    torch.testing.assert_close(bias.data, torch.full_like(bias, values[-1]))
    mean.restart()
    mean.swap()
    torch.testing.assert_close(bias.data, torch.full_like(bias, values[-1]))


@pytest.mark.parametrize("better", [True, False])
def test_at_the_first_plateau_training_goes_on_from_a_rival_if_that_is_better(better):
    climber = trainer(kind="adaptive", patience=Patience(1, 1e9, 0, 9), estimator=breaking(0))
    climber.rival = copy.deepcopy(climber.vae)
    with torch.no_grad():
        climber.rival.decoder.outputs.bias.add_(0.0 if better else 50.0)
    start = climber.start()
    with torch.no_grad():
        climber.vae.decoder.outputs.bias.add_(5.0)
    worse = climber.evaluate(climber.held_out)
    begin = replace(start, watched=(worse,), best=climber._weights(), best_bound=worse)
    calls = len(climber.estimator.seen)
    progress = climber.step(climber.step(begin))  # a plateau after each epoch
    climber.step(progress)
    rival = weights_of(climber.rival.parameters())
    assert same(climber.estimator.seen[calls + 4], rival) == better
    assert not same(climber.estimator.seen[calls + 8], rival)


def test_a_smaller_rate_goes_on_from_the_best_weights():
    climber = trainer(kind="adaptive", patience=Patience(1, 0.0, 0, 9), estimator=breaking(0))
    start = climber.start()
    best = copy.deepcopy(start.weights)
    progress = climber.step(start)
    plateau = Progress((1e9, 0.0), (0.0, 0.0), progress.weights, best, 1e9)
    calls = len(climber.estimator.seen)
    climber.step(plateau)
    assert same(climber.estimator.seen[calls], [best[n] for n, _ in climber.vae.named_parameters()])
    assert climber.optimiser.param_groups[0]["lr"] == pytest.approx(0.01 / 3)


def test_latent_dimensions_that_rows_do_not_move_are_not_active():
    vae = tiny_vae(k=3).float()
    with torch.no_grad():
        vae.encoder.moments.weight[:3] = torch.tensor([[5.0], [0.0], [1e-3]])
        vae.encoder.shortcut.weight.zero_()
    assert n_active_units(vae, codes()) == 1
