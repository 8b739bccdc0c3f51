"""Progressive growing of networks (ProGAN, Karras et al. 2018, section 2): the level of detail, and images at it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Growth(nn.Module):
    """Level of detail `lod` of a network: 0 is full resolution, each 1 more halves it, and in between the higher
    resolution fades in. It is a buffer, so that files include it."""

    lod: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lod", torch.zeros(()))
        self.value = 0.0  # copy on the host: reading the buffer would wait for the device
        self.register_load_state_dict_post_hook(lambda module, _: module.set(float(module.lod)))

    def set(self, lod: float) -> None:
        """Set the level of detail to `lod`, at least 0."""
        self.value = float(torch.tensor(lod, dtype=torch.float32))
        self.lod.fill_(self.value)

    @property
    def level(self) -> int:
        """Number of top resolutions not in use."""
        return int(self.value)

    @property
    def fade(self) -> float:
        """Weight of the image at the resolution below, in [0, 1) (1 - alpha in the paper)."""
        return self.value - self.level


def set_lod(network: nn.Module, lod: float) -> None:
    """Set the level of detail of every part of a progressive network."""
    for module in network.modules():
        if isinstance(module, Growth):
            module.set(lod)


def upsample_nearest(images: Tensor, factor: int) -> Tensor:
    """Repeat each pixel `factor` times in both directions."""
    return images if factor == 1 else F.interpolate(images, scale_factor=factor, mode="nearest")


def downsample_mean(images: Tensor, factor: int) -> Tensor:
    """Average over blocks of `factor` by `factor` pixels."""
    return images if factor == 1 else F.avg_pool2d(images, factor)


def at_lod(images: Tensor, lod: float) -> Tensor:
    """Real images (N, C, H, W) reduced to the detail of a generator at `lod`, at full size (ProGAN, figure 2)."""
    level = int(lod)
    small = downsample_mean(images, 2**level)
    if lod > level:
        small = small.lerp(upsample_nearest(downsample_mean(small, 2), 2), lod - level)
    return upsample_nearest(small, 2**level)
