"""ONNX Runtime: any graph, any device."""
