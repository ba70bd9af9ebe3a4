"""Laws of ``compare``: same folds for all, paired errors, failures that are not lost."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import FitFailedWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RepeatedKFold,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skemvae import (
    DensityOutlierDetector,
    EMGaussianMixture,
    IncomparableDensitiesWarning,
    TransformedDensity,
    VariationalEM,
    compare,
)
from tests.strategies import seeds

X = np.random.default_rng(0).normal(size=(60, 2)) * [1, 3] + [0, 7]


class Told(DensityMixin, BaseEstimator):
    """A density of the first column that is what the test says it is."""

    def __init__(self, density=None, fails_without=None):
        self.density = density
        self.fails_without = fails_without

    def fit(self, X, y=None):
        if self.fails_without is not None and self.fails_without not in X[:, 0]:
            raise ValueError(f"row {self.fails_without} is <missing>")
        self.fitted_ = True
        return self

    def score_samples(self, X):
        return np.array([self.density[int(i)] for i in X[:, 0]])


def told(*densities):
    """Estimators that give row i the log density ``densities[...][i]``, and the rows."""
    rows = np.arange(len(densities[0]), dtype=float)[:, None]
    return {f"told {i}": Told(list(density)) for i, density in enumerate(densities)}, rows


# What is compared.


@pytest.mark.parametrize("cv", [3, KFold(4, shuffle=True, random_state=0)])
def test_rows_are_scored_by_fits_that_have_not_seen_them(cv):
    estimator = EMGaussianMixture(2, random_state=0)
    result = compare({"EM": estimator}, X, cv=cv)["EM"]
    folds = KFold(cv).split(X) if isinstance(cv, int) else cv.split(X)
    for train, test in folds:
        expected = EMGaussianMixture(2, random_state=0).fit(X[train]).score_samples(X[test])
        np.testing.assert_array_equal(result.log_density[test], expected)
    assert result.mean == pytest.approx(cross_val_score(estimator, X, cv=cv).mean())
    assert result.n_parameters == 11


@given(seeds, st.integers(5, 40))
def test_errors_of_differences_are_paired(seed, n):
    rng = np.random.default_rng(seed)
    hard = 100 * rng.standard_normal(n)  # for both
    estimators, rows = told(hard, hard - 1 - rng.random(n))
    comparison = compare(estimators, rows, cv=2)
    gap = estimators["told 1"].density - hard
    difference, error = comparison.difference("told 1")
    assert comparison.best.name == "told 0"
    assert difference == pytest.approx(gap.mean())
    assert error == pytest.approx(np.sqrt(np.sum((gap - gap.mean()) ** 2) / (n - 1) / n))
    assert comparison.best.standard_error == pytest.approx(hard.std(ddof=1) / np.sqrt(n))
    back, same = comparison.difference("told 0", "told 1")
    assert (back, same) == (-difference, error)
    assert comparison.difference("told 0") == (0, 0)


@given(seeds, st.permutations(range(5)))
def test_the_order_of_estimators_does_not_matter(seed, order):
    densities = np.random.default_rng(seed).standard_normal((5, 12)).round(1)
    densities[3] = densities[2]  # a tie
    estimators, rows = told(*densities)
    shuffled = {f"told {i}": estimators[f"told {i}"] for i in order}
    frames = [compare(e, rows, cv=3).to_frame() for e in (estimators, shuffled)]
    assert list(frames[0].index) == list(frames[1].index)
    for column in ("mean", "standard_error", "difference", "difference_error"):
        np.testing.assert_array_equal(frames[0][column], frames[1][column])
    assert frames[0]["mean"].is_monotonic_decreasing


def test_same_folds_for_all_whatever_the_seed_and_the_number_of_jobs():
    estimators = {name: EMGaussianMixture(2, random_state=0) for name in "ab"}
    splitter = KFold(3, shuffle=True)  # without a seed
    comparison = compare(estimators, X, cv=splitter)
    np.testing.assert_array_equal(comparison["a"].log_density, comparison["b"].log_density)
    one, two = (compare(estimators, X, cv=3, n_jobs=n_jobs) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one["a"].log_density, two["a"].log_density)
    state = np.random.get_state()[1].copy()
    compare(estimators, X, cv=3)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_rows_held_out_often_count_once_and_others_not():
    estimators, rows = told(np.arange(10.0))
    repeated = compare(estimators, rows, cv=RepeatedKFold(n_splits=2, n_repeats=3, random_state=0))
    np.testing.assert_array_equal(repeated["told 0"].log_density, np.arange(10))
    assert repeated["told 0"].standard_error == pytest.approx(np.std(range(10), ddof=1) / 10**0.5)
    some = compare(estimators, rows, cv=ShuffleSplit(1, test_size=3, random_state=0))
    density = some["told 0"].log_density
    assert np.isnan(density).sum() == 7
    assert some["told 0"].mean == pytest.approx(np.nanmean(density))
    assert "of 3 rows" in str(some)


def test_groups_stay_together():
    estimators, rows = told(np.arange(6.0))
    for i in range(6):
        estimators[f"needs {i}"] = Told(list(np.arange(6.0)), fails_without=i)
    with pytest.warns(FitFailedWarning):
        comparison = compare(estimators, rows, cv=GroupKFold(2), groups=[0, 0, 0, 1, 1, 2])
    assert len(comparison.results) == 7
    with pytest.raises(ValueError, match="groups"):
        compare(estimators, rows, cv=GroupKFold(2))


@pytest.mark.parametrize("kind", ["list", "float32", "pandas", "polars"])
def test_rows_of_any_kind(kind):
    rows = {
        "list": lambda: X.tolist(),
        "float32": lambda: X.astype(np.float32),
        "pandas": lambda: pytest.importorskip("pandas").DataFrame(X, columns=["a", "b"]),
        "polars": lambda: pytest.importorskip("polars").DataFrame(X, schema=["a", "b"]),
    }[kind]()
    expected = compare([EMGaussianMixture()], X, cv=2).best.mean
    assert compare([EMGaussianMixture()], rows, cv=2).best.mean == pytest.approx(expected, rel=1e-5)


# Impossible rows and failures.


def test_an_impossible_row_makes_a_mean_of_minus_infinity_and_says_so():
    estimators, rows = told([0.0, 1, 2, 3], [9.0, 9, 9, -np.inf], [9.0, -np.inf, 9, -np.inf])
    comparison = compare(estimators, rows, cv=2)
    assert [result.name for result in comparison.results] == ["told 0", "told 1", "told 2"]
    assert [result.n_impossible for result in comparison.results] == [0, 1, 2]
    assert comparison["told 1"].mean == -np.inf
    assert np.isnan(comparison["told 1"].standard_error)
    assert comparison.difference("told 1")[0] == -np.inf
    assert np.isnan(comparison.difference("told 1", "told 2")).all()  # both: nothing can be said
    assert "-inf (1 row)" in str(comparison)
    assert "-inf (2 rows)" in comparison._repr_html_()


def test_a_failure_is_reported_and_the_others_are_compared():
    estimators, rows = told(np.arange(6.0), np.arange(6.0) - 1)
    estimators["broken"] = Told([9.0] * 6, fails_without=0)
    with pytest.warns(FitFailedWarning, match="1 of 3 .* broken: ValueError in fold 1 of 3: row 0"):
        comparison = compare(estimators, rows, cv=3)
    assert [result.name for result in comparison.results] == ["told 0", "told 1", "broken"]
    assert comparison["broken"].error.endswith("row 0 is <missing>")
    assert np.isnan(comparison["broken"].log_density).all()  # rows of the other folds, too
    assert np.isnan(comparison.to_frame().loc["broken", ["mean", "difference"]].astype(float)).all()
    assert "failed" in str(comparison)
    assert "&lt;missing&gt;" in comparison._repr_html_()
    with pytest.raises(ValueError, match="missing"):
        compare(estimators, rows, cv=3, error_score="raise")
    with pytest.raises(ValueError, match=r"All estimators failed\. broken: ValueError in fold 1"):
        compare({"broken": estimators["broken"]}, rows, cv=3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_log_density_is_a_failure(value):
    estimators, rows = told([0.0] * 4, [0.0, value, 0.0, 0.0])
    with pytest.warns(FitFailedWarning, match=r"NaN or \+inf for 1 row"):
        assert compare(estimators, rows, cv=2)["told 1"].error


@pytest.mark.parametrize(
    ("estimators", "error", "match"),
    [
        ({}, ValueError, "empty"),
        (3, TypeError, "dict of names"),
        ({"class": EMGaussianMixture}, TypeError, "has no fit"),
        ([IsolationForest()], ValueError, "outlier detector"),
        ([DensityOutlierDetector(EMGaussianMixture())], ValueError, "made of a density, compare"),
        ([StandardScaler()], ValueError, "score_samples"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(estimators, error, match):
    with pytest.raises(error, match=match):
        compare(estimators, X)


def test_a_wrong_error_score_is_named():
    with pytest.raises(ValueError, match="error_score='nan'"):
        compare([EMGaussianMixture()], X, error_score="nan")


# Names, and units.


def test_names_say_what_differs():
    comparison = compare(
        [
            EMGaussianMixture(1),
            EMGaussianMixture(2),
            KernelDensity(),
            KernelDensity(),
            VariationalEM(),
            make_pipeline("passthrough", GaussianMixture()),
        ],
        X,
        cv=2,
    )
    assert {result.name for result in comparison.results} == {
        "EMGaussianMixture(n_components=1)",
        "EMGaussianMixture(n_components=2)",
        "KernelDensity #1",
        "KernelDensity #2",
        "VariationalEM",
        "GaussianMixture",
    }
    with pytest.raises(KeyError, match="'EM' is not among"):
        comparison["EM"]


def scaled(scaler, n_components=1):
    return Pipeline([("scale", scaler), ("density", EMGaussianMixture(n_components))])


@pytest.mark.parametrize(
    "others",
    [
        {"raw": EMGaussianMixture()},
        {"minmax": scaled(MinMaxScaler())},
        {"mean only": scaled(StandardScaler(with_std=False))},
        {"search": GridSearchCV(scaled("passthrough"), {"density__n_components": [1]})},
    ],
)
def test_different_transformations_are_warned_of(others):
    with pytest.warns(IncomparableDensitiesWarning, match=r"TransformedDensity.*units of X"):
        compare({"standard": scaled(StandardScaler()), **others}, X, cv=2)


def test_densities_in_the_units_of_x_are_compared_whatever_transforms_within():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        comparison = compare(
            {
                "scaled": TransformedDensity(StandardScaler(), EMGaussianMixture()),
                "raw": EMGaussianMixture(),
            },
            X,
            cv=3,
        )
    scaled, raw = comparison["scaled"], comparison["raw"]
    np.testing.assert_allclose(scaled.log_density, raw.log_density, rtol=1e-6)
    assert scaled.n_parameters == raw.n_parameters == 5


def test_the_same_transformation_in_all_is_fine():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = GridSearchCV(scaled(StandardScaler()), {"density__n_components": [1, 2]}, cv=2)
        comparison = compare(
            {"one": scaled(StandardScaler()), "two": scaled(StandardScaler(), 2), "search": search},
            X,
            cv=2,
        )
        compare({"raw": scaled("passthrough"), "bare": EMGaussianMixture()}, X, cv=2)
    assert comparison["one"].n_parameters == 5
    assert 5 <= comparison["search"].n_parameters <= 11


# What is shown.


def test_the_table_shows_two_digits_of_the_smallest_error_that_counts():
    density = np.array([1000.0, 1000.1, 1000.0, 1000.2])
    estimators, rows = told(density, density - [1, 1.001, 1.002, 1.003], density - [0, 0, 0, 1e-9])
    lines = str(compare(estimators, rows, cv=2)).splitlines()
    assert lines[0] == "Held-out log density of 4 rows, nats per row, 2 folds"
    assert lines[2].startswith("told 0  1000.07500 ± 0.04787")
    assert "-1.00150 ± 0.00065" in lines[4]


def test_a_line_for_each_fold(capsys):
    estimators, rows = told([0.0] * 4)
    compare(estimators, rows, cv=2, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:20] for line in lines] == ["told 0, fold 1 of 2:", "told 0, fold 2 of 2:"]


def test_the_picture():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    estimators, rows = told(
        [0.0, 1, 2, 3], [-1.0, 0.5, 0, 2], [9.0, 9, 9, -np.inf], [np.nan, 0, 0, 0]
    )
    with pytest.warns(FitFailedWarning):
        comparison = compare(estimators, rows, cv=2)
    figure, given_axes = plt.subplots()
    axes = comparison.plot(given_axes)
    assert axes is given_axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"told {i}" for i in range(4)]
    dots = [bars.lines[0].get_xdata()[0] for bars in axes.containers]
    assert dots == [comparison["told 0"].mean, comparison["told 1"].mean]
    bar = axes.containers[1].lines[2][0].get_segments()[0][:, 0]
    assert np.ptp(bar) == pytest.approx(2 * comparison.difference("told 1")[1])
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["−inf: 1 row of density 0", "failed"]
    figure.canvas.draw()
    assert comparison.plot().figure is not figure
    plt.close("all")
