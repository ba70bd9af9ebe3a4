"""The M step where no closed form exists: quasi-Newton ascent that never gets worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

ValueAndGradients = Callable[[list[Tensor]], tuple[float, list[Tensor]]]


def maximise(
    parameters: Sequence[Tensor], function: ValueAndGradients, n_iter: int
) -> list[Tensor]:
    """Run a few L-BFGS iterations from given parameters and return the best point seen.

    ``function`` maps parameters to a value and its gradients.
    """
    sizes = [parameter.numel() for parameter in parameters]

    def unflatten(x: Any) -> list[Tensor]:
        parts = torch.tensor(x, dtype=torch.float64).split(sizes)
        return [
            part.reshape(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)
        ]

    best: tuple[float, Any] = (-np.inf, None)

    def loss(x: Any) -> tuple[float, Any]:
        nonlocal best
        value, gradients = function(unflatten(x))
        slope = torch.cat([gradient.reshape(-1) for gradient in gradients]).numpy()
        if not np.isfinite(value) or not np.isfinite(slope).all():
            return 1e300, np.zeros_like(slope)
        if value > best[0]:
            best = (value, np.array(x))
        return -value, -slope

    start = torch.cat([parameter.reshape(-1) for parameter in parameters]).numpy()
    minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": n_iter})
    return list(parameters) if best[1] is None else unflatten(best[1])
