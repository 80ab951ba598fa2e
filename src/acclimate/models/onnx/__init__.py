"""Export to ONNX, and ONNX files from other programs."""
