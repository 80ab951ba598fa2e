"""Pruning and quantization, kept only if the result is measured to be smaller or faster."""
