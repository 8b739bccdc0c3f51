"""Directions in latent space: find them with or without labels, store them with their generator, apply them."""
