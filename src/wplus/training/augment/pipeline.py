"""Sampling of augmentation transforms for the images of a batch (ADA, section 2 and appendix B).

Every transform is applied to an image with probability p times its multiplier, independently of the others. All
geometric transforms are fused into one matrix and one resampling, all color transforms into another matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from wplus.core.distributed import rank_and_world
from wplus.errors import check_choice, check_number
from wplus.models.ops import constant
from wplus.training.augment import operations as ops
from wplus.training.augment.filters import NUM_BANDS

_GROUPS = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
FAMILIES: dict[str, tuple[str, ...]] = dict(_GROUPS)
for _num in range(2, len(_GROUPS) + 1):  # bg is the first two groups, bgc the first three, up to bgcfnc
    FAMILIES["bgcfnc"[:_num]] = sum(list(_GROUPS.values())[:_num], ())
TRANSFORMS = FAMILIES["bgcfnc"]
IMAGE_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # expected fraction of an image's power in each band, about 1/f


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Strengths of the transforms; the defaults are the published ones."""

    xint_max: float = 0.125
    """Integer translation: uniform up to this fraction of the image size."""
    scale_std: float = 0.2
    """Isotropic scaling: by 2^x, with x normal with this standard deviation."""
    rotate_max: float = 1.0
    """Rotation: uniform up to this fraction of half a turn in either direction."""
    aniso_std: float = 0.2
    """Anisotropic scaling: by 2^x and 2^-x."""
    xfrac_std: float = 0.125
    """Fractional translation: normal, as a fraction of the image size."""
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    """Contrast: times 2^x."""
    hue_max: float = 1.0
    """Hue: uniform up to this fraction of half a turn in either direction."""
    saturation_std: float = 1.0
    """Saturation: times 2^x."""
    imgfilter_std: float = 1.0
    """Filtering: every band times 2^x."""
    noise_std: float = 0.1
    """Noise: its standard deviation is half-normal with this scale."""
    cutout_size: float = 0.5
    """Cutout: sides of the rectangle as a fraction of the image's."""

    def __post_init__(self) -> None:
        for field in fields(self):
            check_number(f"strengths.{field.name}", getattr(self, field.name), lowest=0)


class BatchRng:
    """Random numbers for the images of a batch over all processes, from torch's generator of their device."""

    def __init__(self, images: Tensor) -> None:
        self.num, self.device = len(images) * rank_and_world()[1], images.device
        self.channels, self.height, self.width = images.shape[1:]

    def uniform(self, limit: float) -> Tensor:
        """Return (N,) samples uniform in [-limit, limit)."""
        return (torch.rand(self.num, device=self.device) * 2 - 1) * limit

    def normal(self, std: float) -> Tensor:
        """Return (N,) normal samples with mean 0."""
        return torch.randn(self.num, device=self.device) * std

    def whole(self, count: int) -> Tensor:
        """Return (N,) samples from 0..count-1, as floats."""
        return torch.randint(count, (self.num,), device=self.device).float()

    def happens(self, probability: Tensor) -> Tensor:
        """Return (N,) booleans that are true with `probability`."""
        return torch.rand(self.num, device=self.device) < probability


Transform = Callable[[BatchRng, Strengths], Tensor]  # -> a matrix per image

