"""Searches for the settings of fine-tuning."""
