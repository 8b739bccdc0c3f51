"""The latent spaces, one idea each; see `wplus.latents.space`."""
