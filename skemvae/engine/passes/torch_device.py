"""Conversion of a ``device`` parameter to a torch device."""

from __future__ import annotations

import torch


def device_of(name: str) -> torch.device:
    """Return the device that a parameter asks for; "auto" prefers a GPU.

    Raises
    ------
    TypeError
        If ``name`` is not a str.
    ValueError
        If there is no such device, or it does not work.
    """
    if not isinstance(name, str):
        raise TypeError(f"device={name!r} must be a str: 'cpu', 'cuda' or 'auto'.")
    n_gpus = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if n_gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"device={name!r} is not a device: use 'cpu', 'cuda' or 'cuda:1' for a GPU, or 'auto'."
        ) from None
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        found = {0: "no GPU", 1: "one GPU"}.get(n_gpus, f"{n_gpus} GPUs")
        raise ValueError(f"device={name!r}, but torch finds {found}: use 'auto' or 'cpu'.")
    try:
        torch.Generator(device)  # checks that the device works
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"device={name!r} does not work, use 'auto' or 'cpu': {error}") from None
    return device
