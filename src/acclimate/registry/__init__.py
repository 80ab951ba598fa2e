"""Signed versions of models, and what a name or a path of a model stands for."""
