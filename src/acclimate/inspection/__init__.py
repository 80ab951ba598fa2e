"""What networks say of the images and of their labels."""
