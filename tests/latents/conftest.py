"""The generator that latents belong to, and contents of a latent and a weight delta."""

import dataclasses
import json

import torch

from tests.inversion.conftest import stylegan

__all__ = ["content", "stylegan"]


def content(of: object) -> str:
    """All fields of a dataclass, to the last bit."""
    return json.dumps(dataclasses.asdict(of), default=torch.Tensor.tolist, sort_keys=True)
