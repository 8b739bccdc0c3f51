"""Interpolation: from latents to paths, to frames, to filmstrips, videos and numbers."""
