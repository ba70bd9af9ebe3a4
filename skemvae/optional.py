"""Optional packages: imported when they are needed, and named with a remedy where missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Which extra of pyproject.toml brings a package.
_EXTRAS = {
    "torch": "vae",
    "matplotlib": "plot",
    "pandas": "frames",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "dask": "dask",
}


def require(module: str, *, purpose: str) -> Any:
    """Import a module of an optional package.

    Parameters
    ----------
    module : str
        Such as "matplotlib.pyplot".
    purpose : str
        What needs it, for the error.

    Returns
    -------
    module
        Imported.

    Raises
    ------
    ModuleNotFoundError
        If the package is not installed; the message says how to install it.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != package:  # the package itself is there
            raise
        wanted = f'"skemvae[{_EXTRAS[package]}]"' if package in _EXTRAS else package
        raise ModuleNotFoundError(
            f"{purpose} needs {package}: pip install {wanted}", name=package
        ) from missing
