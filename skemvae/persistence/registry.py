"""All classes of which a file may hold instances, with the checks of their fields."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from skemvae.models import LatentVariableModel, Model
from skemvae.persistence import rules
from skemvae.persistence.checks import (
    Check,
    Sizes,
    amount,
    anything,
    boolean,
    count,
    dict_of,
    dict_with,
    floats,
    fraction,
    list_of,
    names,
    of,
    or_none,
    positions,
    real,
    seed,
    size,
    text,
    tuple_of,
)
from skemvae.persistence.records import (
    DataRecord,
    EstimatorRecord,
    LikelihoodRecord,
    ModelRecord,
    OwnLikelihoodRecord,
    OwnModelRecord,
    Record,
    path_of,
)


def part(*tags: str) -> Check:
    """Check for an instance of one of the classes below."""

    def check(value: Any, sizes: Sizes) -> str | None:
        known = any(path_of(type(value)) == RECORDS[tag].path for tag in tags)
        return None if known else f"is a {type(value).__name__}, expected {' or '.join(tags)}"

    return check


def a_likelihood(value: Any, sizes: Sizes) -> str | None:
    """An instance of a likelihood of this library, or of a registered one."""
    if path_of(type(value)) in {record.path for record in registered().values()}:
        return None
    own = (record.tag for record in _TABLES if isinstance(record, LikelihoodRecord))
    return part(*own)(value, sizes)


# The core.

_MATRICES = {"values": floats("K d d")}
_VARIANCES = {"values": floats("K d", positive=True)}
_COVARIANCES = ("Full", "Tied", "Diagonal", "Spherical")
_CORE: list[Record] = [
    DataRecord("Full", "skemvae.structures.dense:Full", _MATRICES),
    DataRecord("Tied", "skemvae.structures.dense:Tied", _MATRICES),
    DataRecord("Diagonal", "skemvae.structures.axis:Diagonal", _VARIANCES),
    DataRecord("Spherical", "skemvae.structures.axis:Spherical", _VARIANCES),
    DataRecord(
        "Dirichlet",
        "skemvae.mixtures.weights:Dirichlet",
        {"concentration": floats("K", positive=True)},
    ),
    DataRecord(
        "StickBreaking",
        "skemvae.mixtures.weights:StickBreaking",
        {"taken": floats("K-1", positive=True), "left": floats("K-1", positive=True)},
    ),
    DataRecord(
        "NormalWishart",
        "skemvae.mixtures.normal_wishart:NormalWishart",
        {
            "mean": floats("K d"),
            "mean_precision": floats("K", positive=True),
            "dof": floats("K", positive=True),
            "covariance": part(*_COVARIANCES),
        },
    ),
    DataRecord(
        "Hyperprior",
        "skemvae.mixtures.hyperprior:Hyperprior",
        {
            "centre": part("NormalWishart"),
            "scatter": floats("d", positive=True),
            "fits_covariance": boolean,
            "fits_mean_precision": boolean,
        },
    ),
    DataRecord(
        "core.Parameters",
        "skemvae.mixtures.bayesian_mixture:Parameters",
        {"weights": part("Dirichlet", "StickBreaking"), "components": part("NormalWishart")},
    ),
    DataRecord(
        "core.BayesianMixture",
        "skemvae.mixtures.bayesian_mixture:BayesianMixture",
        {
            "prior": part("core.Parameters"),
            "q": part("core.Parameters"),
            "hyperprior": part("Hyperprior"),
        },
    ),
    DataRecord(
        "core.GaussianMixture",
        "skemvae.core.gaussian_mixture:GaussianMixture",
        {
            "weights": floats("K"),
            "means": floats("K d"),
            "covariance": part(*_COVARIANCES),
            "noise": floats("d"),
        },
    ),
    DataRecord(
        "Summary",
        "skemvae.engine.samples.summary:Summary",
        {
            **{name: floats("d") for name in ("centre", "shift", "spread", "largest")},
            "floor": floats("d", positive=True),
        },
    ),
    DataRecord(
        "Grain",
        "skemvae.engine.samples.grain:Grain",
        {**{name: floats("d") for name in ("width", "smallest", "n_gaps")}, "n_rows": count},
    ),
    DataRecord(
        "Stream",
        "skemvae.mixtures.stream:Stream",
        {
            "summary": part("Summary"),
            "grain": part("Grain"),
            "noise": floats("d"),
            "weight": amount,
            "n_rows": count,
            "climbing": or_none(part("core.GaussianMixture")),
        },
    ),
]

# Tables and networks.

_LABELS = tuple_of(text)
_UNITS = ("Continuous", "Logarithmic", "Binary", "Counts", "Categories")
_AFFINE: dict[str, Check] = {"names": _LABELS, "shift": floats(), "scale": floats()}
_BOUND: dict[str, Check] = {"n_outputs": count}
_NORMAL: dict[str, Check] = {**_BOUND, "separable": boolean}
_TABLES: list[Record] = [
    LikelihoodRecord("Gaussian", "skemvae.likelihoods.continuous:Gaussian", _NORMAL),
    LikelihoodRecord(
        "LogNormal",
        "skemvae.likelihoods.continuous:LogNormal",
        {**_NORMAL, "spread": list_of(real)},
    ),
    LikelihoodRecord("StudentT", "skemvae.likelihoods.continuous:StudentT", _BOUND),
    LikelihoodRecord("Bernoulli", "skemvae.likelihoods.discrete:Bernoulli", _BOUND),
    LikelihoodRecord("Poisson", "skemvae.likelihoods.discrete:Poisson", _BOUND),
    LikelihoodRecord("NegativeBinomial", "skemvae.likelihoods.discrete:NegativeBinomial", _BOUND),
    LikelihoodRecord(
        "Categorical",
        "skemvae.likelihoods.discrete:Categorical",
        {**_BOUND, "sizes": of(list, "a list"), "unseen_mass": fraction},
    ),
    DataRecord("Continuous", "skemvae.likelihoods.units:Continuous", _AFFINE, rules.of_continuous),
    DataRecord(
        "Logarithmic", "skemvae.likelihoods.units:Logarithmic", _AFFINE, rules.of_continuous
    ),
    DataRecord("Binary", "skemvae.likelihoods.units:Binary", {"names": _LABELS}),
    DataRecord("Counts", "skemvae.likelihoods.units:Counts", {"names": _LABELS}),
    DataRecord(
        "Categories",
        "skemvae.likelihoods.units:Categories",
        {"names": _LABELS, "labels": tuple_of(of(tuple, "a tuple"))},
        rules.of_categories,
    ),
    DataRecord(
        "Table",
        "skemvae.likelihoods.columns:Table",
        {"columns": tuple_of(positions), "blocks": tuple_of(part(*_UNITS))},
        rules.of_table,
    ),
    DataRecord(
        "Architecture",
        "skemvae.networks.architecture:Architecture",
        {
            "n_components": count,
            "hidden_layer_sizes": tuple_of(count),
            "activation": text,
            "prior": text,
            "n_prior_components": count,
            "shared_encoder": boolean,
        },
        rules.of_architecture,
    ),
]


def _heads(dtype: str) -> Check:
    """Check for the states of likelihoods."""
    parameters = dict_of(floats(dtype=dtype))
    return list_of(dict_with(likelihood=a_likelihood, weights=parameters))


# Models.

_HISTORY: dict[str, Check] = {
    "lower_bound_": real,
    "lower_bounds_": floats("T", nan=True, infinite=True),
    "converged_": boolean,
    "status_": text,
    "n_iter_": count,
}
_OPTIONAL = tuple(
    frozenset({name}) for name in ("feature_names_in_", "_sklearn_output_config", "_mean_surprise")
)
_ESTIMATOR: dict[str, Check] = {
    "feature_names_in_": names("d"),
    "_sklearn_output_config": dict_of(text),
    "n_features_in_": size("d"),
    "n_parameters_": count,
    "_mean_surprise": or_none(floats("d")),
    **_HISTORY,
}
_COLUMNS = of(list, "a list")
_MIXTURE: dict[str, Check] = {
    "weights_": floats("K"),
    "means_": floats("K d"),
    "covariances_": floats(),
    "precisions_": floats(infinite=True),
}
_FACTOR_ANALYTIC: dict[str, Check] = {
    "loadings_": floats("K d _"),
    "noise_variances_": floats("K d"),
}
_FACTORS = dict_with(
    heads=_heads("float64"), loadings=list_of(floats("_ k")), intercepts=list_of(floats())
)
_NETWORKS = dict_with(
    heads=_heads("float32"), weights=dict_of(floats(dtype="float32", infinite=True))
)
_OPTIMISER = list_of(dict_of(floats(dtype="float32")))
_MODELS: list[Record] = [
    EstimatorRecord(
        "EMGaussianMixture",
        "skemvae.em_gaussian_mixture:EMGaussianMixture",
        {
            **_ESTIMATOR,
            **_MIXTURE,
            "precisions_cholesky_": floats(infinite=True),
            **_FACTOR_ANALYTIC,
            "n_samples_seen_": count,
            "reg_covar_": amount,
            "_stream": part("Stream"),
        },
        rules.of_mixture,
        # A mixture made by from_parameters has no history.
        (
            *_OPTIONAL,
            frozenset(_HISTORY),
            frozenset({"n_samples_seen_", "reg_covar_", "_stream"}),
            frozenset({"precisions_cholesky_"}),
            frozenset(_FACTOR_ANALYTIC),
        ),
    ),
    EstimatorRecord(
        "VariationalEM",
        "skemvae.variational_em:VariationalEM",
        {**_ESTIMATOR, "model_": of(Model, "a model")},
        rules.of_variational_em,
        _OPTIONAL,
    ),
    ModelRecord(
        "BayesianMixture",
        "skemvae.models.bayesian_mixture:BayesianMixture",
        {
            **_MIXTURE,
            "_mixture": part("core.BayesianMixture"),
            "weight_concentration_": floats(),
            "mean_precision_": floats("K"),
            "degrees_of_freedom_": floats("K"),
            "n_active_components_": count,
            "n_parameters_": count,
        },
        rules.of_bayesian_mixture,
    ),
    ModelRecord(
        "FactorModel",
        "skemvae.models.factor_model:FactorModel",
        {
            "_table": part("Table"),
            "_design": dict_with(n_factors=size("k"), likelihood=_COLUMNS),
            "_as_fitted": _FACTORS,
            "_factors": _FACTORS,
            "_points": dict_with(noise=floats("1 S k"), share=floats("S")),
            "_seed": seed,
            "loadings_": floats("o k"),
            "intercept_": floats("o"),
            "n_parameters_": count,
        },
        rules.of_factor_model,
    ),
    EstimatorRecord(
        "VAEEstimator",
        "skemvae.vae:VAEEstimator",
        {
            **_ESTIMATOR,
            "_table": part("Table"),
            "_design": dict_with(
                architecture=part("Architecture"),
                likelihood=_COLUMNS,
                standardize=boolean,
            ),
            "module_": _NETWORKS,
            "_optimiser": or_none(_OPTIMISER),
            "_n_epochs": count,
            "_score_seed": seed,
            "n_active_units_": count,
            "validation_lower_bounds_": or_none(floats(nan=True, infinite=True)),
        },
        rules.of_vae,
        _OPTIONAL,
    ),
]
_OWN_MODEL: dict[str, Check] = {
    "parameters_": dict_of(floats()),
    "n_parameters_": count,
    "_n_latent": count,
    "_noise": floats(dtype="float64 or int64"),  # points, or states
    "_seed": seed,
    "_n_features": size("d"),
}

RECORDS = {record.tag: record for record in (*_CORE, *_TABLES, *_MODELS)}
_BY_PATH = {record.path: record for record in RECORDS.values()}


def record_of(cls: type) -> Record | None:
    """The record of a class, or None if it cannot be saved."""
    if issubclass(cls, LatentVariableModel):
        return own_models([cls])[cls.__name__]
    own = registered().get(cls.__name__)
    if own is not None and own.cls is cls:
        return own
    return _BY_PATH.get(path_of(cls))


def is_likelihood(cls: type) -> bool:
    """Whether a class is a likelihood."""
    base = sys.modules.get("skemvae.likelihoods.base")
    return base is not None and issubclass(cls, base.Likelihood)


def registered() -> dict[str, Record]:
    """How likelihoods of one's own in the registry of likelihoods are written, by tag."""
    columns = sys.modules.get("skemvae.likelihoods.columns")  # torch: only who has some needs it
    if columns is None:
        return {}
    return {
        cls.__name__: OwnLikelihoodRecord(
            cls.__name__, path_of(cls), dict.fromkeys(cls.kept, anything), own=cls
        )
        for cls in columns.LIKELIHOODS.values()
        if cls.__name__ not in RECORDS
    }


def own_models(classes: Iterable[Any]) -> dict[str, Record]:
    """The records of models that users defined, by tag.

    Raises
    ------
    TypeError
        If a class is not a subclass of ``LatentVariableModel``.
    ValueError
        If a name is already taken.
    """
    found: dict[str, Record] = {}
    for cls in classes:
        if not isinstance(cls, type) or not issubclass(cls, LatentVariableModel):
            raise TypeError(f"models holds {cls!r}, expected subclasses of LatentVariableModel.")
        tag = cls.__name__
        if tag in RECORDS or tag in found:
            raise ValueError(f"Two models are called {tag}: rename one of your own.")
        found[tag] = OwnModelRecord(tag, path_of(cls), _OWN_MODEL, rules.of_own_model, own=cls)
    return found
