"""Mixtures as ONNX graphs: standardise, whiten, sum the squares, apply Bayes' rule.

Axes are components, rows, features, in this order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from skemvae.core.arrays import Array
from skemvae.core.rows import FAR, Frame
from skemvae.structures.dense import as_matrices
from skemvae.structures.matrices import MatrixCovariance

# Subtract before whitening, as in `core.scan.DifferenceScan`, to be accurate wherever the means
# lie. 0 x is NaN where x is not finite; `doubt` carries that to the outputs.
_GAUSSIAN = """
    rows = Cast <to = 11> (X)
    zeros = Mul (rows, zero)
    doubt = ReduceSum <keepdims = 0> (zeros, last)
    shifted = Sub (rows, origin)
    scaled = Mul (shifted, inverse_scale)
    z = Clip (scaled, nearest, furthest)
    differences = Sub (z, means)
    whitened = {whiten} (differences, precision_cholesky)
    squares = Mul (whitened, whitened)
    distances = ReduceSum <keepdims = 0> (squares, last)
    halves = Mul (half, distances)
    log_joint = Sub (log_normaliser, halves)
"""

# As in `core.scan.StudentMetric`, or `StudentProductMetric` if each feature is a group.
_STUDENT = """
    groups = {group}
    odds = Mul (shrinkage, groups)
    likely = Add (one, odds)
    logs = Log (likely)
    log_distances = ReduceSum <keepdims = 0> (logs, last)
    falls = Mul (half_power, log_distances)
    log_predictive = Sub (predictive_log_normaliser, falls)
"""

# As in `core.bound.Posterior`: if all components have density 0, the log density is -inf and the
# responsibilities are equal. Clip before Exp, since some runtimes do not map -inf to 0.
_BAYES = """
    largest = ReduceMax <keepdims = 1> ({log_density}, first)
    finite = Clip ({log_density}, lowest)
    shift = Clip (largest, lowest)
    relative = Sub (finite, shift)
    weights = Exp (relative)
    total = ReduceSum <keepdims = 1> (weights, first)
    log_total = Log (total)
    log_evidence = Add (largest, log_total)
    log_evidence_of_rows = Squeeze (log_evidence, first)
    in_units_of_x = Sub (log_evidence_of_rows, log_volume)
    with_doubt = Add (in_units_of_x, doubt)
    log_density = Cast <to = {code}> (with_doubt)
    finite_joint = Clip (log_joint, lowest)
    by_component = Softmax <axis = 0> (finite_joint)
    doubted = Add (by_component, doubt)
    responsibilities = Transpose <perm = [1, 0]> (doubted)
    latent = Cast <to = {code}> (responsibilities)
"""

_GRAPH = """
<ir_version: 10, opset_import: ["" : 18]>
mixture ({dtype}[n, {d}] X) => ({dtype}[n] log_density, {dtype}[n, {k}] latent) {{{body}}}
"""


def gaussian_mixture(estimator: Any, dtype: Any) -> onnx.ModelProto:
    """The ONNX model of a fitted ``EMGaussianMixture``."""
    mixture = estimator._mixture()
    frame = mixture.frame()
    mixture = mixture.into(frame)
    covariance = as_matrices(mixture.covariance)
    arrays = _components(mixture.means, covariance, mixture.log_normaliser, frame)
    return _model(_GAUSSIAN + _BAYES, arrays, covariance, "log_joint", dtype)


def bayesian_mixture(estimator: Any, dtype: Any) -> onnx.ModelProto:
    """The ONNX model of a fitted ``VariationalEM`` with a ``BayesianMixture``.

    The density is the predictive one, a mixture of Student's t. The
    responsibilities are those of q, whose log joint density is Gaussian in form.
    """
    frame = estimator.model_._frame
    mixture = estimator.model_._mixture.into(frame)
    components, predictive = mixture.q.components, mixture.predictive()
    student = predictive.scan()
    arrays = {
        **_components(components.mean, components.covariance, mixture.log_normaliser, frame),
        "one": np.array(1.0),
        "shrinkage": student.shrinkage[:, None, None],
        "half_power": student.power[:, None] / 2,
        "predictive_log_normaliser": predictive.log_normaliser[:, None],
    }
    body = _GAUSSIAN + _STUDENT + _BAYES
    return _model(body, arrays, components.covariance, "log_predictive", dtype)


def _components(
    means: Array, covariance: MatrixCovariance, log_normaliser: Array, frame: Frame
) -> dict[str, Any]:
    """The constants of ``_GAUSSIAN`` and ``_BAYES`` for components in a frame."""
    factors = covariance.precision_cholesky
    return {
        "zero": np.array(0.0),
        "half": np.array(0.5),
        "first": np.array([0]),
        "last": np.array([-1]),
        "lowest": np.array(np.finfo(np.float64).min),
        "nearest": np.array(-FAR),
        "furthest": np.array(FAR),
        "origin": frame.origin,
        "inverse_scale": 1 / frame.scale,
        "log_volume": np.array(frame.log_volume),
        "means": means[:, None, :],
        "precision_cholesky": factors if factors.ndim == 3 else factors[:, None, :],
        "log_normaliser": log_normaliser[:, None],
    }


def _model(
    body: str, arrays: dict[str, Any], covariance: MatrixCovariance, log_density: str, dtype: Any
) -> onnx.ModelProto:
    """Insert the operators that depend on the covariance structure, and parse the graph."""
    code = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    by_feature = covariance.radial_size == 1
    body = body.format(
        whiten="MatMul" if covariance.precision_cholesky.ndim == 3 else "Mul",
        group="Identity (squares)" if by_feature else "ReduceSum <keepdims = 1> (squares, last)",
        log_density=log_density,
        code=code,
    )
    k, d = covariance.n_components, covariance.n_features
    name = {"float64": "double", "float32": "float"}[dtype.name]
    model = parser.parse_model(_GRAPH.format(dtype=name, d=d, k=k, body=body))
    constants = [numpy_helper.from_array(a, n) for n, a in arrays.items()]
    model.graph.initializer.extend(constants)
    return model
