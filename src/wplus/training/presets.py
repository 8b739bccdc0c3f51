"""Presets: the numbers that each family was published with, from resolution and batch; each with the reason.

A preset is a function (resolution, batch size or None) -> name -> (value, why), chosen by a model's YAML or by
`training=`. StyleGAN2-ADA's `auto` is in `wplus.training.recipe`.
"""

from __future__ import annotations

from wplus.training.recipe import Derived


def _without_styles() -> Derived:
    """What cannot be where w is z."""
    why = "without styles there is nothing to mix"
    return {"style_mixing_prob": (0.0, why), "pl_weight": (0.0, "without styles there is no path to measure")}


def _small_gan(batch_size: int, why_batch: str) -> Derived:
    """Adam of Radford et al. 2016, section 4; no penalty, no moving average."""
    return {
        **_without_styles(),
        "batch_size": (batch_size, why_batch),
        "lr_generator": (2e-4, "DCGAN, section 4"),
        "lr_discriminator": (2e-4, "DCGAN, section 4"),
        "beta1": (0.5, "DCGAN, section 4"),
        "beta2": (0.999, "Adam's own"),
        "gamma": (0.0, "published without a penalty"),
        "ema_kimg": (0.0, "published without a moving average"),
        "ema_rampup": (None, "published without a moving average"),
    }


def mlp_gan(resolution: int, batch_size: int | None) -> Derived:
    """The networks of Goodfellow et al. 2014 with the optimizer of today's reimplementations.

    (The paper's stochastic gradient descent with momentum needs a schedule for every data set.)
    """
    return _small_gan(batch_size or 64, "as in today's reimplementations")


def dcgan(resolution: int, batch_size: int | None) -> Derived:
    """Radford et al. 2016, section 4."""
    return _small_gan(batch_size or 128, "DCGAN, section 4")
