"""Directions in latent space: found without labels or with them, stored with their generator, applied."""
