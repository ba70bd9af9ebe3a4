"""Whatever a parameter is set to: it works, or an error names the parameter."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

import skemvae
from skemvae import (
    DensityOutlierDetector,
    EMGaussianMixture,
    TransformedDensity,
    VAEEstimator,
    VariationalEM,
    compare,
    load,
    save,
    to_onnx,
)
from skemvae.displays import (
    DensityDisplay,
    FeatureScoreDisplay,
    GapDisplay,
    LatentDisplay,
    MixtureDisplay,
)
from skemvae.models import BayesianMixture, FactorModel
from tests.estimators import ESTIMATORS, MODELS

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*divide by zero:RuntimeWarning"),
]

X = np.random.default_rng(0).standard_normal((24, 2))
WRONG = {
    "an object": object(),
    "a word": "nonsense",
    "-1": -1,
    "nan": np.nan,
    "inf": np.inf,
    "None": None,
    "a list": [],
    "a dict": {},
    "True": True,
    "1.5": 1.5,
    "an array": np.zeros((3, 1, 2)),
    "an array of words": np.array(["a"]),
}
ALL = [*ESTIMATORS.values(), *MODELS.values()]
CASES = [
    pytest.param(one, name, id=f"{type(one).__name__}-{name}")
    for one in ALL
    for name in one.get_params(deep=False)
]


@pytest.mark.parametrize(("estimator", "parameter"), CASES)
def test_it_works_or_is_named(estimator, parameter):
    for value in WRONG.values():
        changed = clone(estimator)
        setattr(changed, parameter, value)
        if isinstance(changed, BayesianMixture | FactorModel):
            changed = VariationalEM(changed, max_iter=1)
        try:
            changed.fit(X)
        except (TypeError, ValueError) as error:
            said = str(error)
        else:
            continue
        assert parameter in said, value
        assert "truth value" not in said


@pytest.mark.parametrize("value", [value for name, value in WRONG.items() if name != "True"])
def test_what_is_no_flag_is_no_flag(value):
    for estimator in (EMGaussianMixture(), VAEEstimator(), VariationalEM()):
        for flag in {"warm_start", "early_stopping", "standardize"} & set(estimator.get_params()):
            with pytest.raises(TypeError, match=f"{flag}=.* must be True or False"):
                clone(estimator).set_params(**{flag: value}).fit(X)


def test_every_estimator_and_model_is_asked():
    kinds = {
        kind
        for module in (skemvae, skemvae.models)
        for kind in vars(module).values()
        if isinstance(kind, type) and hasattr(kind, "get_params") and not inspect.isabstract(kind)
    }
    assert kinds == {type(one) for one in ALL}


@pytest.mark.parametrize("cv", [[], {}, "nonsense", 1.5, np.zeros((3, 1)), [(1, 2, 3)]])
def test_splits(cv):
    with pytest.raises((TypeError, ValueError), match=r"^cv="):
        DensityOutlierDetector(cv=cv).fit(X)
    with pytest.raises((TypeError, ValueError), match=r"^cv="):
        compare([EMGaussianMixture()], X, cv=cv)


# Pictures.

MIXTURE = EMGaussianMixture(2, random_state=0).fit(X)
FACTORS = VariationalEM(FactorModel(1)).fit(X)
PICTURES = {
    "n_std": lambda **wrong: MixtureDisplay.from_estimator(MIXTURE, X, **wrong),
    "masses": lambda **wrong: DensityDisplay.from_estimator(MIXTURE, X, **wrong),
    "grid_resolution": lambda **wrong: DensityDisplay.from_estimator(MIXTURE, X, **wrong),
    "n_samples": lambda **wrong: DensityDisplay.from_estimator(FACTORS, X, **wrong),
    "n_features": lambda **wrong: FeatureScoreDisplay.from_estimator(MIXTURE, X, **wrong),
    "n_images": lambda **wrong: LatentDisplay.from_estimator(FACTORS, X, **wrong),
}


@pytest.mark.parametrize("value", [-1, np.nan, np.inf, "many", object(), None, [1, -1]])
@pytest.mark.parametrize("parameter", PICTURES)
def test_arguments_of_pictures(parameter, value):
    plt.close("all")
    with pytest.raises((TypeError, ValueError), match=parameter):
        PICTURES[parameter](**{parameter: value})
    assert not plt.get_fignums()  # an error leaves no empty figure


@pytest.mark.parametrize(
    "display", [MixtureDisplay, DensityDisplay, FeatureScoreDisplay, GapDisplay]
)
def test_rows_of_another_width_are_not_drawn(display):
    for wrong in (X[:, :1], X[:, 0], np.c_[X, X]):
        with pytest.raises(
            ValueError, match=r"X has shape .*, but EMGaussianMixture was fitted to 2"
        ):
            display.from_estimator(MIXTURE, wrong)


# Files.


@pytest.mark.parametrize("path", [b"model", 3, None, object(), 1.5, "a\0b", ["model"]])
def test_what_is_no_path_is_named(path):
    calls = [lambda: save(MIXTURE, path), lambda: load(path)]
    if path is not None:  # to_onnx writes nothing then
        calls.append(lambda: to_onnx(MIXTURE, path))
    for write in calls:
        with pytest.raises((TypeError, ValueError), match=r"^path="):
            write()


@pytest.mark.parametrize(
    "estimator",
    [
        EMGaussianMixture(2, max_iter=2, init_params="random_from_data"),
        ESTIMATORS["VAE"],
        ESTIMATORS["VB"],
        VariationalEM(FactorModel(1), max_iter=2),
        TransformedDensity(StandardScaler(), EMGaussianMixture(2, max_iter=2)),
    ],
    ids=lambda estimator: str(estimator)[:40],
)
def test_generators_of_numpy_are_seeds_whose_stream_moves_on(estimator):
    density = getattr(estimator, "estimator", estimator)
    density.set_params(random_state=np.random.default_rng(0))
    fitted = clone(estimator).fit(X)
    again = clone(estimator).fit(X)  # clones have the stream of the original, each its own
    np.testing.assert_array_equal(fitted.score_samples(X), again.score_samples(X))
    rng = np.random.default_rng(1)
    first, second = fitted.sample(5, rng)[0], fitted.sample(5, rng)[0]
    assert (first != second).all()
    same = np.random.default_rng(1)
    np.testing.assert_array_equal(fitted.sample(5, same)[0], first)
    np.testing.assert_array_equal(fitted.sample(5, same)[0], second)
    assert (fitted.sample(5)[0] != fitted.sample(5)[0]).all()
    assert same.random() == rng.random()


def test_displays_take_generators():
    other = [np.random.default_rng(seed) for seed in (0, 0)]
    for rng in other:
        DensityDisplay.from_estimator(MIXTURE, X, random_state=rng)
    plt.close("all")
