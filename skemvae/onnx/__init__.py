"""Export fitted estimators as ONNX models, which run without Python."""
