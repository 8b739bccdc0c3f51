"""Many samples of z through the mapping network, without its copies for every layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK = 1000  # samples mapped at once: mapping is cheap, but returns num_ws copies of w


def map_samples(generator: Any, z: Tensor, labels: Tensor | None) -> Tensor:
    """z (N, z_dim) and labels (N, c_dim), (c_dim,) or None -> w (N, w_dim) on the generator's device.

    A conditional generator without labels gets all of its classes in turn.
    """
    device = generator.mapping.w_avg.device
    if labels is None and generator.c_dim:
        labels = torch.eye(generator.c_dim).repeat(-(-len(z) // generator.c_dim), 1)[: len(z)]
    if labels is not None:
        labels = labels.expand(len(z), -1).to(device)
    chunks = range(0, len(z), _CHUNK)
    some = [(z[i : i + _CHUNK].to(device), None if labels is None else labels[i : i + _CHUNK]) for i in chunks]
    return torch.cat([generator.mapping(some_z, some_labels)[:, 0] for some_z, some_labels in some])
