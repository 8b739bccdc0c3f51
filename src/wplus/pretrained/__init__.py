"""Frozen pretrained networks with their weights, preprocessing and hashes, and the attribute classifier."""
