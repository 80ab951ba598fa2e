"""Fine-tunes a pretrained classifier on the user's classes."""
