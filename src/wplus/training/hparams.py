"""The numbers of a training run: presets derive them from resolution and batch, and every one can be overridden."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wplus.errors import UserError, check_number

_HIGHEST = {"beta1": 0.9999, "beta2": 0.9999, "beta2_end": 0.9999, "pl_decay": 1.0, "style_mixing_prob": 1.0}
ENDS = {  # a number -> where it goes
    "gamma": "gamma_end",
    "lr_generator": "lr_end",
    "lr_discriminator": "lr_end",
    "beta2": "beta2_end",
    "ema_kimg": "ema_kimg_end",
}
Resolved = dict[str, tuple[Any, str]]  # name -> (value, why)


@dataclass(frozen=True, kw_only=True)
class Hparams:
    """Hyper-parameters of the adversarial game (StyleGAN2's names in brackets)."""

    batch_size: int
    """Images per step over all processes and micro-batches."""
    gamma: float
    """Weight of R1 and R2; the penalty is gamma/2 |dD/dx|^2."""
    lr_generator: float
    lr_discriminator: float
    ema_kimg: float
    """Half-life of the moving average of G, in thousands of images."""
    ema_rampup: float | None
    """The half-life is at most this share of the images seen so far; None: no ramp-up."""
    beta1: float = 0.0
    beta2: float = 0.99
    adam_eps: float = 1e-8
    r1_interval: int = 16
    """Steps between steps of the gradient penalties (lazy regularisation); 1: they are part of every step's loss."""
    gp_weight: float = 10.0
    """Weight (lambda) of WGAN-GP's penalty, for a loss that brings it."""
    n_critic: int = 1
    """Steps of the discriminator for each of the generator."""
    pl_interval: int = 4
    pl_weight: float = 2.0
    """Path length weight; 0 switches the phase off."""
    pl_decay: float = 0.01
    pl_batch_shrink: int = 2
    style_mixing_prob: float = 0.9
    start_resolution: int | None = None
    """Of networks that grow, as the two that follow."""
    stable_kimg: float | None = None
    """Thousands of images at each resolution before the next fades in."""
    fade_kimg: float | None = None
    decay_kimg: float | None = None
    """Numbers that have an end below go there on a cosine over so many thousands of images; None: none moves."""
    gamma_end: float | None = None
    lr_end: float | None = None
    """Of either network."""
    beta2_end: float | None = None
    ema_kimg_end: float | None = None

    def at(self, nimg: int) -> Hparams:
        """The hparams after `nimg` images."""
        if self.decay_kimg is None:
            return self
        moved = {}
        for name, end in ENDS.items():
            if getattr(self, end) is not None:
                moved[name] = on_cosine(getattr(self, name), getattr(self, end), nimg, decay_kimg=self.decay_kimg)
        return replace(self, **moved)


def on_cosine(base: float, end: float, nimg: int, *, decay_kimg: float) -> float:
    """base + (end - base) (1 - cos(pi t)) / 2 after `nimg` images, t the share of `decay_kimg` that is over."""
    t = min(nimg / (1000 * decay_kimg), 1.0) if decay_kimg else 1.0
    return base + (end - base) * ((1 - math.cos(math.pi * t)) / 2)


def auto(resolution: int, batch_size: int | None) -> Resolved:
    """StyleGAN2-ADA's `auto` for one device, from resolution and batch alone, never from the number of devices.

    (With the device count in the formula, as published, the same config is another experiment on another machine.)
    """
    batch = batch_size or min(4096 // resolution, 32)  # published for n devices: max(min(n min(4096 // r, 32), 64), n)
    return {
        "batch_size": (batch, "4096 / resolution, at most 32"),
        "gamma": (0.0002 * resolution**2 / batch, "0.0002 resolution^2 / batch"),
        "lr_generator": (0.002 if resolution >= 1024 else 0.0025, "0.002 from 1024 px, 0.0025 below"),
        "lr_discriminator": (0.002 if resolution >= 1024 else 0.0025, "0.002 from 1024 px, 0.0025 below"),
        "ema_kimg": (batch * 10 / 32, "10 kimg at batch 32, in proportion"),
        "ema_rampup": (0.05, "half-life at most 5 % of the images seen"),
        "channel_base": (32768 if resolution >= 512 else 16384, "32768 from 512 px, half below"),
        "channel_max": (512, "as published"),
        "num_mapping_layers": (2, "2 layers suffice away from the largest data sets"),
        "mbstd_group_size": (min(batch, 4), "4, or the batch where that is smaller"),
    }


def resolve(derived: Resolved, given: Mapping[str, Any]) -> Resolved:
    """The numbers after overriding, each with its reason; None in `given` means: derive.

    UserError for an unknown name, or a number that cannot be: below 1 where it counts something, else negative.
    """
    unknown = sorted(set(given) - set(derived))
    if unknown:
        raise UserError(f"Unknown training key '{unknown[0]}'; known are {', '.join(sorted(derived))}.")
    for name, value in given.items():
        if value is not None:
            whole = isinstance(derived[name][0], int)
            check_number(name, value, lowest=1 if whole else 0, highest=_HIGHEST.get(name), whole=whole)
    return {
        name: (value, why) if given.get(name) is None else (given[name], "given")
        for name, (value, why) in derived.items()
    }


AS_PUBLISHED = "as published"  # of the hparams's own defaults


def explain(numbers: Resolved) -> str:
    """One line per number: what it is and why; none for what neither a choice nor a preset has set."""
    return "\n".join(
        f"  {name} = {value:g}  ({why})" if value is not None else f"  {name} = none  ({why})"
        for name, (value, why) in numbers.items()
        if (value, why) != (None, AS_PUBLISHED)
    )
