"""Rules that check the values of a record together. A rule returns what is wrong, or None."""

from __future__ import annotations

from typing import Any

import numpy as np

from skemvae.persistence.checks import Sizes, axes, choice
from skemvae.persistence.records import Values, known_of, parameters_of
from skemvae.structures.registry import STRUCTURES
from skemvae.validation import check_mixture_weights, shown


def of_table(values: Values, sizes: Sizes) -> str | None:
    """Each column occurs once, and has units."""
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
                return f"has units of {shown(units.names)}, but {len(where)} columns for them"
    return axes((len(together),), "d", sizes)


def of_continuous(values: Values, sizes: Sizes) -> str | None:
    """Scales are not 0, because values are divided by them."""
    return None if (values["scale"] != 0).all() else "has a scale of 0"


def of_categories(values: Values, sizes: Sizes) -> str | None:
    """Labels are hashable, because they are looked up."""
    hash(values["labels"])  # raises TypeError
    return None


def of_architecture(values: Values, sizes: Sizes) -> str | None:
    """Sizes are positive, and the activation and the prior are known."""
    from skemvae.networks.layers import ACTIVATIONS
    from skemvae.networks.priors import PRIORS

    numbers = [values["n_components"], values["n_prior_components"], *values["hidden_layer_sizes"]]
    if min(numbers) < 1:
        return f"has sizes {shown(numbers)}"
    said = choice(ACTIVATIONS)(values["activation"], sizes)
    return said or choice(PRIORS)(values["prior"], sizes)


def of_mixture(values: Values, sizes: Sizes) -> str | None:
    """Weights sum to 1; covariances fit their structure, also those of ``partial_fit``."""
    check_mixture_weights("weights_", values["weights_"], sizes["K"])
    climbing = values["_stream"].climbing if "_stream" in values else None
    if climbing is not None:
        check_mixture_weights("climbing.weights", climbing.weights, sizes["K"])
        if type(climbing.covariance) is not STRUCTURES.get(values["covariance_type"]):
            return f"climbs with another covariance_type than {shown(values['covariance_type'])}"
        if not (climbing.covariance.variances > 0).all():
            return "climbs with variances that are not positive"
    return _of_covariances(values, sizes)


def of_variational_em(values: Values, sizes: Sizes) -> str | None:
    """The model is fitted."""
    return None if hasattr(values["model_"], "n_parameters_") else "has a model_ without parameters"


def of_bayesian_mixture(values: Values, sizes: Sizes) -> str | None:
    """Public attributes agree with the distributions that they come from."""
    structure = STRUCTURES.get(values["covariance_type"])
    mixture = values["_mixture"]
    for parameters in (mixture.prior, mixture.q):
        if type(parameters.components.covariance) is not structure:
            return f"is not of covariance_type={shown(values['covariance_type'])}"
    if type(mixture.prior.weights) is not type(mixture.q.weights):
        return "has weights of different kinds in the prior and in q"
    if values["weight_concentration_"].shape != mixture.q.weights.public.shape:
        return "has a weight_concentration_ whose shape differs from that of q"
    return _of_covariances(values, sizes)


# What public arrays in the layout of covariances there may be.
_PUBLIC = ("covariances_", "precisions_", "precisions_cholesky_")


def of_factor_model(values: Values, sizes: Sizes) -> str | None:
    """The likelihoods match the columns."""
    for state in (values["_as_fitted"], values["_factors"]):
        if said := _of_heads(state["heads"], values):
            return said
    return None


def of_own_model(values: Values, sizes: Sizes) -> str | None:
    """The number of states, or of dimensions of z, matches the points of the fit."""
    noise = values["_noise"]
    letters = "1 k 1" if noise.dtype.kind == "i" else "1 _ k"
    said = axes(noise.shape, letters, {"k": values["_n_latent"]})
    return said and f"has _noise that {said}"


def of_vae(values: Values, sizes: Sizes) -> str | None:
    """The likelihoods match the columns."""
    return _of_heads(values["module_"]["heads"], values)


def _of_covariances(values: Values, sizes: Sizes) -> str | None:
    structure = STRUCTURES.get(values["covariance_type"])
    if structure is None:
        return f"has covariance_type={shown(values['covariance_type'])}"
    k, d = sizes["K"], sizes["d"]
    structure = structure.with_factors(values.get("n_factors", 1))
    determined = structure.fitted_shapes(k, d)
    public = dict.fromkeys(_PUBLIC, structure.races_as().public_shape(k, d))
    for name, expected in (public | determined).items():
        found = np.shape(values.get(name, ()))
        if found != expected and (name in values or name in determined):
            return f"has {name} of shape {found}, expected {expected}"
    covariance = structure.from_fitted(k, d, *(values[name] for name in determined))
    return None if (covariance.variances > 0).all() else "has variances that are not positive"


def _of_heads(heads: Any, values: Values) -> str | None:
    """Compare likelihoods with new ones for the same columns."""
    import torch

    table = values["_table"]
    design = [
        (repr(state["likelihood"]), columns.tolist())
        for state, columns in zip(heads, table.columns, strict=True)
    ]
    if design != values["_design"]["likelihood"]:
        said = shown(values["_design"]["likelihood"])
        return f"has {shown(design)}, but its design says {said}"
    for state, units, columns in zip(heads, table.blocks, table.columns, strict=True):
        head = state["likelihood"]
        new = type(head)(**{name: getattr(head, name) for name in parameters_of(type(head))})
        own = new.units(np.ones((1, len(columns))), units.names, None, False)
        if type(own) is not type(units):
            return f"has {shown(head)} for {shown(units.names)}, which are {type(units).__name__}"
        new.bind(torch.zeros(1, len(columns)), torch.ones(1), units)
        known, expected = known_of(head), known_of(new)
        if (
            "unseen_mass" in known and "unseen_mass" in expected
        ):  # depends on the rows, not only on the columns
            expected["unseen_mass"] = known["unseen_mass"]
        if known != expected:
            return f"has a likelihood with {shown(known)}, expected {shown(expected)}"
        shapes = {name: array.shape for name, array in state["weights"].items()}
        expected_shapes = {name: tuple(p.shape) for name, p in new.named_parameters()}
        if shapes != expected_shapes:
            return (
                f"has {shown(head)} with parameters of shapes {shown(shapes)}, expected "
                f"{shown(expected_shapes)}"
            )
    return None
