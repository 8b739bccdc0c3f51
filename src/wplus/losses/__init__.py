"""Losses: pure functions or small modules, independent of the training loop."""
