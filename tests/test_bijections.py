"""Laws of bijections: log determinants, images and the way back; and what is none."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skemvae.bijections import Bijection, bijection_for, bijection_of
from skemvae.bijections.elementary import ELEMENTARY
from skemvae.bijections.function import differentiate
from skemvae.bijections.in_place import InPlace
from tests.strategies import seeds
from tests.versions import is_exact_power


class FixedPower(PowerTransformer):
    """A power transformation with given powers, which are not standardised."""

    def __init__(self, method="yeo-johnson", *, powers=1.0):
        super().__init__(method, standardize=False)
        self.powers = powers

    def fit(self, X, y=None):
        super().fit(X)
        self.lambdas_ = np.broadcast_to(np.asarray(self.powers, dtype=float), np.shape(X)[1])
        return self

    def fit_transform(self, X, y=None):
        return self.fit(X).transform(X)


def log_slope_of_log(X):
    return -np.log(np.asarray(X)).sum(axis=1)


def log_slope_of_root(X):
    return -np.log(2 * np.sqrt(np.asarray(X))).sum(axis=1)


SLOPES = {np.log: log_slope_of_log, np.sqrt: log_slope_of_root}
LOG = FunctionTransformer(np.log, np.exp, check_inverse=False)
ROOT = FunctionTransformer(np.sqrt, np.square)
COLUMNS = ColumnTransformer(
    [
        ("power", make_pipeline(PowerTransformer(), MinMaxScaler()), [2]),
        ("rotation", PCA(whiten=True), [3, 0]),
    ],
    remainder="passthrough",
)
KINDS = [
    *(InPlace(known.transformer(), [2]) for known in ELEMENTARY.values()),
    InPlace(ELEMENTARY["log1p"].transformer(), [2, 0]),
    InPlace(PowerTransformer("box-cox"), [False, True, False, True]),
    InPlace(PCA(), [3, 1]),
    StandardScaler(),
    StandardScaler(with_std=False),
    StandardScaler(with_mean=False),
    MinMaxScaler((-2, 5)),
    MaxAbsScaler(),
    RobustScaler(unit_variance=True, quantile_range=(10, 80)),
    RobustScaler(with_scaling=False),
    PCA(),
    PCA(whiten=True, svd_solver="covariance_eigh"),
    PowerTransformer(),
    PowerTransformer(standardize=False),
    PowerTransformer("box-cox"),
    PowerTransformer("box-cox", standardize=False),
    FixedPower(powers=[-3.0, 0.0, 2.0, 5.0]),
    FixedPower("box-cox", powers=[-3.0, 0.0, 2.0, 5.0]),
    LOG,
    ROOT,
    FunctionTransformer(),
    make_pipeline(PowerTransformer("box-cox"), "passthrough", PCA(whiten=True), MinMaxScaler()),
    make_pipeline(LOG, StandardScaler(), FixedPower(powers=[-1.0, 3.0, 4.0, 0.5])),
    COLUMNS,
    ColumnTransformer([("log", LOG, [1, 3]), ("root", ROOT, [True, False, True, False])]),
    make_pipeline(
        COLUMNS, ColumnTransformer([("a", RobustScaler(), [3]), ("b", PCA(), [0, 2, 1])])
    ),
]


def table(seed=0, n=40):
    """Positive, skewed, correlated, in various units; two of its columns in (0, 1)."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, 4)) @ rng.standard_normal((4, 4))
    return np.exp(0.4 * Z) * [1.0, 20.0, 0.05, 3.0]


def fitted(transformer, X):
    bijection = bijection_of(transformer.fit(X))
    differentiate(bijection, SLOPES)
    return bijection


def log_abs_det_by_differences(transformer, X):
    """Four-point differences, whose errors are of the fourth order."""
    step = 1e-3 * np.abs(X)
    columns = []
    for j in range(X.shape[1]):
        h = step * (np.arange(X.shape[1]) == j)
        values = [transformer.transform(X + k * h) for k in (-2, -1, 1, 2)]
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12
        columns.append(slope / step[:, j, None])
    return np.linalg.slogdet(np.stack(columns, axis=2))[1]


