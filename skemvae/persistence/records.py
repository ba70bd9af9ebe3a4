"""How instances of a class are written, and made again of what was written."""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from skemvae._version import __version__
from skemvae.persistence.checks import Check, Sizes, points
from skemvae.validation import shown

Values = dict[str, Any]
Rule = Callable[[Values, Sizes], str | None]
# What scikit-learn and the pickles of skemvae add: callbacks belong to the session.
_TRANSIENT = ("_skl_callbacks", "_skemvae_version")


def path_of(kind: type) -> str:
    """Where a class is defined."""
    return f"{kind.__module__}:{kind.__qualname__}"


@dataclass(frozen=True)
class Record(ABC):
    """A class of which a file may hold instances.

    Attributes
    ----------
    tag : str
        What the class is called in files.
    path : str
        Module and name of the class, which is imported when it is needed.
    fields : dict of Check
        What is written.
    rule : callable, optional
        What is wrong with all values together, or nothing; of what is fitted.
    """

    tag: str
    path: str
    fields: dict[str, Check] = field(default_factory=dict)
    rule: Rule | None = None

    @property
    def cls(self) -> Any:
        """The class."""
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)

    @abstractmethod
    def state(self, instance: Any) -> Values:
        """What is written.

        Raises
        ------
        TypeError
            If the instance has attributes that no file holds.
        """

    @abstractmethod
    def build(self, values: Values, sizes: Sizes) -> Any:
        """An instance of what was written.

        Raises
        ------
        ValueError
            If values are missing, unknown or cannot be.
        """

    def sizes_within(self, name: str, sizes: Sizes) -> Sizes:
        """The sizes that arrays in a field must have."""
        return sizes

    def _check(self, values: Values, expected: Collection[str], sizes: Sizes) -> None:
        missing, unknown = set(expected) - values.keys(), values.keys() - set(expected)
        if missing:
            raise ValueError(f"its {self.tag} lacks {sorted(missing)}")
        if unknown:
            raise ValueError(f"its {self.tag} has the unknown {shown(sorted(unknown))}")
        for name, check in self.fields.items():
            complaint = check(values[name], sizes) if name in values else None
            if complaint:
                raise ValueError(f"{name} of its {self.tag} {complaint}")

    def _apply_rule(self, values: Values, sizes: Sizes) -> None:
        complaint = self.rule(values, sizes) if self.rule else None
        if complaint:
            raise ValueError(f"its {self.tag} {complaint}")


class DataRecord(Record):
    """Of a frozen dataclass."""

    def state(self, instance: Any) -> Values:
        return {name: getattr(instance, name) for name in self.fields}

    def build(self, values: Values, sizes: Sizes) -> Any:
        self._check(values, self.fields, sizes)
        self._apply_rule(values, sizes)
        return self.cls(**values)


def parameters_of(cls: type) -> list[str]:
    """The names of the constructor's parameters."""
    parameters = inspect.signature(cls).parameters.values()
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def known_of(likelihood: Any) -> Values:
    """What a likelihood knows: everything public but its tensors."""
    known = vars(likelihood).items()
    return {k: v for k, v in known if not k.startswith("_") and k != "training"}


class LikelihoodRecord(Record):
    """Of a likelihood without its tensors: its parameters, and what it knows of its columns."""

    def state(self, instance: Any) -> Values:
        return known_of(instance)

    def build(self, values: Values, sizes: Sizes) -> Any:
        parameters = parameters_of(self.cls)
        self._check(values, {*parameters, *(values.keys() & self.fields.keys())}, sizes)
        instance = self.cls(**{name: values[name] for name in parameters})
        if lacking := known_of(instance).keys() - values.keys():
            raise ValueError(f"its {self.tag} lacks {sorted(lacking)}")
        vars(instance).update(values)
        return instance


@dataclass(frozen=True)
class OwnLikelihoodRecord(LikelihoodRecord):
    """Of a likelihood that is not of this library, but registered.

    Attributes
    ----------
    own : type
        Its class, which never comes from a file.
    """

    own: Any = None

    @property
    def cls(self) -> Any:
        return self.own


@dataclass(frozen=True)
class ModelRecord(Record):
    """Of an estimator in the sense of scikit-learn: parameters, and attributes once it is fitted.

    Attributes
    ----------
    optional : tuple of set of str
        Attributes that a fitted one need not have: all of a set, or none.
    """

    optional: tuple[frozenset[str], ...] = ()

    def state(self, instance: Any) -> Values:
        state = {k: v for k, v in instance.__getstate__().items() if k not in _TRANSIENT}
        unknown = state.keys() - {*parameters_of(type(instance)), *self.fields}
        if unknown:
            raise TypeError(
                f"{type(instance).__name__} has the attributes {shown(sorted(unknown))}, which "
                "skemvae.save does not know: delete them, or use joblib, whose files must be "
                "trusted."
            )
        return state

    def build(self, values: Values, sizes: Sizes) -> Any:
        parameters = parameters_of(self.cls)
        required = self.fields.keys() - frozenset().union(*self.optional)
        present = [group for group in (required, *self.optional) if group & values.keys()]
        self._check(values, set(parameters).union(*present), sizes)
        if said := points(values.get("n_score_samples"), sizes):
            raise ValueError(f"n_score_samples of its {self.tag} {said}")
        if required in present:
            self._apply_rule(values, sizes)
        instance = self.cls(**{name: values[name] for name in parameters})
        instance.__setstate__(self._state_to_set(values))
        return instance

    def sizes_within(self, name: str, sizes: Sizes) -> Sizes:
        return sizes if name in self.fields else {}  # parameters may be of another fit

    def _state_to_set(self, values: Values) -> Values:
        return values


class EstimatorRecord(ModelRecord):
    """Of an estimator of skemvae: it knows which version it is of."""

    def _state_to_set(self, values: Values) -> Values:
        return {**values, "_skemvae_version": __version__}


@dataclass(frozen=True)
class OwnModelRecord(ModelRecord):
    """Of a model that is not of this library.

    Attributes
    ----------
    own : type
        Its class, which never comes from a file.
    """

    own: Any = None

    @property
    def cls(self) -> Any:
        return self.own
