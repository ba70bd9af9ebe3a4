"""Fitted estimators as ONNX models, which run without Python."""

from skemvae.onnx.export import to_onnx

__all__ = ["to_onnx"]