@pytest.mark.parametrize("transformer", KINDS, ids=lambda t: re.sub(r"\s+", " ", str(t)))
class TestEveryKind:
    def test_log_determinant_by_differences(self, transformer):
        X = table()
        bijection = fitted(transformer, X)
        rows = X[:8]
        np.testing.assert_allclose(
            bijection.log_abs_det(rows), log_abs_det_by_differences(transformer, rows), atol=1e-6
        )

    def test_slopes_of_columns_are_those_of_differences(self, transformer):
        X = table()
        bijection = fitted(transformer, X)
        X = X[:6]
        if not bijection.acts_by_column:
            with pytest.raises(NotImplementedError, match="does not act on each column alone"):
                bijection.by_columns(X)
            return
        places, log_slopes = bijection.by_columns(X)
        np.testing.assert_allclose(log_slopes.sum(axis=1), bijection.log_abs_det(X))
        for j, place in enumerate(places):
            h = 1e-4 * X * (np.arange(4) == j)
            change = transformer.transform(X + h) - transformer.transform(X - h)
            slopes = np.log(np.abs(change[:, place]) / (2 * h[:, j]))
            np.testing.assert_allclose(slopes, log_slopes[:, j], atol=1e-6)
            np.testing.assert_array_equal(np.delete(change, place, axis=1), 0)

    def test_there_and_back(self, transformer):
        X = table()
        bijection = fitted(transformer, X)
        Y, log_abs_det = bijection.forward(X)
        np.testing.assert_allclose(Y, transformer.transform(X))
        np.testing.assert_array_equal(log_abs_det, bijection.log_abs_det(X))
        again, inside = bijection.inverse(Y)
        assert inside.all()
        np.testing.assert_allclose(again, X, rtol=1e-9)

    def test_what_has_an_inverse_is_the_image_of_it(self, transformer):
        """Points all over the space: each is the image of its inverse, or said to be outside."""
        X = table()
        bijection = fitted(transformer, X)
        Y = bijection.forward(X)[0]
        rng = np.random.default_rng(1)
        Y = Y.mean(axis=0) + 3 * Y.std(axis=0) * rng.standard_normal((200, 4))
        X, inside = bijection.inverse(Y)
        assert inside.any()
        assert len(X) == inside.sum()
        again, log_abs_det = bijection.forward(X)
        assert np.isfinite(log_abs_det).all()
        unit = np.abs(Y).max()
        np.testing.assert_allclose(again / unit, Y[inside] / unit, atol=1e-6)
        if bijection.is_onto:
            assert inside.all()


def edges(transformer, power):
    """Where the values of a power transformation end, by its definition."""
    if transformer.method == "box-cox":
        return (-1 / power, np.inf) if power > 0 else (-np.inf, -1 / power if power else np.inf)
    return 1 / (2 - power) if power > 2 else -np.inf, -1 / power if power < 0 else np.inf


@given(
    st.sampled_from(["box-cox", "yeo-johnson"]),
    st.one_of(
        st.floats(-4, 6), st.sampled_from([0.0, 1e-20, -1e-12, 1e-9, 1.0, 2.0, 2 + 1e-9])
    ).filter(is_exact_power),
    seeds,
)
@example("box-cox", 5e-324, 0)
@example("yeo-johnson", -5e-324, 0)
@example("box-cox", 0.015625, 0)
@example("yeo-johnson", 2.015625, 0)
def test_image_and_inverse_of_power_transformations(method, power, seed):
    rng = np.random.default_rng(seed)
    X = np.exp(rng.standard_normal((30, 1)))
    if method == "yeo-johnson":
        X *= rng.choice([-1, 1], (30, 1))
    transformer = FixedPower(method, powers=power).fit(X)
    bijection = bijection_of(transformer)
    lower, upper = edges(transformer, power)
    assert bijection.is_onto == (power == 0 if method == "box-cox" else 0 <= power <= 2)
    Y = bijection.forward(X)[0]
    assert np.logical_and(lower < Y, upper > Y).all()
    again, inside = bijection.inverse(Y)
    # Where many x are rounded to one y, x is known as well as y says.
    known = np.exp(bijection.log_abs_det(X)) * np.abs(X[:, 0]) > 1e-3 * np.abs(Y[:, 0])
    np.testing.assert_allclose(again[known[inside]], X[inside & known], rtol=1e-9)
    near = np.array(
        [[edge + side * 1e-6 * abs(edge)] for edge in (lower, upper) for side in (-1, 1)]
    )
    # There x or 1 / x is 1e-6 to the power of |edge|, which floating point must reach.
    near = near[np.abs(near[:, 0]) < 50]
    if len(near):
        expected = np.logical_and(lower < near, upper > near)[:, 0]
        np.testing.assert_array_equal(bijection.inverse(near)[1], expected)


