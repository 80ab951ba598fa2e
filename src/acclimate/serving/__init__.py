"""Answers for images that nobody has labelled."""
