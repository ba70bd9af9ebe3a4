"""``save`` and ``load``: a fitted estimator in one file, without running code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator

from skemvae._version import __version__
from skemvae.base import LatentDensityEstimator, warn_of_other_version
from skemvae.persistence.container import file_path, parse, read, replacing, write
from skemvae.persistence.records import Record
from skemvae.persistence.registry import own_models, record_of
from skemvae.persistence.values import Decoder, Encoder
from skemvae.validation import escaped

_LONGEST_REASON = 500


def save(estimator: BaseEstimator, path: str | os.PathLike[str]) -> None:
    """Save an estimator of skemvae in one file.

    The file holds arrays and JSON only, and ``load`` runs no code from it. An
    older file is replaced only once the new one is complete and has been read
    back without error; if the process is killed before, the older one stays.

    Parameters
    ----------
    estimator : EMGaussianMixture, VariationalEM or VAEEstimator
        Fitted or not. Parameters, fitted attributes and the state of
        ``partial_fit`` are saved exactly; callbacks are not saved.
    path : str or path-like
        Name of the file, with any extension.

    Raises
    ------
    TypeError
        If the estimator is of another class, or has a parameter or attribute
        that cannot be saved, such as a function; the message gives a remedy.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : Read the file.

    Notes
    -----
    The layout is that of safetensors: arrays under the names of their
    attributes, everything else as JSON in the metadata, and a SHA-256 of all
    bytes at the end.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import skemvae
    >>> X = np.random.RandomState(0).normal(size=(100, 2))
    >>> mixture = skemvae.EMGaussianMixture(2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skemvae.save(mixture, f"{folder}/mixture.skemvae")
    ...     same = skemvae.load(f"{folder}/mixture.skemvae")
    >>> bool((same.score_samples(X) == mixture.score_samples(X)).all())
    True
    """
    path = file_path(path)
    if not isinstance(estimator, LatentDensityEstimator) or record_of(type(estimator)) is None:
        raise TypeError(
            f"skemvae.save cannot save {type(estimator).__name__}: it saves EMGaussianMixture, "
            "VariationalEM and VAEEstimator. For estimators built around them, such as a Pipeline "
            "or a search, use skops: skops.io.dump(estimator, path), and then "
            "skops.io.load(path, trusted=...) with the types that you trust among those that "
            f"skops.io.get_untrusted_types(file=path) lists.{_lambdas(estimator)}"
        )
    encoder = Encoder()
    document = json.dumps(encoder.encode(estimator, ""), separators=(",", ":"))
    text = {"skemvae_version": __version__, "estimator": document}
    with replacing(path) as temporary:
        write(temporary, text, encoder.arrays)
        failure = f"This {type(estimator).__name__} cannot be saved"
        _read(temporary, own_models(encoder.own_models), failure)


def _lambdas(estimator: Any) -> str:
    """Name the parameters that are lambdas, which neither skops nor joblib can save."""
    parameters: dict[str, Any] = {}
    if not isinstance(estimator, type):
        parameters = getattr(estimator, "get_params", dict)()
    names = [name for name, value in parameters.items() if _is_lambda(value)]
    if not names:
        return ""
    return (
        f" But {', '.join(names)} is a lambda, which neither skops nor joblib can save: give a "
        "function that has a name in a module, such as numpy.log."
    )


def _is_lambda(value: Any) -> bool:
    return getattr(value, "__name__", "") == "<lambda>"


def load(path: str | os.PathLike[str], *, models: Iterable[type] = ()) -> LatentDensityEstimator:
    """Load an estimator from a file that ``save`` wrote.

    No code from the file is run. The file only names classes of skemvae;
    ``load`` makes new instances of them and checks all their values.

    Parameters
    ----------
    path : str or path-like
        Name of the file. You need not trust it.
    models : iterable of type, default=()
        Models of your own, subclasses of ``LatentVariableModel``, that the
        file may name.

    Returns
    -------
    estimator
        Equal to the saved one: its results are identical to the last bit.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file was not written by ``save``, was damaged, holds invalid or
        inconsistent values, or has a newer format.

    Warns
    -----
    VersionMismatchWarning
        If another version of skemvae wrote the file.

    See Also
    --------
    save : Write the file.
    """
    version, estimator = _read(file_path(path), own_models(models), f"{path} cannot be loaded")
    warn_of_other_version(type(estimator).__name__, version, stacklevel=2)
    return estimator


def _read(path: Path, models: dict[str, Record], failure: str) -> tuple[str, Any]:
    """Read a file; return the version that wrote it, and its estimator."""
    try:
        text, arrays = read(path)
        version, document = text["skemvae_version"], parse(text["estimator"])
        estimator = Decoder(arrays, models).decode(document)
        if not isinstance(estimator, LatentDensityEstimator):
            raise ValueError(f"it holds a {type(estimator).__name__}, which is no estimator")
    except (OSError, ImportError, MemoryError):
        raise
    except Exception as error:  # any fault of a hostile file ends in one kind of error
        reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        # Errors from other libraries may quote the file, and a cause would be printed as well.
        said = escaped(reason, _LONGEST_REASON)
        raise ValueError(f"{failure}: {said}.") from (error if said == reason else None)
    return version, estimator
