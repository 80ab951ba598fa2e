"""Where batches come from: images, a user's DataLoader, kept activations."""
