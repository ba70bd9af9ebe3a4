"""Tables that hold something else than numbers: one error names all columns and what to do."""

import re
from datetime import date
from functools import cache

import dask.array
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler

from skemvae import (
    DensityOutlierDetector,
    EMGaussianMixture,
    TransformedDensity,
    VAEEstimator,
    VariationalEM,
    compare,
    from_batches,
)
from skemvae.displays import DensityDisplay
from skemvae.models import FactorModel
from tests.estimators import ESTIMATORS, MODELS, QUICK

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X has feature names, but"),
]

N = 20
CUSTOMERS = pd.DataFrame(
    {
        "age": np.arange(20.0, 40.0),
        "city": ["Ulm", "Bonn"] * 10,
        "since": pd.date_range("2020-01-01", periods=N),
        "segment": pd.Categorical(["a", "b"] * 10),
        "member": [True, False] * 10,
    }
)
NUMBERS = CUSTOMERS[["age", "member"]].astype(float)
NAMED = r"3 columns 'city' \(\w+, such as 'Ulm'\), 'since' \(\w.*2020-01-\d\d.*\), 'segment' \("


@cache
def fitted(name):
    return clone(ESTIMATORS[name]).fit(np.random.default_rng(0).normal(size=NUMBERS.shape))


# Whatever takes X, where all of its columns must be numbers.
CALLS = {
    **{name: lambda X, one=one: clone(one).fit(X) for name, one in ESTIMATORS.items()},
    **{name: lambda X, one=one: VariationalEM(one).fit(X) for name, one in MODELS.items()},
    "on-line EM": lambda X: EMGaussianMixture().partial_fit(X),
    "batches": lambda X: EMGaussianMixture().fit(from_batches([X])),
    "on-line VAE": lambda X: VAEEstimator(**QUICK).partial_fit(X),
    "as it is": lambda X: TransformedDensity("passthrough", EMGaussianMixture()).fit(X),
    "pipeline": lambda X: TransformedDensity(
        make_pipeline(StandardScaler(), PowerTransformer()), EMGaussianMixture()
    ).fit(X),
    "compare": lambda X: compare({"EM": EMGaussianMixture()}, X, cv=2),
}
SCORES = {
    "score": lambda X: fitted("EM").score_samples(X),
    "score of a VAE": lambda X: fitted("VAE").score_samples(X),
    "score behind a scaler": lambda X: fitted("scaled").score_samples(X),
    "picture": lambda X: DensityDisplay.from_estimator(EMGaussianMixture().fit(NUMBERS), X),
}
call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
any_call = pytest.mark.parametrize(
    "call", [*CALLS.values(), *SCORES.values()], ids=[*CALLS, *SCORES]
)


@call
@pytest.mark.parametrize("container", [pd.DataFrame, pl.DataFrame])
def test_all_columns_are_named_at_once(call, container):
    X = container(CUSTOMERS.to_dict("list")) if container is pl.DataFrame else CUSTOMERS
    named = NAMED if container is pd.DataFrame else NAMED.partition(", 'segment'")[0][2:]
    with pytest.raises(ValueError, match=f"{named}.*Leave such columns out.*likelihood="):
        call(X)


TIMES = np.arange(N).astype("datetime64[D]")[:, None]
TIMETABLES = {
    "days": TIMES,
    "spans": TIMES - TIMES[0],
    "objects of NumPy": np.array([[one] for one in TIMES[:, 0]], dtype=object),
    "objects of Python": np.array([[date(2020, 1, 1 + i)] for i in range(N)], dtype=object),
    "pandas": CUSTOMERS[["since"]],
    "polars": pl.from_pandas(CUSTOMERS[["since"]]),
    "Arrow": pa.Table.from_pandas(CUSTOMERS[["since"]]),
}


@pytest.mark.parametrize("X", TIMETABLES.values(), ids=TIMETABLES)
@call
def test_times_alone_are_refused(call, X):
    name = "0" if isinstance(X, np.ndarray) else "'since'"
    with pytest.raises((TypeError, ValueError), match=rf"no numbers in column {name} \("):
        call(X)


