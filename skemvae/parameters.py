"""Rules for parameters, as data: each estimator has a table of them, checked by ``fit``."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_scalar

from skemvae.validation import check_choice, shown

# Raises TypeError or ValueError unless the value, under this name, may be.
Rule = Callable[[str, Any], None]


def check_parameters(estimator: Any, rules: Mapping[str, Rule]) -> None:
    """Check the parameters of an estimator that have a rule."""
    for name, rule in rules.items():
        rule(name, getattr(estimator, name))


def choice(names: Collection[str]) -> Rule:
    """One of some names; of a registry, those that it holds when it is asked."""
    return lambda name, value: check_choice(name, value, names)


def integer(smallest: int) -> Rule:
    """An integer, at least so large."""

    def check(name: str, value: Any) -> None:
        if isinstance(value, bool):
            raise TypeError(f"{name}={value} must be an int.")
        check_scalar(value, name, Integral, min_val=smallest)

    return check


def number(low: float = 0.0, high: float = math.inf, boundaries: str = "both") -> Rule:
    """A finite number between two others; ``boundaries`` as in ``sklearn.utils.check_scalar``."""

    def check(name: str, value: Any) -> None:
        check_scalar(value, name, Real, min_val=low, max_val=high, include_boundaries=boundaries)
        if not math.isfinite(value):
            raise ValueError(f"{name}={value} must be finite.")

    return check


def flag(name: str, value: Any) -> None:
    """True, False, 1 or 0."""
    if not isinstance(value, bool | np.bool_ | Integral) or value not in (0, 1):
        raise TypeError(f"{name}={shown(value)} must be True or False.")


def optional(rule: Rule) -> Rule:
    """None, or what another rule allows."""

    def check(name: str, value: Any) -> None:
        if value is not None:
            rule(name, value)

    return check


def either(word: str, rule: Rule) -> Rule:
    """A word, or the numbers that another rule allows."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str):
            rule(name, value)
        elif value != word:
            raise ValueError(f"{name}={shown(value)} must be {word!r} or a number.")

    return check


def verbosity(name: str, value: Any) -> None:
    """None or a non-negative integer, True and False among them."""
    if value is not None:
        check_scalar(value, name, Integral, min_val=0)


def sizes(name: str, value: Any) -> None:
    """Positive integers, any number of them."""
    for size in np.atleast_1d(np.asarray(value, dtype=object)):
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
            raise ValueError(f"{name}={value} must hold positive integers; () means affine maps.")
