"""Augmentation of training images, and the policy that keeps their labels valid."""
