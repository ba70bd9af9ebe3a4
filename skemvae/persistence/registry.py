"""The classes of which a file may hold instances, and what these must look like: all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from skemvae.core.structures import STRUCTURES
from skemvae.models import LatentVariableModel, Model
from skemvae.persistence.checks import (
    Check,
    Sizes,
    axes,
    boolean,
    choice,
    dict_of,
    dict_with,
    floats,
    integer,
    list_of,
    names,
    of,
    or_none,
    positions,
    real,
    size,
    text,
    tuple_of,
)
from skemvae.persistence.records import (
    DataRecord,
    EstimatorRecord,
    LikelihoodRecord,
    ModelRecord,
    OwnModelRecord,
    Record,
    Values,
    parameters_of,
    path_of,
)
from skemvae.validation import check_mixture_weights


def part(*tags: str) -> Check:
    """An instance of some of the classes below."""

    def check(value: Any, sizes: Sizes) -> str | None:
        known = any(path_of(type(value)) == RECORDS[tag].path for tag in tags)
        return None if known else f"is a {type(value).__name__}, expected {' or '.join(tags)}"

    return check


# The core.

_MATRICES = {"values": floats("K d d")}
_VARIANCES = {"values": floats("K d", positive=True)}
_COVARIANCES = ("Full", "Tied", "Diagonal", "Spherical")
_CORE: list[Record] = [
    DataRecord("Full", "skemvae.core.structures:Full", _MATRICES),
    DataRecord("Tied", "skemvae.core.structures:Tied", _MATRICES),
    DataRecord("Diagonal", "skemvae.core.structures:Diagonal", _VARIANCES),
    DataRecord("Spherical", "skemvae.core.structures:Spherical", _VARIANCES),
    DataRecord(
        "Dirichlet", "skemvae.core.mixing:Dirichlet", {"concentration": floats("K", positive=True)}
    ),
    DataRecord(
        "StickBreaking",
        "skemvae.core.mixing:StickBreaking",
        {"taken": floats("K-1", positive=True), "left": floats("K-1", positive=True)},
    ),
    DataRecord(
        "NormalWishart",
        "skemvae.core.normal_wishart:NormalWishart",
        {
            "mean": floats("K d"),
            "mean_precision": floats("K", positive=True),
            "dof": floats("K", positive=True),
            "covariance": part(*_COVARIANCES),
        },
    ),
    DataRecord(
        "core.Parameters",
        "skemvae.core.bayesian_mixture:Parameters",
        {"weights": part("Dirichlet", "StickBreaking"), "components": part("NormalWishart")},
    ),
    DataRecord(
        "core.BayesianMixture",
        "skemvae.core.bayesian_mixture:BayesianMixture",
        {"prior": part("core.Parameters"), "q": part("core.Parameters")},
    ),
]

# Tables and networks.


def _complaint_of_table(values: Values, sizes: Sizes) -> str | None:
    columns, blocks = values["columns"], values["blocks"]
    together = np.concatenate([np.empty(0, dtype=int), *columns])
    if sorted(together.tolist()) != list(range(len(together))):
        return "does not have each column once"
    if len(columns) != len(blocks):
        return "has blocks without columns, or columns without block"
    for where, units in zip(columns, blocks, strict=True):
        sizes_of_block = {"n": len(where)}
        per_column = [(len(units.names),)]
        per_column += [np.shape(getattr(units, name, where)) for name in ("shift", "scale")]
        per_column.append((len(getattr(units, "labels", where)),))
        for shape in per_column:
            if axes(shape, "n", sizes_of_block):
                return f"has units of {units.names}, but {len(where)} columns for them"
    return axes((len(together),), "d", sizes)


def _complaint_of_scale(values: Values, sizes: Sizes) -> str | None:
    return None if (values["scale"] != 0).all() else "has a scale of 0"


def _complaint_of_architecture(values: Values, sizes: Sizes) -> str | None:
    from skemvae.networks.layers import ACTIVATIONS

    numbers = [values["n_components"], values["n_prior_components"], *values["hidden_layer_sizes"]]
    if min(numbers) < 1:
        return f"has sizes {numbers}"
    return choice(ACTIVATIONS)(values["activation"], sizes)


_LABELS = tuple_of(text)
_UNITS = ("Continuous", "Binary", "Counts", "Categories")
_BOUND: dict[str, Check] = {"n_outputs": integer}
_LIKELIHOODS = ("Gaussian", "StudentT", "Bernoulli", "Poisson", "NegativeBinomial", "Categorical")
_TABLES: list[Record] = [
    LikelihoodRecord(
        "Gaussian", "skemvae.likelihoods.continuous:Gaussian", {**_BOUND, "separable": boolean}
    ),
    LikelihoodRecord("StudentT", "skemvae.likelihoods.continuous:StudentT", _BOUND),
    LikelihoodRecord("Bernoulli", "skemvae.likelihoods.discrete:Bernoulli", _BOUND),
    LikelihoodRecord("Poisson", "skemvae.likelihoods.discrete:Poisson", _BOUND),
    LikelihoodRecord("NegativeBinomial", "skemvae.likelihoods.discrete:NegativeBinomial", _BOUND),
    LikelihoodRecord(
        "Categorical",
        "skemvae.likelihoods.discrete:Categorical",
        {**_BOUND, "sizes": of(list, "a list"), "unseen_mass": real},
    ),
    DataRecord(
        "Continuous",
        "skemvae.likelihoods.units:Continuous",
        {"names": _LABELS, "shift": floats(), "scale": floats()},
        _complaint_of_scale,
    ),
    DataRecord("Binary", "skemvae.likelihoods.units:Binary", {"names": _LABELS}),
    DataRecord("Counts", "skemvae.likelihoods.units:Counts", {"names": _LABELS}),
    DataRecord(
        "Categories",
        "skemvae.likelihoods.units:Categories",
        {"names": _LABELS, "labels": tuple_of(of(tuple, "a tuple"))},
    ),
    DataRecord(
        "Table",
        "skemvae.likelihoods.table:Table",
        {"columns": tuple_of(positions), "blocks": tuple_of(part(*_UNITS))},
        _complaint_of_table,
    ),
    DataRecord(
        "Architecture",
        "skemvae.networks.architecture:Architecture",
        {
            "n_components": integer,
            "hidden_layer_sizes": tuple_of(integer),
            "activation": text,
            "prior": choice(("normal", "mixture", "vamp")),
            "n_prior_components": integer,
            "shared_encoder": boolean,
        },
        _complaint_of_architecture,
    ),
]


def _heads(dtype: str) -> Check:
    """States of likelihoods."""
    parameters = dict_of(floats(dtype=dtype))
    return list_of(dict_with(likelihood=part(*_LIKELIHOODS), weights=parameters))


def _complaint_of_heads(heads: Any, values: Values) -> str | None:
    """Compare the likelihoods of networks with new ones for the same columns."""
    import torch

    table = values["_table"]
    design = [
        (repr(state["likelihood"]), columns.tolist())
        for state, columns in zip(heads, table.columns, strict=True)
    ]
    if design != values["_design"]["likelihood"]:
        return f"has {design}, but its design says {values['_design']['likelihood']}"
    for state, units, columns in zip(heads, table.blocks, table.columns, strict=True):
        head = state["likelihood"]
        if head.numeric != units.numeric:
            return f"has {head!r} for {units.names}, which are {type(units).__name__}"
        new = type(head)(**{name: getattr(head, name) for name in parameters_of(type(head))})
        new.bind(torch.zeros(1, len(columns)), torch.ones(1), units)
        record = _BY_PATH[path_of(type(head))]
        known, expected = ({**record.state(each), "unseen_mass": 0} for each in (head, new))
        if known != expected:
            return f"has a likelihood with {known}, expected {expected}"
        shapes = {name: array.shape for name, array in state["weights"].items()}
        expected = {name: tuple(p.shape) for name, p in new.named_parameters()}
        if shapes != expected:
            return f"has {head!r} with parameters of shapes {shapes}, expected {expected}"
    return None


# Models.

_COLUMNS = of(list, "a list")


def _complaint_of_covariances(values: Values, sizes: Sizes) -> str | None:
    structure = STRUCTURES.get(values["covariance_type"])
    if structure is None:
        return f"has covariance_type={values['covariance_type']!r:.60}"
    k, d = sizes["K"], sizes["d"]
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        expected = structure.public_shape(k, d)
        if name in values and values[name].shape != expected:
            return f"has {name} of shape {values[name].shape}, expected {expected}"
    covariance = structure.from_public(values["covariances_"], k, d)
    return None if (covariance.variances > 0).all() else "has variances that are not positive"


def _complaint_of_mixture(values: Values, sizes: Sizes) -> str | None:
    history = _HISTORY.keys() & values.keys()
    if history and history != _HISTORY.keys():
        return f"has of its history only {sorted(history)}"
    if "means_" not in values:
        return None
    check_mixture_weights("weights_", values["weights_"], sizes["K"])
    return _complaint_of_covariances(values, sizes)


def _complaint_of_bayesian_mixture(values: Values, sizes: Sizes) -> str | None:
    if "_mixture" not in values:
        return None
    structure = STRUCTURES.get(values["covariance_type"])
    mixture = values["_mixture"]
    for parameters in (mixture.prior, mixture.q):
        if type(parameters.components.covariance) is not structure:
            return f"is not of covariance_type={values['covariance_type']!r:.60}"
    if type(mixture.prior.weights) is not type(mixture.q.weights):
        return "has weights of one kind in the prior, and of another in q"
    if values["weight_concentration_"].shape != mixture.q.weights.public.shape:
        return "has weight_concentration_ of another shape than that of q"
    return _complaint_of_covariances(values, sizes)


def _complaint_of_factor_model(values: Values, sizes: Sizes) -> str | None:
    if "_factors" not in values:
        return None
    for state in (values["_as_fitted"], values["_factors"]):
        if said := _complaint_of_heads(state["heads"], values):
            return said
    return None


def _complaint_of_vae(values: Values, sizes: Sizes) -> str | None:
    if "module_" not in values:
        return None
    return _complaint_of_heads(values["module_"]["heads"], values)


_HISTORY: dict[str, Check] = {
    "lower_bound_": real,
    "lower_bounds_": floats("T", nan=True, infinite=True),
    "converged_": boolean,
    "status_": text,
    "n_iter_": integer,
}
# Of every estimator; the first two only of some.
_OF_FRAMES = frozenset({"feature_names_in_", "_sklearn_output_config"})
_ESTIMATOR: dict[str, Check] = {
    "feature_names_in_": names("d"),
    "_sklearn_output_config": dict_of(text),
    "n_features_in_": size("d"),
    "n_parameters_": integer,
    **_HISTORY,
}
_MIXTURE: dict[str, Check] = {
    "weights_": floats("K"),
    "means_": floats("K d"),
    "covariances_": floats(),
    "precisions_": floats(infinite=True),
}
_FACTORS = dict_with(
    heads=_heads("float64"), loadings=list_of(floats("_ k")), intercepts=list_of(floats())
)
_NETWORKS = dict_with(
    heads=_heads("float32"), weights=dict_of(floats(dtype="float32", infinite=True))
)
_OPTIMISER = dict_with(memory=list_of(dict_of(floats(dtype="float32"))), rates=list_of(real))
_MODELS: list[Record] = [
    EstimatorRecord(
        "EMGaussianMixture",
        "skemvae.em_gaussian_mixture:EMGaussianMixture",
        {**_ESTIMATOR, **_MIXTURE, "precisions_cholesky_": floats(infinite=True)},
        _complaint_of_mixture,
        # What is made from known parameters has no history.
        _OF_FRAMES | _HISTORY.keys(),
    ),
    EstimatorRecord(
        "VariationalEM",
        "skemvae.variational_em:VariationalEM",
        {**_ESTIMATOR, "model_": of(Model, "a model")},
        None,
        _OF_FRAMES,
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
            "n_active_components_": integer,
            "n_parameters_": integer,
        },
        _complaint_of_bayesian_mixture,
    ),
    ModelRecord(
        "FactorModel",
        "skemvae.models.factor_model:FactorModel",
        {
            "_table": part("Table"),
            "_design": dict_with(n_factors=size("k"), likelihood=_COLUMNS),
            "_as_fitted": _FACTORS,
            "_factors": _FACTORS,
            "_noise": floats("1 S k"),
            "_seed": integer,
            "loadings_": floats("o k"),
            "intercept_": floats("o"),
            "n_parameters_": integer,
        },
        _complaint_of_factor_model,
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
            "_n_epochs": integer,
            "_score_seed": integer,
            "n_active_units_": integer,
            "validation_lower_bounds_": or_none(floats(nan=True, infinite=True)),
        },
        _complaint_of_vae,
        _OF_FRAMES,
    ),
]
_OWN_MODEL: dict[str, Check] = {
    "parameters_": dict_of(floats()),
    "n_parameters_": integer,
    "_n_latent": integer,
    "_noise": floats(dtype="float64 or int64"),  # of points, or of states
    "_seed": integer,
    "_n_features": size("d"),
}

RECORDS = {record.tag: record for record in (*_CORE, *_TABLES, *_MODELS)}
_BY_PATH = {record.path: record for record in RECORDS.values()}


def record_of(cls: type) -> Record | None:
    """How instances of a class are written, or None if they are not."""
    if issubclass(cls, LatentVariableModel):
        return own_models([cls])[cls.__name__]
    return _BY_PATH.get(path_of(cls))


def own_models(classes: Iterable[Any]) -> dict[str, Record]:
    """How models that are not of this library are written, by tag.

    Raises
    ------
    TypeError
        If one is no such model.
    ValueError
        If a name is taken.
    """
    found: dict[str, Record] = {}
    for cls in classes:
        if not isinstance(cls, type) or not issubclass(cls, LatentVariableModel):
            raise TypeError(f"models holds {cls!r}, expected subclasses of LatentVariableModel.")
        tag = cls.__name__
        if tag in RECORDS or tag in found:
            raise ValueError(f"Two models are called {tag}: rename one of your own.")
        found[tag] = OwnModelRecord(tag, path_of(cls), _OWN_MODEL, own=cls)
    return found
