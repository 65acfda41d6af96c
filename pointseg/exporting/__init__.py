"""Trained models in other forms: ONNX, 8-bit ONNX, a Triton model repository. Needs the extra `export`.

To run an exported model, `engine.onnx_model` needs onnxruntime only.
"""
