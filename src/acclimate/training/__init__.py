"""The training session: plan, batches, optimizers, loop, checkpoints."""
