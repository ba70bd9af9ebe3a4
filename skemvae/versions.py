"""What a report of a fault should say of the machine."""

from __future__ import annotations

import platform
from importlib import metadata

from threadpoolctl import threadpool_info

from skemvae._version import __version__
from skemvae.kernel import native

_DEPENDENCIES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "threadpoolctl",
    "joblib",
    "torch",
    "matplotlib",
    "dask",
    "pyarrow",
    "onnx",
)


def show_versions() -> None:
    """Print versions, thread pools, and by which path a pass over rows goes.

    Passes go through the compiled kernel, with vectors as wide as the
    processor has them, or, where it was not built, through NumPy and BLAS.
    The environment variable ``SKEMVAE_KERNEL``, read at import, sets the path:
    ``"none"`` for BLAS, or one of the vector widths that are printed.

    Examples
    --------
    >>> import skemvae
    >>> skemvae.show_versions()  # doctest: +ELLIPSIS
    skemvae ...
    """
    print(f"skemvae {__version__}")
    print(f"Python {platform.python_version()}, {platform.platform()}")
    print(f"Passes over rows: {_path()}")
    for name in _DEPENDENCIES:
        print(f"{name} {_version(name)}")
    for pool in threadpool_info():
        kind, name = pool["user_api"], pool["internal_api"]
        print(f"{kind}: {name} {pool['version'] or ''}, {pool['num_threads']} threads")


def _path() -> str:
    built = ", ".join(native.LEVELS)
    if native.level is not None:
        return f"compiled kernel, {native.level} (this processor has {built})"
    if native.LEVELS:
        return f"NumPy and BLAS; SKEMVAE_KERNEL=none switches off the compiled kernel ({built})"
    return (
        "NumPy and BLAS; the compiled kernel was not built: to have it, install a C++ compiler "
        "(g++ or clang) and reinstall skemvae"
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is not installed"
