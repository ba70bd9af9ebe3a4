"""Checks of the fields of a file. A check returns what is wrong, or None.

Letters in shapes stand for sizes: the first array with a letter fixes its size, and all others
must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np

from skemvae.validation import shown

# No sensible estimator uses more points per row than this.
MOST_POINTS = 2**16

Sizes = dict[str, int]
Check = Callable[[Any, Sizes], str | None]


def floats(
    shape: str | None = None,
    *,
    nan: bool = False,
    infinite: bool = False,
    positive: bool = False,
    dtype: str = "float64",
) -> Check:
    """Check for an array of floats; ``"K d"`` names its axes, ``"K-1"`` is one less than K."""

    def check(value: Any, sizes: Sizes) -> str | None:
        if not isinstance(value, np.ndarray) or value.dtype.name not in dtype:
            return f"must be an array of {dtype}, but is {_kind(value)}"
        if not nan and np.isnan(value).any():
            return "holds NaN"
        if not infinite and np.isinf(value).any():
            return "holds infinity"
        if positive and not (value > 0).all():
            return "must be positive"
        return None if shape is None else axes(value.shape, shape, sizes)

    return check


def anything(value: Any, sizes: Sizes) -> str | None:
    """Any value that files hold."""
    return None


def size(letter: str) -> Check:
    """Check for an int that equals a size."""

    def check(value: Any, sizes: Sizes) -> str | None:
        return integer(value, sizes) or axes((value,), letter, sizes)

    return check


def names(letter: str) -> Check:
    """Check for an array of str whose length is a size."""

    def check(value: Any, sizes: Sizes) -> str | None:
        if not isinstance(value, np.ndarray) or not all(isinstance(x, str) for x in value.flat):
            return f"must be an array of str, but is {_kind(value)}"
        return axes(value.shape, letter, sizes)

    return check


def positions(value: Any, sizes: Sizes) -> str | None:
    """Check for a one-dimensional array of int."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "i" and value.ndim == 1:
        return None
    return f"must be an array of int, but is {_kind(value)}"


def axes(shape: tuple[int, ...], letters: str, sizes: Sizes) -> str | None:
    """Compare a shape with letters, and fix new ones; "1" stands for 1, "_" for any size."""
    expected = []
    for n, letter in zip(shape, letters.split(), strict=False):
        name, _, less = letter.partition("-")
        if letter == "_":
            expected.append(n)
        elif letter.isdecimal():
            expected.append(int(letter))
        else:
            expected.append(sizes.setdefault(name, n + int(less or 0)) - int(less or 0))
    if len(shape) != len(letters.split()) or list(shape) != expected:
        return f"has shape {shape}, expected ({letters}) with {sizes}"
    return None


def of(kind: type | tuple[type, ...], said: str) -> Check:
    """Check for an instance of a type; a bool does not count as a number."""
    wants_bool = kind is bool

    def check(value: Any, sizes: Sizes) -> str | None:
        if isinstance(value, kind) and isinstance(value, bool) == wants_bool:
            return None
        return f"must be {said}, but is {_kind(value)}"

    return check


def within(least: int, most: int) -> Check:
    """Check for an int in a range."""

    def check(value: Any, sizes: Sizes) -> str | None:
        if said := integer(value, sizes):
            return said
        return None if least <= value <= most else f"is {shown(value)}, not in [{least}, {most}]"

    return check


integer = of(Integral, "an int")
real = of(Real, "a number")
boolean = of(bool, "a bool")
text = of(str, "a str")
count = within(0, 2**63 - 1)
seed = within(0, 2**32 - 1)


def points(value: Any, sizes: Sizes) -> str | None:
    """Check a number of points per row against the limit, so that memory and time stay bounded.

    Other types pass, because a fit rejects them itself.
    """
    is_number = isinstance(value, Integral) and not isinstance(value, bool)
    return within(-(2**63), MOST_POINTS)(value, sizes) if is_number else None


def fraction(value: Any, sizes: Sizes) -> str | None:
    """Check for a number strictly between 0 and 1."""
    if said := real(value, sizes):
        return said
    return None if 0 < value < 1 else f"is {shown(value)}, not between 0 and 1"


def amount(value: Any, sizes: Sizes) -> str | None:
    """Check for a finite number that is not negative."""
    if said := real(value, sizes):
        return said
    return None if 0 <= value < np.inf else f"is {shown(value)}, not finite and at least 0"


def choice(choices: Collection[Any]) -> Check:
    """Check for one of some strings."""

    def check(value: Any, sizes: Sizes) -> str | None:
        known = isinstance(value, str) and value in choices
        return None if known else f"is {shown(value)}, expected one of {sorted(choices)}"

    return check


def or_none(check: Check) -> Check:
    """Check for None, or for what another check accepts."""
    return lambda value, sizes: None if value is None else check(value, sizes)


def tuple_of(item: Check) -> Check:
    """Check for a tuple whose items pass a check."""

    def check(value: Any, sizes: Sizes) -> str | None:
        return of(tuple, "a tuple")(value, sizes) or _first(item, value, sizes)

    return check


def list_of(item: Check) -> Check:
    """Check for a list whose items pass a check."""

    def check(value: Any, sizes: Sizes) -> str | None:
        return of(list, "a list")(value, sizes) or _first(item, value, sizes)

    return check


def dict_of(item: Check) -> Check:
    """Check for a dict whose values pass a check."""

    def check(value: Any, sizes: Sizes) -> str | None:
        return of(dict, "a dict")(value, sizes) or _first(item, value.values(), sizes)

    return check


def dict_with(**items: Check) -> Check:
    """Check for a dict with these keys, and values that pass their checks."""

    def check(value: Any, sizes: Sizes) -> str | None:
        if not isinstance(value, dict) or value.keys() != items.keys():
            return f"must be a dict of {sorted(items)}"
        for name, item in items.items():
            if said := item(value[name], sizes):
                return f"has {name} that {said}"
        return None

    return check


def _first(item: Check, values: Iterable[Any], sizes: Sizes) -> str | None:
    """What is wrong with the first value that fails a check, or None."""
    return next((f"holds what {said}" for x in values if (said := item(x, sizes))), None)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return f"of type {type(value).__name__}"
