"""VAEs as ONNX graphs: torch's exporter traces the networks and the importance sampling."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import singledispatch
from numbers import Integral
from typing import Any, NamedTuple

import onnx
import torch
from onnxscript import opset18 as op
from sklearn.utils import check_scalar
from torch import Tensor, nn

from skemvae.likelihoods.units import (
    LARGEST_COUNT,
    Binary,
    Categories,
    Continuous,
    Counts,
    Logarithmic,
    Units,
)
from skemvae.posteriors.gaussians import PriorDensity
from skemvae.posteriors.importance import Nodes, log_evidence, log_weights
from skemvae.validation import shown


def vae(estimator: Any, dtype: Any) -> onnx.ModelProto:
    """The ONNX model of a fitted ``VAEEstimator``."""
    check_scalar(estimator.n_score_samples, "n_score_samples", Integral, min_val=1)
    kind = {"float64": torch.float64, "float32": torch.float32}[dtype.name]
    graph = _Graph(estimator, kind).eval()
    if kind == torch.float64 and graph.vae.encoder.hidden.activation == "gelu":
        raise ValueError(
            "activation='gelu' needs the error function, which onnxruntime has in float32 only: "
            "pass dtype=numpy.float32."
        )
    rows = torch.zeros(2, estimator.n_features_in_, dtype=kind)
    graph(rows)  # raise our own errors here, because the exporter would wrap them
    with _quiet():
        program = torch.onnx.export(
            graph,
            (rows,),
            dynamo=True,
            verbose=False,
            opset_version=18,
            input_names=["X"],
            output_names=["log_density", "latent"],
            dynamic_shapes={"X": {0: torch.export.Dim("n")}},
            custom_translation_table=_TRANSLATIONS,
        )
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the messages of the exporter; its errors are still raised."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # torch uses a function that it has itself deprecated.
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class _Graph(nn.Module):
    """log p(x) and E_q[z | x] of rows, computed as in ``networks.inference.Inference``."""

    def __init__(self, estimator: Any, kind: torch.dtype):
        super().__init__()
        self.vae = copy.deepcopy(estimator.module_).to("cpu", kind).requires_grad_(False)
        table = estimator._table
        self.columns = [torch.tensor(columns) for columns in table.columns]
        self.units = table.blocks
        self.log_volume = table.log_volume
        like = torch.empty(0, dtype=kind)
        n_samples, seed = estimator.n_score_samples, estimator._score_seed
        self.nodes = Nodes.of(n_samples, self.vae.n_components, seed, like)
        density = self.vae.prior_density()
        points = density.at(self.nodes.choice, self.nodes.prior_noise)
        self.prior = _PriorWithPoints(density, points)

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        wide = X.double()
        parts = [
            _codes(units, wide[:, columns])
            for units, columns in zip(self.units, self.columns, strict=True)
        ]
        codes = torch.cat([part.codes for part in parts], -1).to(X.dtype)
        q = self.vae.posterior(codes)
        weights = log_weights(
            lambda z: self.vae.decoder.log_prob(codes, z), self.prior, q, self.nodes
        )
        log_density = log_evidence(*weights)[0] - self.log_volume
        scored = torch.cat([part.has_density for part in parts], -1).all(-1)
        encoded = torch.cat([part.has_code for part in parts], -1).all(-1, keepdim=True)
        return (
            torch.where(scored, log_density, math.nan),
            torch.where(encoded, q.mean, math.nan),
        )


@dataclass(frozen=True)
class _PriorWithPoints:
    """A prior with points drawn beforehand, because ONNX could not choose their components."""

    density: PriorDensity
    points: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        return self.density.log_prob(z)

    def at(self, choice: Tensor, noise: Tensor) -> Tensor:
        return self.points


# The same as `Units.encode`, with masks for values that it would reject.


class _Codes(NamedTuple):
    codes: Tensor
    has_density: Tensor
    has_code: Tensor


@singledispatch
def _codes(units: Units, X: Tensor) -> _Codes:
    raise ValueError(
        f"Columns {shown(list(units.names))} are in units of type {type(units).__name__}, which "
        "have no counterpart in ONNX: use the library's own likelihoods."
    )


@_codes.register
def _(units: Continuous, X: Tensor) -> _Codes:
    finite = X.isfinite()
    return _Codes((X - torch.tensor(units.shift)) / torch.tensor(units.scale), finite, finite)


@_codes.register
def _(units: Logarithmic, X: Tensor) -> _Codes:
    positive = X.isfinite() & (X > 0)
    logarithms = torch.where(positive, X, 1.0).log()
    codes = (logarithms - torch.tensor(units.shift)) / torch.tensor(units.scale)
    return _Codes(codes, positive, positive)


@_codes.register
def _(units: Binary, X: Tensor) -> _Codes:
    return _Codes(X, (X == 0) | (X == 1), (X >= 0) & (X <= 1))


@_codes.register
def _(units: Counts, X: Tensor) -> _Codes:
    is_count = (X >= 0) & (X <= LARGEST_COUNT) & (X.floor() == X)
    return _Codes(X, is_count, is_count)


@_codes.register
def _(units: Categories, X: Tensor) -> _Codes:
    if not units.all_numbers:
        raise ValueError(
            f"Columns {shown(list(units.names))} hold labels that are not numbers, but X is a "
            "tensor of numbers: write the labels as numbers before the fit."
        )
    columns = []
    for column, labels in zip(X.split(1, -1), units.labels, strict=True):
        # Count from 1, so that 0 is left for labels not seen in fit.
        numbers = torch.arange(1, len(labels) + 1, dtype=X.dtype)
        is_label = column == torch.tensor(labels, dtype=X.dtype)
        columns.append((is_label * numbers).sum(-1, keepdim=True) - 1)
    known = ~X.isnan()
    return _Codes(torch.cat(columns, -1), known, known)


# Operators that the exporter lacks, or translates with a loss of precision.


def _double(value: float) -> Any:
    return op.Constant(value=onnx.helper.make_tensor("value", onnx.TensorProto.DOUBLE, [], [value]))


def _scalar_tensor(
    s: float, dtype: int = -1, layout: str = "", device: str = "", pin_memory: bool = False
) -> Any:
    """A constant; the exporter's own goes through float32."""
    return op.Cast(_double(s), to=dtype)


