"""Training batches: from images, from a user's DataLoader, from cached activations."""