# In order of composition. The second rotation rotates the axes of the anisotropic scaling.
GEOMETRIC: tuple[tuple[str, Transform], ...] = (
    ("xflip", lambda rng, s: ops.scaling(1 - 2 * rng.whole(2), torch.ones(rng.num, device=rng.device))),
    ("rotate90", lambda rng, s: ops.quarter_turns(rng.whole(4))),
    ("xint", lambda rng, s: ops.translation((rng.uniform(s.xint_max) * rng.width).round(),
                                            (rng.uniform(s.xint_max) * rng.height).round())),
    ("scale", lambda rng, s: ops.scaling(*[rng.normal(s.scale_std).exp2()] * 2)),
    ("rotate", lambda rng, s: ops.rotation(rng.uniform(math.pi * s.rotate_max))),
    ("aniso", lambda rng, s: ops.stretching(rng.normal(s.aniso_std))),
    ("rotate", lambda rng, s: ops.rotation(rng.uniform(math.pi * s.rotate_max))),
    ("xfrac", lambda rng, s:
     ops.translation(rng.normal(s.xfrac_std) * rng.width, rng.normal(s.xfrac_std) * rng.height)),
)  # fmt: skip
COLOR: tuple[tuple[str, Transform], ...] = (
    ("brightness", lambda rng, s: ops.translation(*[rng.normal(s.brightness_std)] * 3)),
    ("contrast", lambda rng, s: ops.scaling(*[rng.normal(s.contrast_std).exp2()] * 3)),
    ("lumaflip", lambda rng, s: ops.luma_flip(rng.whole(2))),
    ("hue", lambda rng, s: ops.hue_rotation(rng.uniform(math.pi * s.hue_max))),
    ("saturation", lambda rng, s: ops.saturation(rng.normal(s.saturation_std).exp2())),
)
_RGB_ONLY = ("hue", "saturation")


class Sampled(Protocol):
    """An augmentation sampled for the images of a batch; calling it on the images applies it."""

    def take(self, index: Tensor | slice) -> Sampled:
        """Return the part for the images `index`."""
        ...

    def __call__(self, images: Tensor, /) -> Tensor:
        """Augment images (N, C, H, W); the shape does not change."""
        ...