def gaps():
    X = NUMBERS.copy()
    X.loc[3, "member"] = np.nan
    objects = X.astype(object)
    objects.loc[3, "member"] = pd.NA
    return {
        "array": X.to_numpy(),
        "float32": X.to_numpy(np.float32),
        "integers": np.where(np.isnan(X), np.nan, 1),
        "list": X.to_numpy().tolist(),
        "pandas": X,
        "nullable": X.convert_dtypes(),
        "objects": objects,
        "polars": pl.from_pandas(X),
    }


@pytest.mark.parametrize("kind", gaps())
@any_call
def test_the_first_gap_is_located(call, kind):
    X = gaps()[kind]
    name = "'member'" if hasattr(X, "columns") else "1"
    if call is SCORES["picture"] and not hasattr(X, "columns"):
        pytest.skip("of a frame")
    message = "contains NaN"
    if call is not SCORES["picture"]:
        message += (
            rf".*in row 3, column {name} \(counted from 0\): drop such rows, or fill the gaps"
        )
    if call is CALLS["compare"]:
        message = rf"contains NaN.*in row \d, column {name} "  # in its fold
    with pytest.raises(ValueError, match=message) as caught:
        call(X)
    assert "HistGradient" not in str(caught.value)


@call
def test_infinity_is_located(call):
    X = NUMBERS.assign(age=NUMBERS["age"].replace(25.0, -np.inf))
    with pytest.raises(ValueError, match=r"contains infinity, first in row .*, column 'age'"):
        call(X)


NO_TABLES = {
    "nothing": (None, TypeError, "X=None: give rows"),
    "no columns": (pd.DataFrame(), ValueError, r"0 feature\(s\).* a frame without columns"),
    "a file": ("rows.csv", TypeError, r"'rows.csv' is not a table.*pandas.read_csv\('rows.csv'\)"),
    "bytes": (b"rows.csv", TypeError, "is not a table"),
    "a parquet file": ("a.parquet", TypeError, r"from_batches\(pyarrow.parquet.ParquetFile"),
}


@pytest.mark.parametrize(("X", "error", "message"), NO_TABLES.values(), ids=NO_TABLES)
@any_call
def test_what_is_no_table_is_refused_at_once(call, X, error, message):
    with pytest.raises(error, match=message):
        call(X)


@pytest.mark.parametrize("method", ["score", "aic", "bic", "icl", "sample_weight"])
def test_criteria_refuse_it_too(method):
    mixture = EMGaussianMixture().fit(NUMBERS)
    ask = mixture.score if method == "sample_weight" else getattr(mixture, method)
    with pytest.raises(TypeError, match="X=None"):
        ask(None, sample_weight=np.ones(3))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x.parquet", r"ParquetFile\('x.parquet'\)"),
        (b"x.parquet", "holds no batches: if it names a file"),
        ("x.csv", "read it first"),
        (None, "source=None holds no batches: give a list of tables"),
    ],
)
def test_sources_without_batches(source, message):
    with pytest.raises(TypeError, match=message):
        from_batches(source)


def test_frames_without_rows():
    for estimator in (EMGaussianMixture(), VAEEstimator(likelihood=[("gaussian", ["a"])])):
        with pytest.raises(ValueError, match=r"0 sample\(s\)"):
            estimator.fit(pd.DataFrame(columns=["a"], dtype=float))


def test_dask_arrays_of_times_and_labels():
    for X, error in ((TIMES, "datetime64"), (np.array([["a"], ["b"]]), "<U1")):
        with pytest.raises(TypeError, match=f"dask array of {error}.* make numbers of them"):
            EMGaussianMixture().fit(dask.array.from_array(X))
    objects = np.array([["a", 1.0], ["b", 2.0]], dtype=object)
    objects = dask.array.from_array(objects, chunks=(1, 2))
    with pytest.raises(ValueError, match="no numbers in column 0"):
        EMGaussianMixture().fit(objects)


# Pairs of likelihoods and columns.


