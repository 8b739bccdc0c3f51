"""Losses: pure functions or small modules; none knows of training."""
