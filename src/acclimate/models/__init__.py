"""Classifiers: loading, saving, adapting and running them."""
