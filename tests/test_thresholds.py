"""Thresholds on tables whose rows recur, by chance or by nature, and where a lower tail ends."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.neighbors import KernelDensity

from skemvae import DensityOutlierDetector, EMGaussianMixture
from skemvae.thresholds import Occurrences, lower_tail
from tests.strategies import seeds, tables, weights_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Rows that recur make columns constant and components narrow, on purpose.
    pytest.mark.filterwarnings("ignore::skemvae.doubts.DoubtfulFitWarning"),
]


def sensors(rng, n, idle=0.0, decimals=9):
    X = rng.normal([10, 5, 3], [1, 0.5, 0.2], (n, 3)).round(decimals)
    X[rng.random(n) < idle] = 0
    return X


def few_values(rng, n):
    values = np.random.default_rng(5).normal([10, 5, 3], [1, 0.5, 0.2], (23, 3)).round(1)
    share = np.random.default_rng(6).dirichlet(np.full(23, 2.0))
    return values[rng.choice(23, n, p=share)]


def flags(rng, n):
    return (rng.random((n, 2)) < [0.3, 0.2]) * [10.0, 5.0]


# How rows are drawn, and what then befalls the table by accident.
TABLES = {
    "continuous": sensors,
    "exact zeros": lambda rng, n: sensors(rng, n, 0.1),
    "idle": lambda rng, n: sensors(rng, n, 0.3),
    "rounded": lambda rng, n: sensors(rng, n, decimals=1),
    "whole numbers": lambda rng, n: sensors(rng, n, decimals=0),
    "few values": few_values,
    "flags": flags,
}
ACCIDENTS = {
    "none": lambda rng, X: X,
    "written twice": lambda rng, X: np.tile(X, (2, 1)),
    "last rows written twice": lambda rng, X: np.vstack([X, X[len(X) // 8 :]]),
    "bootstrap": lambda rng, X: X[rng.integers(len(X), size=len(X))],
    "oversampled": lambda rng, X: np.vstack([X, X[rng.integers(len(X) // 10, size=len(X) // 2)]]),
}
HAZARDS = [(kind, "none") for kind in TABLES]
HAZARDS += [(kind, accident) for kind in ("continuous", "idle") for accident in ACCIDENTS]


@pytest.mark.parametrize(("kind", "accident"), dict.fromkeys(HAZARDS))
def test_the_rate_holds_and_odd_rows_are_found_whatever_recurs(kind, accident):
    alarms, found = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X = ACCIDENTS[accident](rng, TABLES[kind](rng, 600))
        odd = rng.uniform(0, [10, 5, 3][: X.shape[1]], (300, X.shape[1]))
        detector = DensityOutlierDetector(EMGaussianMixture(2, random_state=0)).fit(X)
        alarms.append((detector.predict(TABLES[kind](rng, 4000)) == -1).mean())
        found.append((detector.predict(odd) == -1).mean())
    # Quantiles of some 300 distinct rows, means of 4,000; of few values, none or all are below.
    most = 0.05 + 3.5 * np.sqrt(0.05 * 0.95 * (1 / 300 + 1 / 4000) / 3)
    assert np.mean(alarms) < most
    assert kind in ("few values", "flags") or np.mean(alarms) > 0.1 - most
    assert min(found) > 0.95


def test_a_row_that_recurs_does_not_hide_the_anomalies():
    """The sensors are exactly zero when they idle."""
    rng = np.random.RandomState(1)

    def draw(n):
        X = rng.normal([10, 5, 3], [1, 0.5, 0.2], (n, 3))
        X[rng.rand(n) < 0.1] = 0
        return X

    X, new, odd = draw(1000), draw(20000), rng.uniform(0, [10, 5, 3], (300, 3))
    detector = DensityOutlierDetector(EMGaussianMixture(2, random_state=0)).fit(X)
    assert detector.offset_ == pytest.approx(-4.2, abs=0.3)
    assert (detector.predict(new) == -1).mean() == pytest.approx(0.05, abs=0.01)
    assert (detector.predict(odd) == -1).mean() > 0.98


@pytest.mark.parametrize("rare", [[[3, 4], [3, 5]], [[3, 4]], []], ids=len)
@pytest.mark.parametrize("density", [EMGaussianMixture(), KernelDensity()], ids=str)
def test_beside_a_row_that_is_nearly_all_others_are_odd(rare, density):
    """Where all rows are equal, too; a fit to them alone has nothing to say of others."""
    detector = DensityOutlierDetector(density).fit([[1, 2]] * 50 + rare)
    np.testing.assert_array_equal(
        detector.predict([[1, 2], [3, 4], [3, 6], [9, 9]]), [1, -1, -1, -1]
    )


def test_a_narrow_kernel_keeps_its_rate_on_copies():
    """Each copy would find itself: a fifth of new rows are flagged then."""
    kernel = KernelDensity(bandwidth=0.1)
    for accident in ("written twice", "bootstrap", "last rows written twice"):
        alarms = []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            X = ACCIDENTS[accident](rng, rng.normal(size=(500, 2)))
            detector = DensityOutlierDetector(kernel).fit(X)
            alarms.append((detector.predict(rng.normal(size=(2000, 2))) == -1).mean())
        assert np.mean(alarms) < 0.07, accident


# Which rows recur.


@given(tables(min_rows=20), st.data())
def test_what_recurs_is_the_same_for_any_order_unit_and_number_of_copies(X, data):
    weight = data.draw(weights_of(len(X)))
    table = Occurrences.of(X, weight)
    order = np.random.default_rng(data.draw(seeds)).permutation(len(X))
    shuffled = Occurrences.of(X[order], None if weight is None else weight[order])
    np.testing.assert_array_equal(shuffled.recurs, table.recurs)
    np.testing.assert_allclose(shuffled.weight, table.weight, rtol=1e-12)
    scaled = Occurrences.of(1000 * X, weight)
    np.testing.assert_array_equal(scaled.count, table.count)
    if len(table.weight) >= 10:
        weight = np.ones(len(X)) if weight is None else weight
        is_integer = (weight == weight.round()).all()
        more = Occurrences.of(X, 3 * weight)
        np.testing.assert_array_equal(more.count, table.count)
        assert more.unit == pytest.approx(3 * table.unit)
        if is_integer:
            rows = np.tile(np.arange(len(X)).repeat(weight.astype(int)), 2)
            written = Occurrences.of(X[rows], None)
            np.testing.assert_array_equal(written.recurs, table.recurs)
            np.testing.assert_array_equal(written.count, table.count)


@given(tables(min_rows=12), st.data(), st.integers(2, 7))
def test_folds_hold_each_lone_row_out_once_and_leave_of_others_the_same_share(X, data, n_folds):
    weight = data.draw(st.sampled_from([None, "integer"]))
    if weight is not None:
        weight = np.random.default_rng(data.draw(seeds)).integers(1, 4, len(X)).astype(float)
    table = Occurrences.of(X, weight)
    held_outs = []
    n_folds = max(min(n_folds, (~table.recurs).sum()), 1)
    for rows, share, held_out in table.folds(n_folds):
        held_outs.extend(held_out)
        values, number = np.unique(X, axis=0, return_inverse=True)
        in_training = np.zeros(len(values), dtype=bool)
        in_training[number.reshape(-1)[rows]] = True
        np.testing.assert_array_equal(~in_training, np.isin(np.arange(len(values)), held_out))
        if weight is None:
            thinned = table.thinned(rows, share)
            left = np.bincount(number.reshape(-1)[thinned], minlength=len(values))
        else:
            left = np.bincount(number.reshape(-1)[rows], weight[rows] * share, len(values))
        n_left = left / table.weight * table.count
        kept = table.count - np.where(table.recurs & (n_folds > 1), table.count // n_folds, 0)
        np.testing.assert_allclose(n_left, np.where(in_training, kept, 0), rtol=1e-9)
    np.testing.assert_array_equal(np.sort(held_outs), np.flatnonzero(~table.recurs))


@pytest.mark.parametrize(
    ("counts", "recurring"),
    [
        ([1] * 40, 0),
        ([2] * 40, 0),
        ([1] * 37 + [3], 1),  # three zeros
        ([1] * 40 + [2] * 20 + [3] * 5 + [6], 0),  # a bootstrap sample
        ([1] * 40 + [2] * 20 + [3] * 5 + [60], 1),
        ([2] * 40 + [120], 1),  # written twice
        ([1] * 90 + [9] * 10, 0),  # a class that was oversampled
        ([40, 24, 12, 4], 4),  # flags
        ([50, 1, 1], 1),
    ],
    ids=str,
)
def test_a_row_recurs_that_occurs_far_more_often_than_others(counts, recurring):
    X = np.arange(len(counts))[:, None] * 1.0
    assert Occurrences.of(X.repeat(counts, axis=0), None).recurs.sum() == recurring
    assert Occurrences.of(X, np.array(counts, dtype=float)).recurs.sum() == recurring


def test_weights_that_are_no_numbers_of_rows_say_nothing_of_recurrence():
    rng = np.random.default_rng(0)
    table = Occurrences.of(rng.normal(size=(100, 2)), rng.lognormal(0, 3, 100))
    assert not table.recurs.any()
    np.testing.assert_array_equal(table.count, 1)


def test_rows_with_the_same_holes_and_labels_are_equal():
    holes = np.array([[1.0, np.nan], [np.nan, 1.0], [1.0, np.nan], [1.0, 2.0]])
    np.testing.assert_array_equal(Occurrences.of(holes, None).count, [1, 2, 1])
    labels = np.array([["a", 1], ["b", 1], ["a", 1.0]], dtype=object)
    assert len(Occurrences.of(labels[:2], None).count) == 2


# Where the tail ends.


def test_a_row_that_counts_little_does_not_hide_the_next():
    """A new row like it is not expected, but one that is like no other."""
    scores, weight, one_more = np.array([-1.0, -np.inf]), np.array([0.1, 0.2]), np.array([0.0, 1.0])
    assert lower_tail(scores, weight, 0.5, one_more) == pytest.approx(-1, rel=1e-9)


@given(seeds, st.sampled_from([1, 2, 7, 40]), st.data(), st.floats(0.01, 0.5))
def test_a_threshold_has_at_most_the_share_below_it_and_the_next_score_would_exceed_it(
    seed, n, data, share
):
    """With the row more that a new one is, unless its like has been seen."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.standard_normal(n), data.draw(st.sampled_from([0, 9])))
    scores[rng.random(n) < data.draw(st.sampled_from([0.0, 0.1, 0.9]))] = -np.inf
    weight = data.draw(weights_of(n))
    counts = np.ones(n) if weight is None else weight
    assume(counts.any())
    one_more = np.where(rng.random(n) < data.draw(st.sampled_from([0.0, 0.5, 1.0])), 1.0, 0.0)
    threshold = lower_tail(scores, weight, share, one_more)
    assert not np.isnan(threshold)
    expected = np.array([counts[scores < s].sum() + one_more[scores == s].max() for s in scores])
    is_low = expected <= share * (counts.sum() + one_more.max()) * (1 + 1e-9)
    right = scores[is_low].max() if is_low.any() else scores.min()
    assert threshold == pytest.approx(right, rel=1e-9, abs=1e-9)
    assert threshold <= right  # of a score at the threshold nothing is flagged
