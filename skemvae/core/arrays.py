"""Array types of the core, the limits of float64, and two numerical helpers."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]

EPS: Final = float(np.finfo(np.float64).eps)
TINY: Final = float(np.finfo(np.float64).tiny)


R = TypeVar("R")


def quietly(function: Callable[..., R], *arguments: Any) -> R:
    """Call a function without NumPy's floating-point warnings.

    The call runs in its own context, so even an interrupt cannot leave the
    warnings turned off.
    """

    def quiet() -> R:
        np.seterr(all="ignore")
        return function(*arguments)

    return copy_context().run(quiet)


def power_of_two(x: Array) -> Array:
    """Return the power of two nearest to each ``x > 0`` on a log scale, within 2^+-1000.

    Multiplying by it is exact, so a change of units by a power of two causes
    no rounding.
    """
    exponent = np.maximum(np.minimum(np.rint(np.log2(x)), 1000.0), -1000.0)
    power: Array = np.ldexp(1.0, exponent.astype(np.intc))
    return power
