"""Trains a student on the outputs of one or more teachers."""
