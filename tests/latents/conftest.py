"""The generator that latents belong to."""

from tests.inversion.conftest import conditional, stylegan

__all__ = ["conditional", "stylegan"]
