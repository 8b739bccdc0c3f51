"""Which transforms happen to which image of a batch, and how strongly (ADA, section 2 and appendix B).

Every transform happens to an image with probability p times its multiplier, independently of the others. All geometric
ones are fused into one matrix and one resampling, all colour ones into another matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from wplus.errors import UserError, check_number
from wplus.models.ops import constant
from wplus.training.augment import matrices, operations
from wplus.training.augment.filters import NUM_BANDS

_GROUPS = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
_SETS = {
    "bg": ("blit", "geom"),
    "bgc": ("blit", "geom", "color"),
    "bgcf": ("blit", "geom", "color", "filter"),
    "bgcfn": ("blit", "geom", "color", "filter", "noise"),
    "bgcfnc": ("blit", "geom", "color", "filter", "noise", "cutout"),
}
FAMILIES = {**_GROUPS, **{name: sum((_GROUPS[group] for group in parts), ()) for name, parts in _SETS.items()}}
TRANSFORMS = FAMILIES["bgcfnc"]
IMAGE_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # expected share of the bands in an image's power, about 1/f


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """How far the transforms go where they happen; the defaults are the published ones."""

    xint_max: float = 0.125
    """Integer translation: uniform up to this share of the image's size."""
    scale_std: float = 0.2
    """Isotropic scaling: by 2^x, x normal with this deviation."""
    rotate_max: float = 1.0
    """Rotation: uniform up to this share of half a turn in either direction."""
    aniso_std: float = 0.2
    """Anisotropic scaling: by 2^x and 2^-x."""
    xfrac_std: float = 0.125
    """Fractional translation: normal, as a share of the image's size."""
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    """Contrast: times 2^x."""
    hue_max: float = 1.0
    """Hue: uniform up to this share of half a turn in either direction."""
    saturation_std: float = 1.0
    """Saturation: times 2^x."""
    imgfilter_std: float = 1.0
    """Filtering: every band times 2^x."""
    noise_std: float = 0.1
    """Noise: its deviation is half-normal with this scale."""
    cutout_size: float = 0.5
    """Cutout: sides of the rectangle as a share of the image's."""

    def __post_init__(self) -> None:
        for field in fields(self):
            check_number(f"strengths.{field.name}", getattr(self, field.name), lowest=0)


class Dice:
    """Random numbers for the images of a batch, from torch's generator of their device."""

    def __init__(self, images: Tensor, strengths: Strengths) -> None:
        self.num, self.device, self.strengths = len(images), images.device, strengths
        self.channels, self.height, self.width = images.shape[1:]

    def uniform(self, limit: float = 1.0) -> Tensor:
        """(N,) uniform in [-limit, limit)."""
        return (torch.rand(self.num, device=self.device) * 2 - 1) * limit

    def normal(self, std: float) -> Tensor:
        """(N,) normal with mean 0."""
        return torch.randn(self.num, device=self.device) * std

    def whole(self, count: int) -> Tensor:
        """(N,) of 0..count-1, as floats."""
        return torch.randint(count, (self.num,), device=self.device).float()

    def happens(self, probability: Tensor) -> Tensor:
        """(N,) of bool: true with `probability`."""
        return torch.rand(self.num, device=self.device) < probability


# --- the transforms, in the order in which they are composed ----------------------------------------------------------

Transform = Callable[[Dice], Tensor]  # a matrix per image


def _xflip(dice: Dice) -> Tensor:
    return matrices.scaling(1 - 2 * dice.whole(2), torch.ones(dice.num, device=dice.device))


def _rotate90(dice: Dice) -> Tensor:
    return matrices.quarter_turns(dice.whole(4))


def _xint(dice: Dice) -> Tensor:
    limit = dice.strengths.xint_max
    return matrices.translation((dice.uniform(limit) * dice.width).round(), (dice.uniform(limit) * dice.height).round())


def _scale(dice: Dice) -> Tensor:
    factor = dice.normal(dice.strengths.scale_std).exp2()
    return matrices.scaling(factor, factor)


def _rotate(dice: Dice) -> Tensor:
    return matrices.rotation(dice.uniform(math.pi * dice.strengths.rotate_max))


