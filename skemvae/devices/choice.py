"""Which passes over rows a ``device`` parameter asks for."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from skemvae.core.expectation import PassChoice, fastest_pass
from skemvae.optional import require


def passes_on(device: Any) -> PassChoice:
    """The choice among the passes that a device can take.

    Parameters
    ----------
    device : str
        "cpu", for the kernel and BLAS; "cuda" or "cuda:1", a GPU, by torch;
        "auto", a GPU if there is one and torch is installed.

    Raises
    ------
    ImportError
        If a GPU is asked for, and torch is not installed.
    TypeError
        If it is not a str.
    ValueError
        If there is no such GPU, or the device is of another kind.
    """
    if not isinstance(device, str):
        raise TypeError(f"device={device!r} must be a str: 'cpu', 'cuda' or 'auto'.")
    if device == "cpu" or (device == "auto" and find_spec("torch") is None):
        return fastest_pass
    require("torch", purpose=f"device={device!r}")
    from skemvae.devices.names import device_of
    from skemvae.devices.torch_pass import TorchPasses

    found = device_of(device)
    if found.type == "cuda":
        return TorchPasses(found)
    if device != "auto":
        raise ValueError(f"device={device!r} is not one of 'cpu', 'cuda' and 'auto'.")
    return fastest_pass
