"""Latents: the typed latent and its file, the distribution of w, interpolation between vectors, weight deltas."""
