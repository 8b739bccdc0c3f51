"""Latents to paths, paths to frames, frames to strip, video and numbers."""
