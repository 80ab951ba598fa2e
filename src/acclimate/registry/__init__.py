"""Versions: signed, listed, promoted, rolled back."""
