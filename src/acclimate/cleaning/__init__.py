"""Which images can be used, and why the others cannot."""
