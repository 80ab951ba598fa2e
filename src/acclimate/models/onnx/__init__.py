"""Export to ONNX, and ONNX files of other makers."""
