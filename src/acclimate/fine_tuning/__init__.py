"""A pretrained classifier learns the user's classes."""
