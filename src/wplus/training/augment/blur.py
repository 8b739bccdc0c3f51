"""A blur of the discriminator's inputs that fades out over time (StyleGAN3, Karras et al. 2021; StyleGAN-XL).

Early in training it hides the details by which the discriminator would win. Augmentation is applied after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.training.augment.pipeline import Sampled


def faded_sigma(sigma: float, nimg: int, *, fade_kimg: float) -> float:
    """Return sigma (1 - nimg / fade), in px, at least 0."""
    return sigma * max(1 - nimg / (1000 * fade_kimg), 0.0)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Filter images (N, C, H, W) with 2^-(x / sigma)^2 along both axes, |x| <= 3 sigma in px, with zero padding.

    The base of 2 follows the authors' code; the standard deviation is 0.85 sigma.
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
    """A sampled augmentation that is preceded by a blur."""

    augment: Sampled
    sigma: float

    def take(self, index: Tensor | slice) -> Blurred:
        """Return the part for the images `index`."""
        return replace(self, augment=self.augment.take(index))

    def __call__(self, images: Tensor) -> Tensor:
        """Augment images (N, C, H, W); the shape does not change."""
        return self.augment(gaussian_blur(images, self.sigma))
