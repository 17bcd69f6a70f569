"""Sources: what can be run. A torch module, a program with its weights, a bundle, an ONNX model."""
