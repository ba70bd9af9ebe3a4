"""Records: how instances of a class are written to a file and rebuilt from it."""

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
# Added by scikit-learn and by pickling in skemvae; callbacks belong to the running process.
_TRANSIENT = ("_skl_callbacks", "_skemvae_version")


def path_of(kind: type) -> str:
    """Module and qualified name of a class."""
    return f"{kind.__module__}:{kind.__qualname__}"


@dataclass(frozen=True)
class Record(ABC):
    """A class of which a file may hold instances.

    Attributes
    ----------
    tag : str
        Name of the class in files.
    path : str
        Module and name of the class, which is imported on demand.
    fields : dict of Check
        The check of each field that is written.
    rule : callable, optional
        Checks the values of a fitted instance together; returns what is wrong,
        or None.
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
        """Return the values to write.

        Raises
        ------
        TypeError
            If the instance has attributes that cannot be saved.
        """

    @abstractmethod
    def build(self, values: Values, sizes: Sizes) -> Any:
        """Rebuild an instance from the values that were written.

        Raises
        ------
        ValueError
            If values are missing, unknown or invalid.
        """

    def sizes_within(self, name: str, sizes: Sizes) -> Sizes:
        """The sizes with which arrays in a field must agree."""
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
    """Record of a frozen dataclass."""

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
    """The public attributes of a likelihood, apart from its tensors."""
    known = vars(likelihood).items()
    return {k: v for k, v in known if not k.startswith("_") and k != "training"}


class LikelihoodRecord(Record):
    """Record of a likelihood: its parameters and its facts about columns, but not its tensors."""

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
    """Record of a scikit-learn estimator: its parameters, and attributes if it is fitted.

    Attributes
    ----------
    optional : tuple of set of str
        Sets of attributes that a fitted instance may lack, each set as a
        whole.
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
        return sizes if name in self.fields else {}  # parameters may come from another fit

    def _state_to_set(self, values: Values) -> Values:
        return values


class EstimatorRecord(ModelRecord):
    """Record of an estimator of skemvae, which stores the version that made it."""

    def _state_to_set(self, values: Values) -> Values:
        return {**values, "_skemvae_version": __version__}


@dataclass(frozen=True)
class OwnModelRecord(ModelRecord):
    """Record of a model that a user defined.

    Attributes
    ----------
    own : type
        Its class, which is never looked up from a file.
    """

    own: Any = None

    @property
    def cls(self) -> Any:
        return self.own
