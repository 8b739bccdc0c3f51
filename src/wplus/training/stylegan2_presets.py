"""StyleGAN2-ADA's presets besides `auto` (Karras et al. 2020 and its code), as functions of
(resolution, batch size or None) as in `wplus.training.presets`. A batch that is given changes no other number.

They set sizes of StyleGAN2's networks and the weights of its regularisers, and are refused with other networks
(`wplus.training.validate.check_preset`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wplus.training.hparams import Resolved

# name:            batch  group  base   lr      gamma  ema kimg  ramp-up  mapping layers; how long: thousands of images
_TABLE: dict[str, tuple[Any, ...]] = {
    "stylegan2":  (32,    4,     32768, 0.002,  10.0,  10.0,     None,    8),  # 25,000
    "paper256":   (64,    8,     16384, 0.0025, 1.0,   20.0,     None,    8),  # 25,000
    "paper512":   (64,    8,     32768, 0.0025, 0.5,   20.0,     None,    8),  # 25,000
    "paper1024":  (32,    4,     32768, 0.002,  2.0,   10.0,     None,    8),  # 25,000
    "cifar":      (64,    32,    32768, 0.0025, 0.01,  500.0,    0.05,    2),  # 100,000
}  # fmt: skip


def _for_stylegan2(preset: Callable[[int, int | None], Resolved]) -> Callable[[int, int | None], Resolved]:
    preset.family = "stylegan2"  # type: ignore[attr-defined]
    return preset


@_for_stylegan2
def stylegan2(resolution: int, batch_size: int | None) -> Resolved:
    """Config F of StyleGAN2; LSUN church and horse were trained with gamma 100."""
    return _published("stylegan2", batch_size)


@_for_stylegan2
def paper256(resolution: int, batch_size: int | None) -> Resolved:
    """ADA's runs at 256 px."""
    return _published("paper256", batch_size)


@_for_stylegan2
def paper512(resolution: int, batch_size: int | None) -> Resolved:
    """ADA's runs at 512 px."""
    return _published("paper512", batch_size)


@_for_stylegan2
def paper1024(resolution: int, batch_size: int | None) -> Resolved:
    """ADA's runs at 1024 px."""
    return _published("paper1024", batch_size)


@_for_stylegan2
def cifar(resolution: int, batch_size: int | None) -> Resolved:
    """ADA's tuning for CIFAR-10 at 32 px, with plain blocks in D (model.discriminator.architecture=orig).

    The authors' code also corrects the generator's Adam for the path length steps that it then leaves out, so that it
    learns at 0.8 times this rate, with beta2^0.8: training.hparams.lr_generator=0.002 gives the rate.
    """
    why = "switched off for CIFAR-10, as published"
    return {**_published("cifar", batch_size), "pl_weight": (0.0, why), "style_mixing_prob": (0.0, why)}


def _published(name: str, batch_size: int | None) -> Resolved:
    batch, group, base, lr, gamma, ema_kimg, rampup, layers = _TABLE[name]
    values = {
        "batch_size": batch_size or batch,
        "mbstd_group_size": group,
        "channel_base": base,
        "channel_max": 512,
        "lr_generator": lr,
        "lr_discriminator": lr,
        "gamma": gamma,
        "ema_kimg": ema_kimg,
        "ema_rampup": rampup,
        "num_mapping_layers": layers,
    }
    return {key: (value, f"{name}, as published") for key, value in values.items()}
