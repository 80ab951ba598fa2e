"""Finds probable label errors and outliers, with cross-validated classifiers."""
