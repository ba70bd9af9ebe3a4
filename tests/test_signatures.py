"""What ``help`` shows: real types, and keywords that are named where a position was meant."""

import importlib
import inspect
import pickle
import re

import pytest
from sklearn.base import clone

import skemvae.typing
from skemvae import (
    DensityOutlierDetector,
    EMGaussianMixture,
    TransformedDensity,
    VAEEstimator,
    VariationalEM,
)
from skemvae.tables.batches import Batches

MODULES = [
    "skemvae",
    "skemvae.bijections",
    "skemvae.callbacks",
    "skemvae.displays",
    "skemvae.likelihoods",
    "skemvae.models",
]


def public_things():
    """What stands behind ``__all__``, and what public functions return."""
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            yield name, getattr(module, name)
    yield "Batches", Batches


def public_functions():
    """Functions, constructors and methods, those of this library."""
    for name, thing in public_things():
        if not inspect.isclass(thing):
            yield name, thing
            continue
        yield f"{name}()", thing.__init__
        for method in dir(thing):
            found = inspect.getattr_static(thing, method)
            found = getattr(found, "__func__", getattr(found, "fget", found))
            found = getattr(found, "fn", found)  # available_if
            if not method.startswith("_"):
                yield f"{name}.{method}", found


FUNCTIONS = {
    name: one
    for name, one in public_functions()
    if inspect.isfunction(one) and one.__module__.startswith("skemvae")
}


def test_there_are_functions():
    assert len(FUNCTIONS) > 200


def is_anything(annotation):
    return re.search(r"\bAny\b", str(annotation)) is not None


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_signatures_say_what_is_taken_and_returned(function):
    signature = inspect.signature(function)
    annotations = [
        p.annotation for p in signature.parameters.values() if p.name not in ("self", "cls")
    ]
    assert not any(map(is_anything, [*annotations, signature.return_annotation])), signature
    assert inspect.Parameter.empty not in annotations


def test_names_of_types_stand_for_types():
    lines = filter(is_anything, inspect.getsource(skemvae.typing).splitlines())
    assert list(lines) == [
        "from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict",
        "Array: TypeAlias = npt.NDArray[Any]",  # of any dtype, but an array
    ]


@pytest.mark.parametrize(("name", "thing"), list(public_things()))
def test_fields_have_types(name, thing):
    fields = getattr(thing, "__annotations__", {}) if inspect.isclass(thing) else {}
    assert not any(is_anything(fields[field]) for field in fields if not field.startswith("_"))


def test_help_reads_well():
    assert str(inspect.signature(EMGaussianMixture.fit)).replace("'", "") == (
        "(self, X: MatrixLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self"
    )


@pytest.mark.parametrize(
    ("call", "keyword"),
    [
        (lambda: EMGaussianMixture(2, "full"), "covariance_type='full'"),
        (lambda: EMGaussianMixture(2, "tied", 0.1), "covariance_type='tied', tol=0.1"),
        (lambda: VAEEstimator(2, (64,)), r"hidden_layer_sizes=\(64,\)"),
        (lambda: VariationalEM("factor_model", 1e-4), "tol=0.0001"),
        (lambda: DensityOutlierDetector(EMGaussianMixture(), 0.1), "contamination=0.1"),
    ],
)
def test_a_position_that_is_none_names_the_keyword(call, keyword):
    with pytest.raises(TypeError, match=rf"by position: write .*{keyword}"):
        call()
    with pytest.raises(TypeError, match="positional arguments"):
        EMGaussianMixture(*range(40))
    assert clone(EMGaussianMixture(3)).n_components == 3
    assert pickle.loads(pickle.dumps(EMGaussianMixture(3))).n_components == 3
    assert list(inspect.signature(TransformedDensity).parameters)[:2] == [
        "transformer",
        "estimator",
    ]
