"""Metrics of a classifier with confidence intervals, and the comparison of two."""
