"""A parameter that names a device, as a device of torch."""

from __future__ import annotations

import torch


def device_of(name: str) -> torch.device:
    """Return the device that a parameter asks for; "auto" prefers a GPU.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.Generator(name)  # more than a name: a device that works
        return torch.device(name)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"device={name!r} is not to be had, use 'auto' or 'cpu': {error}"
        ) from None
