"""Augmentations of training images, and the test which of them keep labels true."""
