"""One page that a person reads."""
