"""The stages, the order in which `run` uses them, and what flows between them."""
