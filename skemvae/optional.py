"""Import of optional packages on demand; the error for a missing one says how to install it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The extra of pyproject.toml that installs each package.
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
        What needs the package, for the error.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ModuleNotFoundError
        If the package is not installed; the message says how to install it.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != package:  # the package itself is installed
            raise
        wanted = f'"skemvae[{_EXTRAS[package]}]"' if package in _EXTRAS else package
        raise ModuleNotFoundError(
            f"{purpose} needs {package}: pip install {wanted}", name=package
        ) from missing
