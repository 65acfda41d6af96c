"""Trained models in other forms: ONNX, 8 bits, Triton, half precision. All but the last need the extra `export`.

To run an exported model, `engine.onnx_model` needs onnxruntime only.
"""
