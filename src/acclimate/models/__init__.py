"""Classifiers: where they come from, how they are kept, exported and run."""
