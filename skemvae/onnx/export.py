"""``to_onnx``: which estimators have an ONNX model, and what is written beside it."""

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
    """Write density and latent means of a fitted estimator as an ONNX model.

    The model maps ``X`` of shape (n, n_features) to ``log_density`` of shape
    (n,), which is ``score_samples(X)``, and to ``latent`` of shape (n, k), which
    is ``transform(X)``. It raises no errors: where the estimator would refuse
    a row, because it holds NaN, infinity or a value without density, the
    outputs are NaN.

    Parameters
    ----------
    estimator : EMGaussianMixture, VariationalEM or VAEEstimator
        Fitted. ``VariationalEM`` with a ``BayesianMixture``, ``VAEEstimator``
        without labels that are not numbers.
    path : str or path-like, default=None
        Where to write the model, all or nothing. None means nowhere.
    dtype : {numpy.float64, numpy.float32}, default=numpy.float64
        Of X and of the outputs. As in the estimators, mixtures compute in
        float64 either way, networks in ``dtype``.

    Returns
    -------
    onnx.ModelProto
        Outputs are in nats, in the units of X. Its metadata hold
        ``feature_names`` (JSON, only if the estimator has them), ``estimator``,
        ``units`` and ``skemvae_version``.

    Raises
    ------
    ImportError
        If onnx is not installed or, for a VAE, onnxscript.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    TypeError
        If such an estimator has no ONNX model.
    ValueError
        If ``dtype`` is another one, or a column has no counterpart in ONNX.

    Notes
    -----
    The packages come with ``pip install "skemvae[onnx]"``. The models use
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
    """The function that makes such models; only here packages are imported."""
    if not isinstance(estimator, LatentDensityEstimator):
        raise TypeError(
            "to_onnx takes EMGaussianMixture, VAEEstimator and VariationalEM with a "
            f"BayesianMixture, not {type(estimator).__name__}. Of a Pipeline or another wrapper "
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
        f"to_onnx has no model for {estimator!r}: the posterior of a row is found by iterations, "
        "which is no fixed graph. A BayesianMixture and a VAEEstimator have one."
    )


def _describe(model: ModelProto, estimator: Any) -> None:
    """Write what the model is into it, and nothing of how it was made."""
    from onnx import helper

    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
    name = type(estimator).__name__
    model.producer_name, model.producer_version = "skemvae", __version__
    model.doc_string = (
        f"{name} of skemvae: log_density is log p(x) of each row in nats, in the units of X; "
        "latent is the posterior mean of z. NaN where the estimator would refuse a row."
    )
    metadata = {"skemvae_version": __version__, "estimator": name, "units": "nats"}
    if hasattr(estimator, "feature_names_in_"):
        metadata["feature_names"] = json.dumps(estimator.feature_names_in_.tolist())
    helper.set_model_props(model, metadata)
