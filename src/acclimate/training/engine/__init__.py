"""The training loop: steps, checkpoints, divergence, processes, memory."""