@pytest.mark.parametrize("fit", ["VAE", "factors"])
def test_wrong_names_do_not_hide_wrong_columns(fit):
    def estimator(likelihood):
        if fit == "VAE":
            return VAEEstimator(likelihood=likelihood, **QUICK)
        return VariationalEM(FactorModel(1, likelihood))

    labels = ("categorical", ["segment", "member"])
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        estimator([("gaussian", ["agee", "city"]), ("poisson", ["since"]), labels]).fit(CUSTOMERS)
    for part in (
        r"\('gaussian', \.\.\.\)\]: columns=\['agee'\] are not among",
        r"Columns \['age'\] have no likelihood",
        r"no numbers in 2 columns 'city' \(.*'since' \(",
    ):
        assert re.search(part, str(caught.value))
    with pytest.raises(ValueError, match=r"2 columns 'city' .*'since' "):
        estimator([("gaussian", ["age", "city"]), ("poisson", ["since"]), labels]).fit(CUSTOMERS)


def test_a_mixed_table_names_all_columns_also_when_it_scores():
    X = CUSTOMERS.drop(columns="since")
    likelihood = [
        ("gaussian", ["age"]),
        ("bernoulli", ["member"]),
        ("categorical", slice("city", "segment")),
    ]
    fitted = VAEEstimator(likelihood=likelihood, **QUICK).fit(X)
    assert np.isfinite(fitted.score(X))
    with pytest.raises(ValueError, match=r"2 columns 'age' .*'member' "):
        fitted.score(X.assign(age="old", member="yes"))


def test_labels_behind_a_column_transformer_stay():
    X = CUSTOMERS[["age", "segment"]]
    columns = ColumnTransformer([("scale", StandardScaler(), ["age"])], remainder="passthrough")
    vae = VAEEstimator(likelihood=[("gaussian", [0]), ("categorical", [1])], **QUICK)
    assert np.isfinite(TransformedDensity(columns, vae).fit(X).score(X))


# A parameter of the model.


def test_parameters_of_the_model_are_offered_under_their_names():
    for em, name in (
        (VariationalEM(), "n_components"),
        (VariationalEM("factor_model"), "n_factors"),
    ):
        message = f"Invalid parameter '{name}' .*set it as 'model__{name}'"
        with pytest.raises(ValueError, match=message):
            em.set_params(**{name: 3})
        with pytest.raises(ValueError, match=message):
            GridSearchCV(em, {name: [1, 2]}).fit(NUMBERS)
        assert em.set_params(**{f"model__{name}": 3}).model.get_params()[name] == 3
    with pytest.raises(ValueError, match="Valid parameters are"):
        VariationalEM().set_params(nonsense=1)
    both = VariationalEM().set_params(model="factor_model", model__n_factors=3, tol=0.5)
    assert (both.model.n_factors, both.tol) == (3, 0.5)


def test_y_is_ignored_in_silence():
    for estimator in (EMGaussianMixture(), VAEEstimator(**QUICK), DensityOutlierDetector()):
        estimator.fit(NUMBERS, ["a", None] * 10)


# What is a table, but lacks rows or values.


@call
def test_a_query_is_to_be_collected(call):
    with pytest.raises(TypeError, match=r"LazyFrame, which holds no rows yet: give X.collect\(\)"):
        call(pl.DataFrame({"age": [1.0, 2.0], "member": [0.0, 1.0]}).lazy())


def test_a_query_is_no_source_of_batches():
    with pytest.raises(TypeError, match=r"source is a LazyFrame, .* give source.collect\(\)"):
        from_batches(pl.LazyFrame({"age": [1.0, 2.0]}))


@call
def test_a_mask_is_not_ignored(call):
    X = np.ma.masked_array(NUMBERS.to_numpy())
    X[3, 1] = np.ma.masked
    with pytest.raises(
        ValueError, match=r"lacks the value in row 3, column 1 \(counted from 0\): dr"
    ):
        call(X)


@pytest.mark.filterwarnings("ignore::skemvae.DoubtfulFitWarning")  # a column of flags
@call
def test_a_mask_that_hides_nothing_does_no_harm(call):
    call(np.ma.masked_array(NUMBERS.to_numpy(), mask=False))


def test_weights_are_not_masked():
    weight = np.ma.masked_array(np.ones(N), mask=np.arange(N) == 2)
    with pytest.raises(ValueError, match="sample_weight has masked values"):
        EMGaussianMixture().fit(NUMBERS, sample_weight=weight)