def _aniso(dice: Dice) -> Tensor:
    exponent = dice.normal(dice.strengths.aniso_std)
    return matrices.scaling(exponent.exp2(), (-exponent).exp2())


def _xfrac(dice: Dice) -> Tensor:
    std = dice.strengths.xfrac_std
    return matrices.translation(dice.normal(std) * dice.width, dice.normal(std) * dice.height)


def _brightness(dice: Dice) -> Tensor:
    offset = dice.normal(dice.strengths.brightness_std)
    return matrices.translation(offset, offset, offset)


def _contrast(dice: Dice) -> Tensor:
    factor = dice.normal(dice.strengths.contrast_std).exp2()
    return matrices.scaling(factor, factor, factor)


def _lumaflip(dice: Dice) -> Tensor:
    return matrices.luma_flip(dice.whole(2))


def _hue(dice: Dice) -> Tensor:
    return matrices.hue_rotation(dice.uniform(math.pi * dice.strengths.hue_max))


def _saturation(dice: Dice) -> Tensor:
    return matrices.saturation(dice.normal(dice.strengths.saturation_std).exp2())


# Two rotations, of which the second turns the axes of the anisotropic scaling.
GEOMETRIC: tuple[tuple[str, Transform], ...] = (
    ("xflip", _xflip), ("rotate90", _rotate90), ("xint", _xint),
    ("scale", _scale), ("rotate", _rotate), ("aniso", _aniso), ("rotate", _rotate), ("xfrac", _xfrac),
)  # fmt: skip
COLOUR: tuple[tuple[str, Transform], ...] = (
    ("brightness", _brightness), ("contrast", _contrast), ("lumaflip", _lumaflip),
    ("hue", _hue), ("saturation", _saturation),
)  # fmt: skip
_OF_COLOURS_ONLY = ("hue", "saturation")  # no effect on grey images


# --- a batch's ------------------------------------------------------------------------------------------------------


class Untouched:
    """Images as they are."""

    def take(self, index: Tensor) -> Untouched:
        """The part that belongs to the images `index`."""
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """The same tensor."""
        return images


