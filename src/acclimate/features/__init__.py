"""Cached features of the frozen backbone, and linear heads fitted on them."""
