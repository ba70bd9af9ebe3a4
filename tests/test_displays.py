"""Pictures: what is drawn is what was computed, whatever stands around the estimator."""

import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import chi2, norm
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as PeerMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import (
    BoundDecomposition,
    DensityOutlierDetector,
    EMGaussianMixture,
    TransformedDensity,
    VAEEstimator,
    VariationalEM,
)
from skemvae.models import BayesianMixture, FactorModel
from tests.strategies import estimator_of, mixtures

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from skemvae.displays import (  # noqa: E402
    BoundDisplay,
    DensityDisplay,
    FeatureScoreDisplay,
    GapDisplay,
    LatentDisplay,
    MixtureDisplay,
)
from skemvae.displays.style import PALETTE  # noqa: E402
from tests.laws import costly  # noqa: E402

MANY = costly(3)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def clusters(n=120, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return 4 * rng.integers(0, 2, (n, 1)) + rng.normal(size=(n, d)) @ rng.normal(size=(d, d))


@pytest.fixture(scope="module")
def fitted_vae():
    vae = VAEEstimator(2, hidden_layer_sizes=(8,), max_iter=30, kl_warmup=5, random_state=0)
    with pytest.warns(ConvergenceWarning):
        return vae.fit(clusters())


class Stub(DensityMixin, BaseEstimator):
    """Answers what displays ask for; its methods know what they have been asked."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.asarray(X.columns)
        return self

    def score_samples(self, X):
        return -(np.asarray(X) ** 2).sum(1)

    def feature_scores(self, X):
        return np.asarray(X) ** 2 - 1

    def decompose_bound(self, X):
        n = len(X)
        return BoundDecomposition(
            log_likelihood=np.asarray(X)[:, 0],
            elbo=np.asarray(X)[:, 0] - 1,
            kl_to_prior=np.full(n, 0.3),
            amortisation_gap=np.full(n, 0.4),
            log_likelihood_std=np.full(n, 0.03),
            elbo_std=np.full(n, 0.04),
            amortisation_gap_std=np.zeros(n),
        )


# All displays.


def drawings():
    X = clusters()
    em = EMGaussianMixture(2, random_state=0).fit(X)
    stub = Stub().fit(X)
    return {
        "BoundDisplay": lambda **kwargs: BoundDisplay.from_estimator(em, X, **kwargs),
        "MixtureDisplay": lambda **kwargs: MixtureDisplay.from_estimator(em, X, **kwargs),
        "DensityDisplay": lambda **kwargs: DensityDisplay.from_estimator(em, X, **kwargs),
        "LatentDisplay": lambda **kwargs: LatentDisplay.from_estimator(em, X, **kwargs),
        "GapDisplay": lambda **kwargs: GapDisplay.from_estimator(stub, X, **kwargs),
        "FeatureScoreDisplay": lambda **kwargs: FeatureScoreDisplay.from_estimator(
            stub, X, **kwargs
        ),
    }


@pytest.mark.parametrize("name", sorted(drawings()))
def test_a_display_draws_where_it_is_told_and_touches_nothing_global(name):
    draw = drawings()[name]
    figure, (left, right) = plt.subplots(1, 2)
    before, settings_before = np.random.get_state()[1].copy(), dict(plt.rcParams)
    display = draw(ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()
    assert (np.random.get_state()[1] == before).all()
    assert dict(plt.rcParams) == settings_before
    own = draw()
    assert own.figure_ is not figure
    assert own.plot() is own  # a display can be drawn again
    own.figure_.canvas.draw()


@pytest.mark.parametrize("name", sorted(drawings()))
def test_what_is_no_axes_is_refused(name):
    _, axes = plt.subplots(1, 3)
    for wrong in (axes, "left"):
        with pytest.raises(TypeError, match="ax must be"):
            drawings()[name](ax=wrong)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"skemvae\[plot\]"):
        BoundDisplay({"EM": [0.0, 1.0]}).plot()


DISPLAYS = (
    BoundDisplay,
    MixtureDisplay,
    DensityDisplay,
    LatentDisplay,
    GapDisplay,
    FeatureScoreDisplay,
)


@pytest.mark.parametrize("display", DISPLAYS)
def test_unfitted_estimators_are_refused(display):
    X = clusters()
    for unfitted in (EMGaussianMixture(), make_pipeline(StandardScaler(), EMGaussianMixture())):
        with pytest.raises(NotFittedError):
            display.from_estimator(unfitted, X)


@pytest.mark.parametrize("display", DISPLAYS)
def test_estimators_that_cannot_answer_are_refused_by_name(display):
    X = clusters()
    scaler = StandardScaler().fit(X)
    if display is LatentDisplay:
        scaler = KernelDensity().fit(X)
    with pytest.raises(TypeError, match=type(scaler).__name__):
        display.from_estimator(scaler, X)


def test_displays_look_into_searches_pipelines_and_meta_estimators():
    X = clusters()
    pipeline = make_pipeline(StandardScaler(), EMGaussianMixture(2, random_state=0)).fit(X)
    grid = {"emgaussianmixture__n_components": [2]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X)
    scaled = StandardScaler().fit_transform(X)
    inner = MixtureDisplay.from_estimator(pipeline[-1], scaled)
    around = TransformedDensity(StandardScaler(), EMGaussianMixture(2, random_state=0)).fit(X)
    for outer in (pipeline, search, around, DensityOutlierDetector(pipeline).fit(X)):
        display = MixtureDisplay.from_estimator(outer, X)
        assert_allclose(display.means, inner.means)
        assert_allclose(display.X, scaled[:, :2])
        assert display.ax_.get_xlabel() == "x0, transformed"
        bounds = BoundDisplay.from_estimator(outer).lower_bounds["EMGaussianMixture"]
        assert_allclose(bounds, pipeline[-1].lower_bounds_)
    density = DensityDisplay.from_estimator(pipeline, X)
    assert_allclose(
        density.log_density, DensityDisplay.from_estimator(pipeline[-1], scaled).log_density
    )


def test_a_display_stops_at_the_estimator_that_answers():
    X = clusters()
    around = TransformedDensity(StandardScaler(), EMGaussianMixture(2, random_state=0)).fit(X)
    display = DensityDisplay.from_estimator(around, X)
    assert_allclose(display.X, X[:, :2])  # in the units of the table
    assert display.ax_.get_xlabel() == "x0"
    detector = DensityOutlierDetector(EMGaussianMixture(2, random_state=0)).fit(X)
    inner = DensityDisplay.from_estimator(detector.estimator_, X)  # which, alone, can draw
    assert_allclose(DensityDisplay.from_estimator(detector, X).log_density, inner.log_density)


def test_names_come_from_the_table_or_from_the_caller():
    X = pd.DataFrame(clusters(), columns=["length", "width", "height"])
    em = EMGaussianMixture(2, random_state=0).fit(X)
    display = MixtureDisplay.from_estimator(em, X, features=["height", "length"])
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("height", "length")
    assert_allclose(display.means, em.means_[:, [2, 0]])
    named = MixtureDisplay.from_estimator(em, X, features=["b", "c"], feature_names=list("abc"))
    assert_allclose(named.means, em.means_[:, [1, 2]])
    for features in (["depth", "width"], [0, 3], [0, 0], [0, 1, 2], [1]):
        with pytest.raises(ValueError, match="features"):
            MixtureDisplay.from_estimator(em, X, features=features)
    with pytest.raises(ValueError, match="feature_names holds 2 names, expected 3"):
        MixtureDisplay.from_estimator(em, X, feature_names=["a", "b"])


# BoundDisplay.


def test_bounds_are_drawn_as_they_were_recorded(fitted_vae):
    display = BoundDisplay.from_estimator(fitted_vae)
    name = "VAEEstimator"
    assert_allclose(display.lines_[name].get_ydata(), fitted_vae.lower_bounds_)
    validation = fitted_vae.validation_lower_bounds_
    assert_allclose(display.validation_lines_[name].get_ydata(), validation)
    assert validation[display.kept[name]] == validation.max()
    assert display.ax_.get_xlabel() == "epoch"
    assert "nats per sample" in display.ax_.get_ylabel()


def test_the_kept_epoch_is_of_the_last_fit():
    fit = Stub().fit(clusters())
    fit.lower_bounds_, fit.n_iter_ = np.arange(7.0), 3
    fit.validation_lower_bounds_ = np.array([0, 9, np.nan, 3, 5, 6, 4.0])
    assert BoundDisplay.from_estimator(fit).kept == {"Stub": 5}
    fit.validation_lower_bounds_[-1] = np.nan  # partial_fit keeps the last weights
    assert BoundDisplay.from_estimator(fit).kept == {}


def test_several_estimators_are_compared(fitted_vae):
    X = clusters()
    em = EMGaussianMixture(2, random_state=0).fit(X)
    both = BoundDisplay.from_estimator({"mixture": em, "network": fitted_vae})
    assert list(both.lines_) == ["mixture", "network"]
    assert both.ax_.get_xlabel() == "iteration or epoch"
    assert list(BoundDisplay.from_estimator([em, fitted_vae]).lines_) == [
        "EMGaussianMixture",
        "VAEEstimator",
    ]
    assert list(BoundDisplay.from_estimator([em, em]).lines_) == [
        "EMGaussianMixture 0",
        "EMGaussianMixture 1",
    ]
    with pytest.raises(ValueError, match="holds no estimator"):
        BoundDisplay.from_estimator([])


@MANY
@given(
    st.lists(st.floats(0, 1e3), min_size=1, max_size=40),
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
)
def test_the_later_climb_is_always_in_view(gains, start, jump):
    bounds = start + np.cumsum([0, jump, *gains])
    display = BoundDisplay({"EM": bounds}).plot()
    low, high = display.ax_.get_ylim()
    assert low <= bounds[len(bounds) // 10 :].min()
    assert bounds.max() <= high
    plt.close(display.figure_)


def test_a_start_far_below_is_cut_off_and_that_is_said():
    climb = -np.exp(-np.arange(30.0))
    far = BoundDisplay({"EM": np.r_[-1000, climb]}).plot()
    assert far.ax_.get_ylim()[0] > -10
    assert "the start is below" in far.ax_.get_xlabel()
    steady = BoundDisplay({"EM": np.arange(30.0)}).plot()
    assert steady.ax_.get_ylim()[0] <= 0
    assert steady.ax_.get_xlabel() == "iteration"
    level = BoundDisplay({"EM": np.ones(30)}).plot()
    assert level.ax_.get_ylim()[0] < 1 < level.ax_.get_ylim()[1]


# MixtureDisplay.


@MANY
@given(mixtures(), st.sampled_from([1e-100, 1.0, 1e100]), st.sampled_from([1e-100, 1.0]))
def test_ellipses_are_contours_of_the_marginal_covariances(mixture, left, right):
    if mixture.means.shape[1] < 2:
        with pytest.raises(ValueError, match="one feature"):
            MixtureDisplay.from_estimator(estimator_of(mixture))
        return
    unit = np.array([left, right])
    pair = [mixture.means.shape[1] - 1, 0]
    dense = mixture.covariance.dense()[:, pair][:, :, pair]
    display = MixtureDisplay(
        unit * mixture.means[:, pair], np.multiply.outer(unit, unit) * dense
    ).plot(n_std=(1, 3))
    drawn = MixtureDisplay.from_estimator(estimator_of(mixture), features=pair)
    assert_allclose(drawn.covariances, dense)
    for k, ellipses in enumerate(display.ellipses_):
        for s, ellipse in zip((1, 3), ellipses, strict=True):
            offset = ellipse.get_xy() / unit - mixture.means[k, pair]
            distance = np.einsum("ni,ij,nj->n", offset, np.linalg.inv(dense[k]), offset)
            assert_allclose(distance, s**2, rtol=1e-6)
            lengths = s * np.sqrt(np.linalg.eigvalsh(dense[k]))
            radius = np.sqrt((offset**2).sum(1))
            assert_allclose([radius.min(), radius.max()], lengths, rtol=0.02)
    plt.close("all")


def test_rows_have_the_colours_of_their_responsibilities():
    X = clusters(d=2)
    em = EMGaussianMixture(3, random_state=0).fit(X)
    display = MixtureDisplay.from_estimator(em, X)
    palette = np.array([matplotlib.colors.to_rgb(colour) for colour in PALETTE[:3]])
    assert_allclose(
        display.points_.get_facecolors()[:, :3], em.predict_proba(X) @ palette, atol=1e-7
    )
    assert_allclose(display.points_.get_offsets(), X)
    assert MixtureDisplay.from_estimator(em).points_ is None


def test_empty_components_of_a_bayesian_mixture_are_not_drawn():
    X = clusters()
    em = VariationalEM(BayesianMixture(6), random_state=0).fit(X)
    display = MixtureDisplay.from_estimator(em, X)
    model = em.model_
    assert len(display.ellipses_) == model.n_active_components_ < 6
    numbers = [int(label.get_text()) for label in display.labels_]
    assert sorted(model.weights_)[-len(numbers) :] == sorted(model.weights_[numbers])
    assert_allclose(display.covariances, model.covariances_[numbers][:, :2, :2])
    factor = VariationalEM(FactorModel(1), tol=0.1, random_state=0).fit(X)
    with pytest.raises(TypeError, match="FactorModel is not a mixture"):
        MixtureDisplay.from_estimator(factor, X)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("peer", [PeerMixture, BayesianGaussianMixture])
def test_mixtures_of_scikit_learn_can_be_drawn(peer, covariance_type):
    X = clusters()
    fitted = peer(
        n_components=2, covariance_type=covariance_type, random_state=0, max_iter=500
    ).fit(X)
    display = MixtureDisplay.from_estimator(fitted, X, features=(0, 2))
    assert len(display.ellipses_) == 2


# DensityDisplay.


@MANY
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1e-100, 1e100), (1.0, 1.0)]))
def test_regions_of_a_gaussian_are_those_of_chi_square(seed, unit):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2, 2))
    covariance, mean = root @ root.T + np.eye(2), rng.normal(size=2)
    scale = np.array(unit)
    em = EMGaussianMixture.from_parameters(
        [1.0], [scale * mean], [np.multiply.outer(scale, scale) * covariance]
    )
    X = scale * rng.multivariate_normal(mean, covariance, 50)
    display = DensityDisplay.from_estimator(em, X, n_samples=4000)
    masses = np.array([0.1, 0.5, 0.9, 0.99])
    peak = em.score_samples([scale * mean])[0]
    assert_allclose(display.levels(masses), peak - chi2.ppf(masses, 2) / 2, atol=0.1)
    one = DensityDisplay.from_estimator(em, X, features=1, n_samples=4000)
    peak = em.marginal([1]).score_samples([[scale[1] * mean[1]]])[0]
    assert_allclose(one.levels(masses), peak - chi2.ppf(masses, 1) / 2, atol=0.1)
    plt.close("all")


@MANY
@given(mixtures(), st.floats(0.2, 0.95))
def test_regions_hold_the_mass_that_they_state(mixture, mass):
    em = estimator_of(mixture)
    X, _ = em.sample(4000, random_state=1)
    display = DensityDisplay.from_estimator(em, X, n_samples=4000, grid_resolution=150)
    pair = list(range(min(2, X.shape[1])))
    (level,) = display.levels([mass])
    inside = em.marginal(pair).score_samples(X[:, pair]) >= level
    assert inside.mean() == pytest.approx(mass, abs=0.04)
    plt.close("all")


def test_more_mass_than_the_grid_holds_has_no_level():
    grid = [np.linspace(-1, 1, 50)] * 2
    log_density = norm.logpdf(grid[0]) + norm.logpdf(grid[1])[:, None]
    display = DensityDisplay(grid, log_density).plot()  # 47 % in view
    assert display.levels([0.9])[0] == -np.inf
    assert display.contours_ is None
    for masses in ([0.0], [1.0], [0.5, np.inf]):
        with pytest.raises(ValueError, match="masses"):
            display.levels(masses)


def test_marginal_curves_are_the_marginal_densities():
    X = clusters(400)
    em = EMGaussianMixture(2, random_state=0).fit(X)
    display = DensityDisplay.from_estimator(em, X, features=[2, 0], grid_resolution=200)
    above, beside = display.lines_
    for x, density, j in ((*above.get_data(), 2), (*beside.get_data()[::-1], 0)):
        exact = np.exp(em.marginal([j]).score_samples(x[:, None]))
        assert_allclose(density, exact, atol=0.02 * exact.max())
    assert len(DensityDisplay.from_estimator(em, X).plot(marginals=False).lines_) == 0


class WithoutMarginal(Stub):
    """A density that can only score and draw."""

    def __init__(self, inner=None):
        self.inner = inner

    def score_samples(self, X):
        return self.inner.score_samples(X)

    def sample(self, n, random_state=None):
        return self.inner.sample(n, random_state=random_state)


@pytest.mark.parametrize("features", [[0, 1], [1], [2, 0]])
def test_draws_stand_for_marginals_that_are_not_known(features):
    # Narrow modes far apart and a broad one: no rule of thumb for one mode will do.
    narrow, thin = np.diag([0.05, 1, 1]), np.array([[0.1, 0.25, 0], [0.25, 1, 0], [0, 0, 1]])
    em = EMGaussianMixture.from_parameters(
        [0.5, 0.3, 0.2], [[0, 0, 0], [10, 0, 0], [10, 1, 2]], [narrow, thin, np.eye(3)]
    )
    X, _ = em.sample(200, random_state=0)
    drawn = DensityDisplay.from_estimator(WithoutMarginal(em).fit(X), X, features=features)
    exact = DensityDisplay.from_estimator(em, X, features=features)
    mass = np.exp(drawn.log_density + sum(np.log(axis[1] - axis[0]) for axis in drawn.grid))
    assert mass.sum() == pytest.approx(1, abs=0.02)
    seen = mass > 0
    divergence = mass[seen] @ (drawn.log_density - exact.log_density)[seen]
    assert divergence == pytest.approx(0, abs=0.03)


def test_two_features_in_either_order_are_one_density():
    X = clusters(d=2)
    em = WithoutMarginal(EMGaussianMixture(2, random_state=0).fit(X)).fit(X)
    there, back = (DensityDisplay.from_estimator(em, X, features=f) for f in ([0, 1], [1, 0]))
    assert_allclose(there.log_density, back.log_density.T)
    assert_allclose(there.grid[0], back.grid[1])


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("features", [None, ["b"], ["b", "a"]])
def test_frames_are_scored_as_frames(frame, features):
    table = clusters(d=2)
    X = frame({"a": table[:, 0], "b": table[:, 1]})
    for estimator in (EMGaussianMixture(2, random_state=0), VariationalEM(random_state=0)):
        if features == ["b"] and isinstance(estimator, VariationalEM):
            continue
        display = DensityDisplay.from_estimator(estimator.fit(X), X, features=features)
        assert display.ax_.get_xlabel() == ("a" if features is None else "b")


def test_any_density_and_any_offset_can_be_drawn(fitted_vae):
    X = clusters()
    for estimator in (KernelDensity(), PeerMixture(2, random_state=0)):
        DensityDisplay.from_estimator(estimator.fit(X), X, n_samples=2000)
    DensityDisplay.from_estimator(fitted_vae, X.astype(np.float32), n_samples=2000)
    far = 1e8 + clusters(d=1)
    display = DensityDisplay.from_estimator(EMGaussianMixture(2, random_state=0).fit(far), far)
    mass = np.exp(display.log_density).sum() * np.diff(display.grid[0])[0]
    assert mass == pytest.approx(1, abs=0.01)


def test_what_has_no_density_is_refused():
    rng = np.random.RandomState(0)
    counts = pd.DataFrame({"calls": rng.poisson(2.0, 80), "visits": rng.poisson(2.0, 80)})
    model = VariationalEM(FactorModel(1, "poisson"), tol=0.1, random_state=0).fit(counts)
    with pytest.raises(ValueError, match="'calls' has whole values only"):
        DensityDisplay.from_estimator(model, counts, n_samples=100)
    X = clusters()
    em = EMGaussianMixture(random_state=0).fit(X)
    with pytest.raises(ValueError, match="give one or two"):
        DensityDisplay.from_estimator(em, X, features=[0, 1, 2])
    with pytest.raises(TypeError, match="neither marginal nor sample"):
        DensityDisplay.from_estimator(Stub().fit(X), X)
    mixed = pd.DataFrame({"x": X[:, 0], "label": ["a", "b"] * 60})
    with pytest.raises(ValueError, match=r"label.*choose others"):
        DensityDisplay.from_estimator(Stub().fit(mixed), mixed)


# LatentDisplay.


def test_rows_are_drawn_where_transform_puts_them(fitted_vae):
    X, y = clusters(), np.repeat(["one", "two", "three"], 40)
    display = LatentDisplay.from_estimator(fitted_vae, X, y)
    Z = fitted_vae.transform(X)
    for points, label in zip(display.points_, ["one", "three", "two"], strict=True):
        assert points.get_label() == label
        assert_allclose(points.get_offsets(), Z[y == label])
    swapped = LatentDisplay.from_estimator(fitted_vae, X, dimensions=[1, 0])
    assert_allclose(swapped.points_[0].get_offsets(), Z[:, [1, 0]])
    assert swapped.ax_.get_xlabel() == "z1"


def test_many_numbers_are_a_scale(fitted_vae):
    X = clusters()
    y = pd.Series(np.arange(120), name="age")
    (points,) = LatentDisplay.from_estimator(fitted_vae, X, y).points_
    assert_allclose(points.get_array(), y)
    (points,) = LatentDisplay.from_estimator(fitted_vae, X, y, dimensions=0).points_
    assert_allclose(points.get_offsets()[:, 1], y)
    assert len(LatentDisplay.from_estimator(fitted_vae, X, np.arange(120) % 20).points_) == 20
    with pytest.raises(ValueError, match="inconsistent"):
        LatentDisplay.from_estimator(fitted_vae, X, y[:5])


def test_more_than_two_dimensions_are_seen_along_their_principal_components():
    X = clusters(d=5)
    pca = PCA(4).fit(X)
    Z = pca.transform(X)
    display = LatentDisplay.from_estimator(pca, X)
    assert_allclose(np.abs(display.Z), np.abs(Z[:, :2]), atol=1e-8)
    assert f"({100 * Z[:, 0].var() / Z.var(0).sum():.0f} %)" in display.ax_.get_xlabel()


def test_dimensions_that_are_not_drawn_have_their_means():
    X = 100 + clusters(d=3)
    decoder = Decoder().fit(X)
    display = LatentDisplay.from_estimator(
        decoder, X, dimensions=[2, 0], image_shape=(3, 1), n_images=2
    )
    assert_allclose(display.Z, X[:, [2, 0]])
    assert_allclose(display.images[:, :, 1, 0], X[:, 1].mean())
    assert_allclose(display.images[0, :, 2, 0], display.image_grid[0])
    along = LatentDisplay.from_estimator(decoder, X)
    assert_allclose(along.Z.mean(0), 0, atol=1e-9)


@pytest.mark.parametrize("classes", [1, 3])
def test_one_dimension_is_a_histogram(classes):
    X = clusters()
    display = LatentDisplay.from_estimator(PCA(1).fit(X), X, np.arange(120) % classes)
    heights = [sum(bar.get_height() for bar in group) for group in display.points_]
    assert_allclose(heights, 120 / classes)


class Decoder(Stub):
    """z is x; the prior is standard normal."""

    def transform(self, X):
        return np.asarray(X)

    def inverse_transform(self, Z):
        return np.asarray(Z)

    def sample(self, n, random_state=None):
        Z = np.random.RandomState(random_state).normal(size=(n, self.n_features_in_))
        return Z, Z


def test_images_are_decoded_at_quantiles_of_the_prior():
    X = 100 + clusters(d=2)
    decoder = Decoder().fit(X)
    display = LatentDisplay.from_estimator(decoder, X, image_shape=(2, 1), n_images=3)
    quantiles = norm.ppf([0.025, 0.5, 0.975])
    assert_allclose(display.image_grid, [quantiles, quantiles], atol=0.15)
    assert_allclose(display.images[:, :, 0, 0], np.tile(display.image_grid[0], (3, 1)))
    assert_allclose(display.images[:, :, 1, 0], np.tile(display.image_grid[1], (3, 1)).T)
    picture = display.image_.get_array()
    assert_allclose(picture[0, 0], display.image_grid[0][0])  # the upper left: low first,
    assert_allclose(picture[1, 0], display.image_grid[1][-1])  # high second coordinate
    assert display.axes_[0] is display.ax_
    _, axes = plt.subplots(1, 2)
    assert display.plot(axes).axes_ == list(axes)
    with pytest.raises(TypeError, match="2 matplotlib Axes"):
        display.plot(axes[0])


def test_images_that_cannot_be_are_refused():
    X = clusters(d=2)
    decoder = Decoder().fit(X)
    for shape in ((3, 1), (2,), (1, 1, 2, 1)):
        with pytest.raises(ValueError, match="image_shape"):
            LatentDisplay.from_estimator(decoder, X, image_shape=shape)
    with pytest.raises(ValueError, match="choose two dimensions"):
        LatentDisplay.from_estimator(decoder, X, image_shape=(2, 1), dimensions=[0])
    for dimensions in ([0, 5], [0, 0]):
        with pytest.raises(ValueError, match="dimensions"):
            LatentDisplay.from_estimator(decoder, X, dimensions=dimensions)
    em = EMGaussianMixture(2, random_state=0).fit(X)
    with pytest.raises(TypeError, match="discrete"):
        LatentDisplay.from_estimator(em, X, image_shape=(2, 1))


# GapDisplay.


def test_bars_lead_from_the_bound_to_the_log_likelihood():
    X = clusters()
    pipeline = make_pipeline(StandardScaler(), Stub()).fit(X)
    display = GapDisplay.from_estimator({"raw": Stub().fit(X), "scaled": pipeline}, X)
    means = [X[:, 0].mean(), 0.0]
    for i, (one, mean) in enumerate(zip(display.decompositions.values(), means, strict=True)):
        bars = [display.bars_[part][i] for part in ("approximation_gap", "amortisation_gap")]
        assert_allclose([bar.get_width() for bar in bars], [0.6, 0.4])
        assert_allclose(one.elbo.mean() + sum(bar.get_width() for bar in bars), mean, atol=1e-12)
        assert bars[0].get_x() == 0
        assert bars[1].get_x() == bars[0].get_width()
    for segment in display.errors_[2][0].get_segments():
        assert_allclose(segment[:, 0], [0.95, 1.05])
    name, log_likelihood, elbo = display.ax_.get_yticklabels()[1].get_text().split("\n")
    assert name == "scaled"
    assert log_likelihood.replace("−0", "0") == "log p(x) = 0.00"
    assert elbo == "ELBO = −0.70 − 0.30 = −1.00"
    assert display.ax_.texts[1].get_text() == "1.00 ± 0.05"


def test_an_exact_bound_has_no_gap():
    zero, log_likelihood = np.zeros(3), np.array([-85.1, -3e5, -84.9])
    rounded = log_likelihood * (1 - 1e-15)
    exact = BoundDecomposition(log_likelihood, rounded, zero + 0.1, *[zero] * 4)
    display = GapDisplay({"EM": exact}).plot()
    assert display.ax_.texts[0].get_text() == "0"
    assert display.ax_.get_xlim()[1] > 1
    assert not GapDisplay({"EM": exact}).plot(values=False).ax_.texts


def test_gaps_without_a_prior_or_without_a_bound():
    zero = np.zeros(2)
    unsaid = BoundDecomposition(zero, zero - 1.0, zero * np.nan, *[zero] * 4)
    labels = GapDisplay({"own": unsaid}).plot().ax_.get_yticklabels()
    assert labels[0].get_text() == "own\nlog p(x) = 0.00\nELBO = −1.00"
    impossible = BoundDecomposition(zero, zero - np.inf, zero, *[zero] * 4)
    with pytest.raises(ValueError, match="'own' is not finite in 2 rows"):
        GapDisplay({"own": impossible}).plot()


def test_gaps_of_the_estimators(fitted_vae):
    X = clusters()
    em = EMGaussianMixture(2, random_state=0).fit(X)
    display = GapDisplay.from_estimator([em, fitted_vae], X)
    parts = fitted_vae.decompose_bound(X)
    assert_allclose(display.bars_["approximation_gap"][0].get_width(), 0, atol=1e-9)
    total = sum(bars[1].get_width() for bars in display.bars_.values())
    assert_allclose(total, (parts.log_likelihood - parts.elbo).mean(), rtol=1e-6)


# FeatureScoreDisplay.


def test_the_least_probable_rows_and_their_most_surprising_features_are_drawn():
    X = clusters()
    X[7], X[40] = [0, 30, 0], [50, 0, 1]
    display = FeatureScoreDisplay.from_estimator(Stub().fit(X), X)
    assert list(display.row_names[:2]) == [40, 7]
    assert len(display.row_names) == 10
    assert_allclose(display.scores, X[display.row_names] ** 2 - 1)
    assert list(display.features_[:2]) == [0, 1]
    assert_allclose(display.image_.get_array(), display.scores.T[display.features_])
    assert [label.get_text() for label in display.ax_.get_yticklabels()[:2]] == ["x0", "x1"]


def test_one_row_is_drawn_as_bars():
    X = pd.DataFrame(clusters(), columns=list("abc"), index=[f"patient {i}" for i in range(120)])
    X.iloc[3] = [1, 2, 3]
    display = FeatureScoreDisplay.from_estimator(Stub().fit(X), X, rows=3)
    assert [bar.get_width() for bar in display.bars_] == [8, 3, 0]
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == list("cba")
    assert display.ax_.get_title() == "row patient 3"
    assert display.ax_.yaxis_inverted()
    two = FeatureScoreDisplay.from_estimator(Stub().fit(X), X, rows=[3, -1]).plot(n_features=2)
    assert two.row_names == ["patient 3", "patient 119"]
    assert two.image_.get_array().shape == (2, 2)
    mask = np.arange(120) == 3
    assert FeatureScoreDisplay.from_estimator(Stub().fit(X), X, rows=mask).row_names == [
        "patient 3"
    ]
    for rows in ([120], [], "all"):
        with pytest.raises(ValueError, match="rows="):
            FeatureScoreDisplay.from_estimator(Stub().fit(X), X, rows=rows)


def test_a_feature_that_surprises_in_one_row_only_is_drawn_first():
    scores = [[0.0, 9.0, 1.0], [2.0, -9.0, 1.0]]
    display = FeatureScoreDisplay(scores, list("abc"), [0, 1]).plot(n_features=2)
    assert list(display.features_) == [1, 0]


def test_infinite_scores_do_not_spoil_the_colours():
    display = FeatureScoreDisplay([[np.inf, 3.0], [1.0, -2.0]], ["a", "b"], [0, 1]).plot()
    assert display.image_.norm.vmax == 3
