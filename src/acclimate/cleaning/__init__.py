"""Decides which images can be used, and gives the reason for each that cannot."""
