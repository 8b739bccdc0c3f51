"""Exponential moving average of the generator's weights, with half-life and ramp-up counted in images."""

from __future__ import annotations

import torch
from torch import nn


def ema_decay(batch_size: int, nimg: int, *, half_life_kimg: float, rampup: float | None) -> float:
    """beta = 0.5^(batch / half-life), the half-life at most `rampup` times the images seen (StyleGAN2-ADA)."""
    half_life = half_life_kimg * 1000
    if rampup is not None:
        half_life = min(half_life, nimg * rampup)
    return 0.5 ** (batch_size / max(half_life, 1e-8))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * network for parameters; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    buffers = list(average.buffers())
    if buffers:
        torch._foreach_copy_(buffers, list(network.buffers()))
