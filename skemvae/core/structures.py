"""Former place of the covariance classes: old pickles look here and get a clear error."""

from __future__ import annotations

from typing import NoReturn


def __getattr__(name: str) -> NoReturn:
    if name not in ("Full", "Tied", "Diagonal", "Spherical"):
        raise AttributeError(name)
    raise ImportError(
        f"This pickle holds skemvae.core.structures.{name}, a class of an earlier skemvae that "
        "has moved since: fit the estimator again, or read the pickle with the version that "
        "wrote it and keep it in a file with skemvae.save."
    )
