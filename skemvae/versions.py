"""Versions and hardware facts to include in bug reports."""

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
    """Print versions, thread pools, and whether passes over rows use the compiled kernel.

    Passes use the compiled kernel, with the widest vectors of the processor,
    or NumPy and BLAS if it was not built. The environment variable
    ``SKEMVAE_KERNEL``, read at import, overrides this: ``"none"`` means BLAS;
    otherwise give one of the vector widths that are printed.

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
        "NumPy and BLAS; the compiled kernel was not built: to use it, install a C++ compiler "
        "(g++ or clang) and reinstall skemvae"
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is not installed"
