"""A low-pass filter in front of the discriminator that fades by the clock (StyleGAN3, Karras et al. 2021; StyleGAN-XL).

Early on it hides from the discriminator the detail by which it would win. Augmentation comes after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.training.augment.pipeline import Sampled


def faded_sigma(sigma: float, nimg: int, *, fade_kimg: float) -> float:
    """sigma (1 - nimg / fade), in px, down to 0."""
    return sigma * max(1 - nimg / (1000 * fade_kimg), 0.0)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Images (N, C, H, W) filtered by 2^-(x / sigma)^2 along both axes, |x| <= 3 sigma in px, zeros outside.

    The authors' code has this base of 2: in the usual terms the deviation is 0.85 sigma.
    """
    size = math.floor(3 * sigma)
    if size < 1:
        return images
    steps = torch.arange(-size, size + 1, dtype=torch.float32, device=images.device)
    taps = torch.exp2(-(steps / sigma).square())
    row = (taps / taps.sum()).to(images).expand(images.shape[1], 1, 1, -1)
    images = F.conv2d(images, row, padding=(0, size), groups=images.shape[1])
    return F.conv2d(images, row.transpose(2, 3), padding=(size, 0), groups=images.shape[1])


@dataclass(frozen=True)
class Blurred:
    """A sampled augmentation of images that are blurred first."""

    augment: Sampled
    sigma: float

    def take(self, index: Tensor | slice) -> Blurred:
        """The part that belongs to the images `index`."""
        return replace(self, augment=self.augment.take(index))

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> the same shape."""
        return self.augment(gaussian_blur(images, self.sigma))