class Identity:
    """Leaves images unchanged."""

    def take(self, index: Tensor | slice) -> Identity:
        """Return the part for the images `index`, the identity itself."""
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Return the same tensor."""
        return images


@dataclass(frozen=True)
class SampledAugment:
    """Transforms sampled for each image of a batch; None for families not in use. Calling it applies them.

    They are sampled for the whole batch at once, so that micro-batches do not change them.
    """

    strength: Tensor
    """p, a scalar on the device; if it is 0, images are returned bit-identical."""
    geometry: Tensor | None = None
    """(N, 3, 3), forward: maps source to target positions."""
    color: Tensor | None = None
    """(N, 4, 4)."""
    gains: Tensor | None = None
    """(N, 4), of the bands."""
    noise: Tensor | None = None
    """(N, C, H, W), added."""
    cutout: Tensor | None = None
    """(N, 3): centre and size, 0 for none."""

    def take(self, index: Tensor | slice) -> SampledAugment:
        """Return the part for the images `index`."""
        sampled: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "strength"}
        part: dict[str, Any] = {name: value[index] for name, value in sampled.items() if value is not None}
        return replace(self, **part)

    def __call__(self, images: Tensor) -> Tensor:
        """Augment images (N, C, H, W) with values around [-1, 1]; the result is not clamped."""
        changed = images
        if self.geometry is not None:
            changed = ops.warp(changed, self.geometry)
        if self.color is not None:
            changed = ops.recolor(changed, self.color)
        if self.gains is not None:
            changed = ops.filter_bands(changed, self.gains)
        if self.noise is not None:
            changed = changed + self.noise.to(changed.dtype)
        if self.cutout is not None:
            changed = ops.cut_out(changed, self.cutout)
        return torch.where(self.strength > 0, changed, images)


class Pipeline:
    """Samples transforms for batches.

    Args:
        transforms: a family of FAMILIES: blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn, bgcfnc.
        multipliers: transform -> factor of p; the default is 1 for transforms of the family and 0 for others.
        strengths: fields of `Strengths` that differ from the published values.
    """

    def __init__(
        self,
        transforms: str = "bgc",
        *,
        multipliers: Mapping[str, float] | None = None,
        strengths: Mapping[str, float] | None = None,
    ) -> None:
        check_choice("transforms", transforms, FAMILIES)
        for name, value in (multipliers or {}).items():
            check_choice("A key of multipliers", name, TRANSFORMS)
            check_number(f"multipliers.{name}", value, lowest=0)
        for name in strengths or {}:
            check_choice("A key of strengths", name, [field.name for field in fields(Strengths)])
        self.multipliers = {**dict.fromkeys(FAMILIES[transforms], 1.0), **(multipliers or {})}
        self.strengths = Strengths(**(strengths or {}))

    def sample(self, images: Tensor, strength: Tensor) -> SampledAugment:
        """Sample transforms for a batch like `images` (N, C, H, W) from torch's generator; `strength` is p."""
        rng, (rank, world) = BatchRng(images), rank_and_world()
        color = COLOR if rng.channels == 3 else [pair for pair in COLOR if pair[0] not in _RGB_ONLY]
        sampled = SampledAugment(
            strength=strength.detach().clone(),  # the controller may update p before the batch is done
            geometry=self._composed(GEOMETRIC, 3, rng, strength),
            color=self._composed(color, 4, rng, strength),
            gains=self._gains(rng, strength) if self._uses("imgfilter") else None,
            noise=self._noise(rng, strength) if self._uses("noise") else None,
            cutout=self._cutout(rng, strength) if self._uses("cutout") else None,
        )
        return sampled if world == 1 else sampled.take(torch.arange(rank, rng.num, world, device=rng.device))

    def _uses(self, name: str) -> bool:
        return self.multipliers.get(name, 0) > 0

    def _happens(self, name: str, rng: BatchRng, strength: Tensor) -> Tensor:
        probability = (strength * self.multipliers[name]).clamp(0, 1)
        # There are two independent rotations: at least one is applied with the requested probability.
        return rng.happens(1 - (1 - probability).sqrt() if name == "rotate" else probability)

    def _composed(
        self, steps: Sequence[tuple[str, Transform]], size: int, rng: BatchRng, strength: Tensor
    ) -> Tensor | None:
        """Return the product of the applied matrices, the first one acting first; None if none is in use."""
        used = [(name, transform) for name, transform in steps if self._uses(name)]
        if not used:
            return None
        nothing = total = ops.identity_matrices(rng.num, size, rng.device)
        for name, transform in used:
            happens = self._happens(name, rng, strength)
            total = torch.where(happens[:, None, None], transform(rng, self.strengths), nothing) @ total
        return total

    def _gains(self, rng: BatchRng, strength: Tensor) -> Tensor:
        """Scale band by band, each time normalising all bands so that an average image keeps its power."""
        power = _image_power(rng.device)
        gains = torch.ones(rng.num, NUM_BANDS, device=rng.device)
        for band in range(NUM_BANDS):
            happens = self._happens("imgfilter", rng, strength)
            factor = torch.ones_like(gains)
            factor[:, band] = torch.where(happens, rng.normal(self.strengths.imgfilter_std).exp2(), 1.0)
            gains = gains * factor / (power * factor.square()).sum(dim=1, keepdim=True).sqrt()
        return gains

    def _noise(self, rng: BatchRng, strength: Tensor) -> Tensor:
        happens = self._happens("noise", rng, strength)
        deviation = rng.normal(self.strengths.noise_std).abs() * happens
        shape = (rng.num, rng.channels, rng.height, rng.width)
        return torch.randn(shape, device=rng.device) * deviation[:, None, None, None]

    def _cutout(self, rng: BatchRng, strength: Tensor) -> Tensor:
        happens = self._happens("cutout", rng, strength)
        centre = torch.rand(rng.num, 2, device=rng.device)
        return torch.cat([centre, self.strengths.cutout_size * happens[:, None]], dim=1)


@constant
def _image_power(device: torch.device) -> Tensor:
    """IMAGE_POWER as a tensor (4,), uploaded once."""
    return torch.tensor(IMAGE_POWER, device=device)
