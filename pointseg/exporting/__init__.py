"""Trained models in other forms: ONNX, 8-bit ONNX, a Triton model repository. Needs the extra `export`.

Nothing is imported here: `runtime`, which runs an exported model, needs onnxruntime only.
"""
