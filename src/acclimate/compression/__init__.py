"""Smaller and faster, kept only where it is measured to be so."""
