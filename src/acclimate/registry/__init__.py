"""Signed versions of models, and models by name, path or alias."""
