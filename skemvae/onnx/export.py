"""``to_onnx``: export estimators to ONNX, with metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skemvae._version import __version__
from skemvae.base import LatentDensityEstimator
from skemvae.deep_density import DeepDensity
from skemvae.mixture_density import MixtureDensity
from skemvae.model_density import ModelDensity
from skemvae.models import BayesianMixture
from skemvae.optional import require
from skemvae.persistence.container import file_path, replacing

if TYPE_CHECKING:
    from onnx import ModelProto


def to_onnx(
    estimator: BaseEstimator,
    path: str | PathLike[str] | None = None,
    *,
    dtype: npt.DTypeLike = np.float64,
) -> ModelProto:
    """Export the log density and latent means of a fitted estimator as an ONNX model.

    The model maps ``X`` of shape (n, n_features) to ``log_density`` of shape
    (n,), which is ``score_samples(X)``, and to ``latent`` of shape (n, k), which
    is ``transform(X)``. It raises no errors: for rows that the estimator would
    reject, with NaN, infinity or a value without density, the outputs are NaN.

    Parameters
    ----------
    estimator : EMGaussianMixture, VariationalEM or VAEEstimator
        Fitted. ``VariationalEM`` must have a ``BayesianMixture``; the labels
        of a ``VAEEstimator`` must be numbers.
    path : str or path-like, default=None
        File to write the model to, completely or not at all. None writes no
        file.
    dtype : {numpy.float64, numpy.float32}, default=numpy.float64
        Dtype of X and of the outputs. As in the estimators, mixtures always
        compute in float64, networks in ``dtype``.

    Returns
    -------
    onnx.ModelProto
        The log density is in nats, in the units of X. The metadata hold
        ``feature_names`` (JSON, only if the estimator has them), ``estimator``,
        ``units`` and ``skemvae_version``.

    Raises
    ------
    ImportError
        If onnx is not installed or, for a VAE, onnxscript.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    TypeError
        If the estimator cannot be exported.
    ValueError
        If ``dtype`` is neither of these, or a column has no counterpart in ONNX.

    Notes
    -----
    ``pip install "skemvae[onnx]"`` installs the packages. The models use
    operator set 18 without extensions.

    Examples
    --------
    >>> from skemvae import EMGaussianMixture, to_onnx
    >>> standard_normal = EMGaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
    >>> model = to_onnx(standard_normal)
    >>> [output.name for output in model.graph.output]
    ['log_density', 'latent']
    """
    if dtype not in (np.float64, np.float32, "float64", "float32"):
        raise ValueError(f"dtype={dtype!r} must be numpy.float64 or numpy.float32.")
    build = _builder(estimator)
    model = build(estimator, np.dtype(dtype))
    _describe(model, estimator)
    if path is not None:
        with replacing(file_path(path)) as new:
            new.write_bytes(model.SerializeToString())
    return model


def _builder(estimator: Any) -> Callable[[Any, Any], ModelProto]:
    """Return the function that builds the model; import the packages only now."""
    if not isinstance(estimator, LatentDensityEstimator):
        raise TypeError(
            "to_onnx takes EMGaussianMixture, VAEEstimator and VariationalEM with a "
            f"BayesianMixture, not {type(estimator).__name__}. For a Pipeline or another wrapper, "
            "export the fitted estimator inside; skl2onnx converts the transformers before it."
        )
    check_is_fitted(estimator)
    require("onnx", purpose="to_onnx")
    if isinstance(estimator, MixtureDensity):
        from skemvae.onnx.mixture import gaussian_mixture

        return gaussian_mixture
    if isinstance(estimator, DeepDensity):
        require("onnxscript", purpose="to_onnx of a VAE")
        from skemvae.onnx.vae import vae

        return vae
    if isinstance(estimator, ModelDensity) and isinstance(estimator.model_, BayesianMixture):
        from skemvae.onnx.mixture import bayesian_mixture

        return bayesian_mixture
    raise TypeError(
        f"to_onnx cannot export {estimator!r}: its posterior is found by iterations, which have "
        "no fixed graph. Use a BayesianMixture or a VAEEstimator."
    )


def _describe(model: ModelProto, estimator: Any) -> None:
    """Add a description to the model, and remove traces of how it was built."""
    from onnx import helper

    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
    name = type(estimator).__name__
    model.producer_name, model.producer_version = "skemvae", __version__
    model.doc_string = (
        f"{name} of skemvae: log_density is log p(x) of each row in nats, in the units of X; "
        "latent is the posterior mean of z. Both are NaN for rows that the estimator would reject."
    )
    metadata = {"skemvae_version": __version__, "estimator": name, "units": "nats"}
    if hasattr(estimator, "feature_names_in_"):
        metadata["feature_names"] = json.dumps(estimator.feature_names_in_.tolist())
    helper.set_model_props(model, metadata)
