"""The generator that latents belong to, and what a latent or a weight delta holds."""

import dataclasses
import json

import torch

from tests.inversion.conftest import stylegan

__all__ = ["content", "stylegan"]


def content(of: object) -> str:
    """All fields of a dataclass, to the last bit."""
    return json.dumps(dataclasses.asdict(of), default=torch.Tensor.tolist, sort_keys=True)
