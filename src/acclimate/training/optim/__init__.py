"""Optimizers, schedules, losses, weight averaging."""
