"""The noise maps as unknowns: kept white, so that they cannot take over the picture (StyleGAN2, appendix D)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

_SMALLEST = 8  # pixels; the pyramid of the regulariser ends there


def white(noise: Tensor, eps: float = 1e-12) -> Tensor:
    """Maps (N, 1, r, r) with mean 0 and mean square 1, each image's on its own."""
    centred = noise - noise.mean(dim=(1, 2, 3), keepdim=True)
    return centred * (centred.square().mean(dim=(1, 2, 3), keepdim=True) + eps).rsqrt()


def autocorrelation(noise: Sequence[Tensor]) -> Tensor:
    """NVlabs' noise regulariser per image, (N,): squared correlation with the map shifted by one pixel.

    Summed over maps (N, 1, r, r), both axes, and a pyramid of each map down to 8 pixels. The squares are those of each
    image's own mean; averaging over the batch first, as is sometimes done, would tie the images together.
    """
    total = noise[0].new_zeros(len(noise[0]))
    for level in noise:
        while True:
            total = total + sum((level * level.roll(1, dims=axis)).mean(dim=(1, 2, 3)).square() for axis in (2, 3))
            if level.shape[2] <= _SMALLEST:
                break
            level = F.avg_pool2d(level, 2)
    return total