def _logaddexp(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b)); the exporter's own overflows and underflows."""
    fall = op.Neg(op.Abs(op.Sub(a, b)))
    one = op.CastLike(_double(1.0), a)
    return op.Add(op.Max(a, b), op.Log(op.Add(one, op.Exp(fall))))


def _softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(x)), which onnxruntime lacks in float64; only beta = 1 is needed here."""
    assert beta == 1
    return _logaddexp(x, op.CastLike(_double(0.0), x))


# Coefficients of Stirling's series in 1 / x.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)


def _lgamma(x: Any) -> Any:
    """log Γ(x) for x > 0: Stirling's series at x + 8, and the recurrence down from there."""
    wide = op.Cast(x, to=onnx.TensorProto.DOUBLE)
    product = wide
    for i in range(1, 8):
        product = op.Mul(product, op.Add(wide, _double(i)))
    y = op.Add(wide, _double(8.0))
    inverse = op.Div(_double(1.0), y)
    square = op.Mul(inverse, inverse)
    series = _double(0.0)
    for coefficient in reversed(_STIRLING):
        series = op.Add(op.Mul(series, square), _double(coefficient))
    leading = op.Mul(op.Sub(y, _double(0.5)), op.Log(y))
    rest = op.Add(_double(0.5 * math.log(2 * math.pi)), op.Mul(series, inverse))
    value = op.Sub(op.Add(op.Sub(leading, y), rest), op.Log(product))
    return op.CastLike(value, x)


_TRANSLATIONS = {
    torch.ops.aten.scalar_tensor.default: _scalar_tensor,
    torch.ops.aten.logaddexp.default: _logaddexp,
    torch.ops.aten.softplus.default: _softplus,
    torch.ops.aten.lgamma.default: _lgamma,
}
