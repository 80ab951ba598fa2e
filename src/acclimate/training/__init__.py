"""The one training loop and the stages that use it."""