@pytest.mark.parametrize("unit", [1e-100, 1e-8, 1.0, 1e8, 1e100])
@pytest.mark.parametrize("kind", [StandardScaler(), RobustScaler(), MinMaxScaler(), PCA()])
def test_units_of_any_size(kind, unit):
    """Scalers leave columns of tiny values as they are; then the determinant must say so."""
    X = unit * table()
    bijection = fitted(kind, X)
    Y, log_abs_det = bijection.forward(X)
    determinant = np.linalg.slogdet(np.cov((Y / np.std(Y)).T))[1] + 8 * np.log(np.std(Y))
    before = np.linalg.slogdet(np.cov((X / np.std(X)).T))[1] + 8 * np.log(np.std(X))
    np.testing.assert_allclose(2 * log_abs_det, determinant - before, atol=1e-6)
    np.testing.assert_allclose(bijection.inverse(Y)[0], X, rtol=1e-6)


def test_what_float64_cannot_hold_is_outside():
    """Their exponentials overflow, or underflow to 0, where Box-Cox is not defined."""
    Y = np.array([[800.0], [-800.0], [1.0]])
    for transformer in (FixedPower("box-cox", powers=0.0), LOG):
        X, inside = bijection_of(transformer.fit(np.array([[1.0], [2.0]]))).inverse(Y)
        assert inside.tolist() == [False, False, True]
        np.testing.assert_allclose(X, np.e)


def test_rows_outside_of_the_domain():
    X = table()
    bad = X.copy()
    bad[3, 1], bad[5, 0] = 0.0, -1.0
    for kind in (PowerTransformer("box-cox"), make_pipeline(PowerTransformer("box-cox"), PCA())):
        bijection = fitted(kind, X)
        Y, log_abs_det = bijection.forward(bad)
        inside = np.delete(np.arange(40), [3, 5])
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(log_abs_det)), inside)
        np.testing.assert_allclose(Y, kind.transform(X[inside]))
    late = make_pipeline(MinMaxScaler((1, 2)), PowerTransformer("box-cox"))
    far = np.vstack([X, X.min(axis=0) - 2 * np.ptp(X, axis=0)])
    bijection = fitted(late, X)
    Y, log_abs_det = bijection.forward(far)
    assert log_abs_det[-1] == -np.inf
    assert np.isfinite(log_abs_det[:-1]).all()
    assert len(Y) == 40
    nowhere, log_abs_det = bijection.forward(far[-1:])
    assert len(nowhere) == 0
    assert log_abs_det == -np.inf


def test_columns_by_name_and_labels_that_pass_through():
    frame = pd.DataFrame(table(), columns=list("abcd")).assign(label=["x", "y"] * 20)
    transformer = ColumnTransformer(
        [("log", LOG, ["d", "b"]), ("power", PowerTransformer(), lambda X: ["a"])],
        remainder="passthrough",
    )
    bijection = fitted(transformer, frame)
    Y, log_abs_det = bijection.forward(frame)
    X, inside = bijection.inverse(Y)
    assert inside.all()
    assert list(X[:, 4]) == list(frame["label"])
    np.testing.assert_allclose(X[:, :4].astype(float), frame[list("abcd")])
    alone = PowerTransformer().fit(frame[["a"]])
    expected = log_slope_of_log(frame[["b", "d"]]) + bijection_of(alone).log_abs_det(frame[["a"]])
    np.testing.assert_allclose(log_abs_det, expected)


def test_an_image_that_only_the_inverse_tells():
    """Squares of roots: no y < 0 is a root."""
    bijection = fitted(ROOT, table())
    Y = np.random.default_rng(0).standard_normal((500, 4))
    X, inside = bijection.inverse(Y)
    np.testing.assert_array_equal(inside, (Y >= 0).all(axis=1))
    np.testing.assert_allclose(X, Y[inside] ** 2)
    assert not bijection.is_onto


