"""The choice of a pass over rows: the fastest on the CPU, or the one for a ``device``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from skemvae.core.arrays import Array
from skemvae.core.bound import POSTERIORS
from skemvae.core.expectation import Pass, PassChoice
from skemvae.core.rows import Rows
from skemvae.core.scan import Scan
from skemvae.engine.passes.compiled_pass import compiled
from skemvae.engine.passes.numpy_pass import ScannedPass
from skemvae.optional import require


def fastest_pass(log_normaliser: Array, scan: Scan, second_scan: Scan, rows: Rows) -> Pass:
    """Choose the fastest pass on the CPU that is accurate enough."""
    if second_scan is scan:
        second_scan = scan.second_scan(rows.n_rows)
    if second_scan is not scan:
        return ScannedPass(log_normaliser, scan, second_scan)
    if getattr(rows.X, "dtype", None) == np.float32:
        scan = scan.single() or scan
    return compiled(scan, log_normaliser) or ScannedPass(log_normaliser, scan, scan)


def roughest_pass(log_normaliser: Array, scan: Scan, second_scan: Scan, rows: Rows) -> Pass:
    """Choose a pass for races: in float32 where that is accurate enough to rank starts."""
    if second_scan is scan:
        scan = second_scan = scan.single() or scan
    return fastest_pass(log_normaliser, scan, second_scan, rows)


@dataclass(frozen=True)
class ApproximatePasses:
    """Passes with a posterior other than the exact one, through NumPy.

    Attributes
    ----------
    posterior : str
        A name in ``POSTERIORS``.
    """

    posterior: str

    def __call__(self, log_normaliser: Array, scan: Scan, second_scan: Scan, rows: Rows) -> Pass:
        """Choose a pass, as ``fastest_pass``."""
        return ScannedPass(log_normaliser, scan, second_scan, POSTERIORS[self.posterior])


def passes_on(device: Any, posterior: str = "exact") -> PassChoice:
    """Return the function that chooses passes on a device.

    Parameters
    ----------
    device : str
        "cpu" for the kernel and BLAS; "cuda" or "cuda:1" for a GPU, through
        torch; "auto" for a GPU if there is one and torch is installed.
    posterior : str, default="exact"
        A name in ``POSTERIORS``; any other than "exact" needs the CPU.

    Raises
    ------
    ImportError
        If a GPU is asked for and torch is not installed.
    TypeError
        If ``device`` is not a str.
    ValueError
        If there is no such GPU, the device is of another kind, or it does not
        support the posterior.
    """
    if not isinstance(device, str):
        raise TypeError(f"device={device!r} must be a str: 'cpu', 'cuda' or 'auto'.")
    if posterior != "exact":
        if device not in ("cpu", "auto"):
            raise ValueError(
                f"posterior={posterior!r} is computed on the CPU only, not on device={device!r}: "
                "set device='cpu' or posterior='exact'."
            )
        return ApproximatePasses(posterior)
    if device == "cpu" or (device == "auto" and find_spec("torch") is None):
        return fastest_pass
    require("torch", purpose=f"device={device!r}")
    from skemvae.engine.passes.torch_device import device_of
    from skemvae.engine.passes.torch_pass import TorchPasses

    found = device_of(device)
    if found.type == "cuda":
        return TorchPasses(found)
    if device != "auto":
        raise ValueError(f"device={device!r} is not one of 'cpu', 'cuda' and 'auto'.")
    return fastest_pass
