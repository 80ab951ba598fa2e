"""A student network learns from one or more teachers."""
