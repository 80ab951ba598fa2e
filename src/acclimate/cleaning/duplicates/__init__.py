"""Exact copies, near-duplicates, and the groups that they form."""