@dataclass(frozen=True)
class Drawn:
    """What was drawn for the images of a batch; None where a family is not in use. Applied by calling it.

    Drawn at once for the whole batch, so that micro-batches get what the full batch would.
    """

    strength: Tensor
    """p, a scalar on the device; where it is 0 the images stay what they are, bit for bit."""
    geometry: Tensor | None = None
    """(N, 3, 3), forward: where pixels go."""
    colour: Tensor | None = None
    """(N, 4, 4)."""
    gains: Tensor | None = None
    """(N, 4), of the bands."""
    noise: Tensor | None = None
    """(N, C, H, W), added."""
    cutout: Tensor | None = None
    """(N, 3): centre and size, 0 for none."""

    def take(self, index: Tensor) -> Drawn:
        """The part that belongs to the images `index`."""
        per_image = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "strength"}
        return replace(self, **{name: value if value is None else value[index] for name, value in per_image.items()})

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) about [-1, 1] -> the same shape, not clamped."""
        changed = images
        if self.geometry is not None:
            changed = operations.warp(changed, self.geometry)
        if self.colour is not None:
            changed = operations.recolour(changed, self.colour)
        if self.gains is not None:
            changed = operations.filter_bands(changed, self.gains)
        if self.noise is not None:
            changed = changed + self.noise.to(changed.dtype)
        if self.cutout is not None:
            changed = operations.cut_out(changed, self.cutout)
        return torch.where(self.strength > 0, changed, images)


class Pipeline:
    """Draws transforms for batches.

    Arguments
        transforms    a family of FAMILIES: blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn, bgcfnc
        multipliers   transform -> factor of p, where it is not 1 (of the family's) or 0 (of the others)
        strengths     fields of `Strengths` where they are not the published ones
    """

    def __init__(
        self,
        transforms: str = "bgc",
        *,
        multipliers: Mapping[str, float] | None = None,
        strengths: Mapping[str, float] | None = None,
    ) -> None:
        if transforms not in FAMILIES:
            raise UserError(f"transforms={transforms} is not known; it must be one of {', '.join(FAMILIES)}.")
        _refuse_unknown("multipliers", multipliers, TRANSFORMS)
        _refuse_unknown("strengths", strengths, [field.name for field in fields(Strengths)])
        for name, value in (multipliers or {}).items():
            check_number(f"multipliers.{name}", value, lowest=0)
        self.multipliers = {**dict.fromkeys(FAMILIES[transforms], 1.0), **(multipliers or {})}
        self.strengths = Strengths(**(strengths or {}))

    def draw(self, images: Tensor, strength: Tensor) -> Drawn:
        """Transforms for a batch like `images` (N, C, H, W), from torch's generator; `strength` is p."""
        dice = Dice(images, self.strengths)
        colour = COLOUR if dice.channels == 3 else [pair for pair in COLOUR if pair[0] not in _OF_COLOURS_ONLY]
        return Drawn(
            strength=strength.detach().clone(),  # the controller may move p before the batch is done
            geometry=self._composed(GEOMETRIC, 3, dice, strength),
            colour=self._composed(colour, 4, dice, strength),
            gains=self._gains(dice, strength) if self._uses("imgfilter") else None,
            noise=self._noise(dice, strength) if self._uses("noise") else None,
            cutout=self._cutout(dice, strength) if self._uses("cutout") else None,
        )

    def _uses(self, name: str) -> bool:
        return self.multipliers.get(name, 0) > 0

    def _probability(self, name: str, strength: Tensor) -> Tensor:
        probability = (strength * self.multipliers[name]).clamp(0, 1)
        # Two independent rotations: at least one of them happens with the probability asked for.
        return 1 - (1 - probability).sqrt() if name == "rotate" else probability

    def _composed(self, steps: tuple, size: int, dice: Dice, strength: Tensor) -> Tensor | None:
        """The product of the matrices that happen, the first one acting first; None where none can."""
        used = [(name, transform) for name, transform in steps if self._uses(name)]
        if not used:
            return None
        nothing = total = matrices.identity(dice.num, size, dice.device)
        for name, transform in used:
            happens = dice.happens(self._probability(name, strength))
            total = torch.where(happens[:, None, None], transform(dice), nothing) @ total
        return total

    def _gains(self, dice: Dice, strength: Tensor) -> Tensor:
        """Band by band: a factor, then all bands scaled so that an average image keeps its power."""
        power = _image_power(dice.device)
        gains = torch.ones(dice.num, NUM_BANDS, device=dice.device)
        for band in range(NUM_BANDS):
            happens = dice.happens(self._probability("imgfilter", strength))
            factor = torch.ones_like(gains)
            factor[:, band] = torch.where(happens, dice.normal(self.strengths.imgfilter_std).exp2(), 1.0)
            gains = gains * factor / (power * factor.square()).sum(dim=1, keepdim=True).sqrt()
        return gains

    def _noise(self, dice: Dice, strength: Tensor) -> Tensor:
        happens = dice.happens(self._probability("noise", strength))
        deviation = dice.normal(self.strengths.noise_std).abs() * happens
        shape = (dice.num, dice.channels, dice.height, dice.width)
        return torch.randn(shape, device=dice.device) * deviation[:, None, None, None]

    def _cutout(self, dice: Dice, strength: Tensor) -> Tensor:
        happens = dice.happens(self._probability("cutout", strength))
        centre = torch.rand(dice.num, 2, device=dice.device)
        return torch.cat([centre, self.strengths.cutout_size * happens[:, None]], dim=1)


@constant
def _image_power(device: torch.device) -> Tensor:
    """IMAGE_POWER as (4,), uploaded once."""
    return torch.tensor(IMAGE_POWER, device=device)


def _refuse_unknown(what: str, given: Mapping[str, float] | None, known: object) -> None:
    for name in given or {}:
        if name not in known:  # type: ignore[operator]
            raise UserError(f"{what}.{name} is not known; known are {', '.join(known)}.")  # type: ignore[arg-type]
