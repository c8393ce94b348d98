"""Losses, optimiser, the training loop, checkpoints."""
