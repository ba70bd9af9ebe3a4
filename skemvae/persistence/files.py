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

    The file holds arrays and JSON only, and ``load`` runs no code from it. It
    takes the place of an older one when it is complete and has been read back
    without error, so that a kill in the middle leaves the older one.

    Parameters
    ----------
    estimator : EMGaussianMixture, VariationalEM or VAEEstimator
        Fitted or not. Parameters, fitted attributes and the memory of
        ``partial_fit`` are saved to the last bit; callbacks are not saved.
    path : str or path-like
        Where to; any extension.

    Raises
    ------
    TypeError
        If it is another estimator, or has a parameter or attribute that no such file
        holds, such as a function; the message says what to do.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : Read it again.

    Notes
    -----
    The layout is that of safetensors, with the arrays under the names of
    attributes, JSON for everything else in its metadata, and a SHA-256 of all
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
            "VariationalEM and VAEEstimator. For what is built around them, such as a Pipeline or "
            "a search, use skops: skops.io.dump(estimator, path), and then "
            "skops.io.load(path, trusted=...) with the types that you trust, of which "
            f"skops.io.get_untrusted_types(file=path) makes a list to be read.{_lambdas(estimator)}"
        )
    encoder = Encoder()
    document = json.dumps(encoder.encode(estimator, ""), separators=(",", ":"))
    text = {"skemvae_version": __version__, "estimator": document}
    with replacing(path) as temporary:
        write(temporary, text, encoder.arrays)
        failure = f"This {type(estimator).__name__} cannot be saved"
        _read(temporary, own_models(encoder.own_models), failure)


def _lambdas(estimator: Any) -> str:
    """What else is in the way: functions without a name, which no other format saves either."""
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
    """Load an estimator that ``save`` has saved.

    No code comes from the file: it names classes of skemvae, which are made
    anew and compared with what each must look like.

    Parameters
    ----------
    path : str or path-like
        Of a file of ``save``, which need not be trusted.
    models : iterable of type, default=()
        Models of your own, subclasses of ``LatentVariableModel``, that the file may name.

    Returns
    -------
    estimator
        Equal to the one that was saved, to the last bit of its answers.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such file, was damaged, holds what may not be there or does not
        fit together, or is of a newer format.

    Warns
    -----
    VersionMismatchWarning
        If another version of skemvae has saved it.

    See Also
    --------
    save : Write such a file.
    """
    version, estimator = _read(file_path(path), own_models(models), f"{path} cannot be loaded")
    warn_of_other_version(type(estimator).__name__, version, stacklevel=2)
    return estimator


def _read(path: Path, models: dict[str, Record], failure: str) -> tuple[str, Any]:
    """The version that wrote an estimator, and the estimator."""
    try:
        text, arrays = read(path)
        version, document = text["skemvae_version"], parse(text["estimator"])
        estimator = Decoder(arrays, models).decode(document)
        if not isinstance(estimator, LatentDensityEstimator):
            raise ValueError(f"it holds a {type(estimator).__name__}, which is no estimator")
    except (OSError, ImportError, MemoryError):
        raise
    except Exception as error:  # whatever is wrong in a hostile file, the answer is one
        reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        # Errors of others may quote the file, and a cause is printed, too.
        said = escaped(reason, _LONGEST_REASON)
        raise ValueError(f"{failure}: {said}.") from (error if said == reason else None)
    return version, estimator