class Unknown(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


class TwoFold(StandardScaler):
    def transform(self, X):
        return 2 * super().transform(X)


class Named(StandardScaler):
    """Adds nothing to what the scaler does."""


REFUSED = [
    (PCA(2), "PCA with 2 of 4 components has no density"),
    (PCA(0.5), "components has no density: rows that differ only in what it drops"),
    (OneHotEncoder(), "OneHotEncoder has no density: labels become corners"),
    (OrdinalEncoder(), "OrdinalEncoder has no density: labels become single points"),
    (QuantileTransformer(n_quantiles=10), "QuantileTransformer has no density: it clips .* ties"),
    (KBinsDiscretizer(2, strategy="uniform"), "all rows of a bin become equal"),
    (Normalizer(), "Normalizer has no density: it puts all rows on a sphere"),
    (PolynomialFeatures(), "PolynomialFeatures has no density"),
    (VarianceThreshold(), "VarianceThreshold has no density: rows that differ only in what it"),
    (FeatureUnion([("a", StandardScaler())]), "FeatureUnion has no density"),
    (MinMaxScaler(clip=True), r"MinMaxScaler\(clip=True\) has no density.* Set clip=False"),
    (Unknown(), "Unknown has no density: how it changes volumes is not known.*bijection_for"),
    (TwoFold(), "TwoFold has no density: it changes what StandardScaler does"),
    (Pipeline([("a", StandardScaler()), ("b", PCA(1))]), "PCA with 1 of 4"),
    (
        ColumnTransformer([("a", StandardScaler(), [0, 1])]),
        "column 2 must be used once, but it drops it",
    ),
    (
        ColumnTransformer([("a", StandardScaler(), [0, 1]), ("b", "passthrough", [1, 2, 3])]),
        "column 1 must be used once, but it uses it twice",
    ),
    (
        ColumnTransformer([("a", "passthrough", slice(0, 4))], transformer_weights={"a": 2.0}),
        r"transformer_weights=...\) is not supported",
    ),
    (
        ColumnTransformer(
            [("a", FunctionTransformer(lambda X: X[:, :1]), [0, 1])], remainder="passthrough"
        ),
        "'a' turns 2 columns into 1",
    ),
]


@pytest.mark.parametrize(("transformer", "message"), REFUSED, ids=lambda case: str(case)[:40])
def test_what_has_no_density_is_refused_by_name(transformer, message):
    with pytest.raises(ValueError, match=message):
        bijection_of(transformer.fit(table()))


def test_a_selector_is_refused_by_name():
    transformer = SelectKBest(k=4).fit(table(), np.arange(40) % 2)
    with pytest.raises(ValueError, match="SelectKBest has no density"):
        bijection_of(transformer)


def test_whitening_of_collinear_columns_is_refused():
    X = table()
    X[:, 3] = 2 * X[:, 0]
    assert np.isfinite(bijection_of(PCA().fit(X)).log_abs_det(X)).all()
    for solver in ("full", "covariance_eigh"):
        for unit in (1.0, 1e-3, 1e3):
            with pytest.raises(ValueError, match="cannot whiten a component of variance"):
                bijection_of(PCA(whiten=True, svd_solver=solver).fit(unit * X))
    with pytest.raises(ValueError, match="cannot whiten a component of variance"):
        bijection_of(PCA(whiten=True).fit(1e-20 * table()))


def test_subclasses_that_change_nothing_and_kinds_that_are_entered(monkeypatch):
    X = table()
    expected = bijection_of(StandardScaler().fit(X)).log_abs_det(X)
    np.testing.assert_array_equal(bijection_of(Named().fit(X)).log_abs_det(X), expected)

    class Own(Unknown):
        pass

    @bijection_for(Own)
    class Identity(Bijection):
        def log_abs_det(self, X):
            return np.zeros(len(X))

    assert isinstance(bijection_of(make_pipeline(Own()).fit(X)).parts[0], Identity)


def test_functions_need_derivatives_unless_they_are_known():
    cube = FunctionTransformer(np.cbrt, check_inverse=False)
    tangent = FunctionTransformer(np.arctan, check_inverse=False)
    two = ColumnTransformer([("cube", cube, [0, 1]), ("tan", tangent, [2, 3])]).fit(table())
    with pytest.raises(ValueError, match="no density without its derivative: give log_abs_det"):
        differentiate(bijection_of(two), None)
    with pytest.raises(ValueError, match="one callable for 2 functions: give a dict"):
        differentiate(bijection_of(two), log_slope_of_log)
    with pytest.raises(ValueError, match=r"arctan.* has no density without its derivative"):
        differentiate(bijection_of(two), {np.cbrt: log_slope_of_log})
    known = ColumnTransformer([("log", LOG, [0, 1]), ("root", ROOT, [2, 3])]).fit(table())
    for slopes in (None, {np.log: log_slope_of_log}):
        bijection = bijection_of(known)
        differentiate(bijection, slopes)
        expected = log_slope_of_log(table()[:, :2]) + log_slope_of_root(table()[:, 2:])
        np.testing.assert_allclose(bijection.log_abs_det(table()), expected)
    for slope, message in [
        (lambda X: -np.log(X), r"log_abs_det returned shape \(40, 4\), expected \(40,\)"),
        (lambda X: np.full(len(X), np.nan), "log_abs_det is NaN at row 0: return -inf"),
    ]:
        bijection = bijection_of(LOG.fit(table()))
        differentiate(bijection, slope)
        with pytest.raises(ValueError, match=message):
            bijection.log_abs_det(table())
    with pytest.raises(ValueError, match="give it an inverse_func"):
        bijection_of(FunctionTransformer(np.log).fit(table())).inverse(table())
