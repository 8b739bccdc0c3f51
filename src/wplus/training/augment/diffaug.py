"""DiffAugment (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", arXiv:2006.10738).

Every image, real or generated, goes through every operation of the policy with its own random parameters. All
operations are twice differentiable, and images are processed independently of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core.distributed import rank_and_world
from wplus.errors import UserError, check_number
from wplus.training.augment.control import NoAugment


@dataclass(frozen=True)
class Sizes:
    """Strengths of the operations, as fractions of the image size."""

    translation: float
    cutout: float


def color(x: Tensor, draw: Tensor, sizes: Sizes) -> Tensor:
    """Change brightness by +-0.5, then saturation by x 0..2, then contrast by x 0.5..1.5; `draw` (N, 3) in [0, 1)."""
    brightness, saturation, contrast = (part[:, None, None, None] for part in draw.unbind(dim=1))
    x = x + (brightness - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def translation(x: Tensor, draw: Tensor, sizes: Sizes) -> Tensor:
    """Translate by whole pixels, uniformly up to the fraction `sizes.translation` either way, with zero padding."""
    for axis, side in enumerate(x.shape[2:]):
        most = int(side * sizes.translation + 0.5)
        moved = _whole(draw[:, axis], 2 * most + 1)  # output i is read at i + moved in the padded image
        padded = F.pad(x, (0, 0, most, most) if axis == 0 else (most, most, 0, 0))
        at = torch.arange(side, device=x.device) + moved[:, None]  # (N, side)
        at = at[:, None, :, None] if axis == 0 else at[:, None, None, :]
        x = padded.gather(2 + axis, at.expand(x.shape))
    return x


def cutout(x: Tensor, draw: Tensor, sizes: Sizes) -> Tensor:
    """Zero out a square of side fraction `sizes.cutout`, centred anywhere, so that it may extend past the border."""
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for axis, side in enumerate(x.shape[2:]):
        size = int(side * sizes.cutout + 0.5)
        first = _whole(draw[:, axis], side + 1 - size % 2) - size // 2
        steps = torch.arange(side, device=x.device)
        hit = (steps >= first[:, None]) & (steps < first[:, None] + size)  # (N, side)
        inside = inside & (hit[:, :, None] if axis == 0 else hit[:, None, :])
    return x * (~inside)[:, None]


def _whole(draw: Tensor, count: int) -> Tensor:
    """Map [0, 1) to 0..count-1."""
    return (draw * count).long().clamp(max=count - 1)


OPERATIONS: dict[str, tuple[Callable[[Tensor, Tensor, Sizes], Tensor], int]] = {  # with parameters per image
    "color": (color, 3),
    "translation": (translation, 2),
    "cutout": (cutout, 2),
}


@dataclass(frozen=True)
class SampledDiffAugment:
    """A sampled augmentation of a batch: operation -> its random parameters (N, k) in [0, 1)."""

    draws: Mapping[str, Tensor]
    sizes: Sizes

    def take(self, index: Tensor | slice) -> SampledDiffAugment:
        """Return the part for the images `index`."""
        return replace(self, draws={name: draw[index] for name, draw in self.draws.items()})

    def __call__(self, images: Tensor) -> Tensor:
        """Augment images (N, C, H, W) with values around [-1, 1]; the result is not clamped."""
        for name, draw in self.draws.items():
            images = OPERATIONS[name][0](images, draw, self.sizes)
        return images


class DiffAugment(NoAugment):
    """Applies the operations of a policy to all real and generated images, with constant strength.

    Args:
        policy: operations in order, separated by commas: color, translation, cutout.
        translation: maximum translation, as a fraction of the image size, in [0, 1].
        cutout: side of the square, as a fraction of the image's, in [0, 1]; 0.5 as published, 0.2 in Projected GAN.
    """

    def __init__(
        self, policy: str = "color,translation,cutout", *, translation: float = 0.125, cutout: float = 0.5
    ) -> None:
        super().__init__()
        self.names = [name.strip() for name in policy.split(",")]
        unknown = [name for name in self.names if name not in OPERATIONS]
        if unknown or len(set(self.names)) < len(self.names):
            raise UserError(f"policy must be some of {','.join(OPERATIONS)}, each once, got '{policy}'.")
        for name, value in (("translation", translation), ("cutout", cutout)):
            check_number(f"augment.{name}", value, lowest=0, highest=1)
        self.sizes = Sizes(translation=translation, cutout=cutout)
        self.fingerprint: dict[str, Any] = {
            "policy": ",".join(self.names), "translation": translation, "cutout": cutout,
        }  # fmt: skip

    def sample(self, images: Tensor) -> SampledDiffAugment:
        """Sample for a batch like `images` (N, C, H, W), from torch's generator: draw for all processes, then slice."""
        rank, world = rank_and_world()
        num = len(images) * world
        draws = {name: torch.rand(num, OPERATIONS[name][1], device=images.device) for name in self.names}
        return SampledDiffAugment({name: draw[rank::world] for name, draw in draws.items()}, self.sizes)
