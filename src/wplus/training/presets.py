"""Presets: the numbers that each family was published with, from resolution and batch; each with the reason.

A preset is a function (resolution, batch size or None) -> name -> (value, why), chosen by a model's YAML or by
`training=`. StyleGAN2-ADA's `auto` is in `wplus.training.hparams`.
"""

from __future__ import annotations

import math

from wplus.training.hparams import Resolved


def _without_styles() -> Resolved:
    """What cannot be where w is z."""
    why = "without styles there is nothing to mix"
    return {"style_mixing_prob": (0.0, why), "pl_weight": (0.0, "without styles there is no path to measure")}


def _small_gan(batch_size: int, why_batch: str) -> Resolved:
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


def mlp_gan(resolution: int, batch_size: int | None) -> Resolved:
    """The networks of Goodfellow et al. 2014 with the optimizer of today's reimplementations.

    (The paper's stochastic gradient descent with momentum needs a schedule for every data set.)
    """
    return _small_gan(batch_size or 64, "as in today's reimplementations")


def dcgan(resolution: int, batch_size: int | None) -> Resolved:
    """Radford et al. 2016, section 4."""
    return _small_gan(batch_size or 128, "DCGAN, section 4")


_R3GAN = {  # resolution -> gamma, its end, half-life of the average at the end in kimg, batch, what it is
    32: (0.05, 0.005, 5000.0, 512, "R3GAN's CIFAR-10"),
    64: (2.0, 0.2, 500.0, 256, "R3GAN's FFHQ-64"),
    128: (17.3, 1.73, 500.0, 256, "between R3GAN's FFHQ-64 and FFHQ-256, on a logarithmic scale"),
    256: (150.0, 15.0, 500.0, 256, "R3GAN's FFHQ-256"),
}


def r3gan(resolution: int, batch_size: int | None) -> Resolved:
    """Huang et al. 2024: numbers that move on a cosine over the first 20 million images.

    Here the generator takes its step first, as in all games of this package; the authors' discriminator does.
    """
    nearest = min(max(resolution, 32), 256)
    gamma, gamma_end, ema_kimg_end, batch, why = _R3GAN[nearest]
    return {
        **_without_styles(),
        "batch_size": (batch_size or batch, why),
        "gamma": (gamma, why),
        "gamma_end": (gamma_end, why),
        "lr_generator": (2e-4, why),
        "lr_discriminator": (2e-4, why),
        "lr_end": (5e-5, why),
        "beta1": (0.0, why),
        "beta2": (0.9, why),
        "beta2_end": (0.99, why),
        "ema_kimg": (0.0, why),
        "ema_kimg_end": (ema_kimg_end, why),
        "ema_rampup": (None, "the half-life itself grows"),
        "decay_kimg": (20_000.0, why),
    }


def progan(resolution: int, batch_size: int | None) -> Resolved:
    """Karras et al. 2018, appendix A, and the authors' settings for 8 GPUs; one batch size for all resolutions."""
    why = "ProGAN, appendix A.1"
    batch = batch_size or _grown_batch(resolution)
    return {
        **_without_styles(),
        **_growing(4, batch),
        "gp_weight": (10.0, why),
        "gamma": (0.0, "WGAN-GP's penalty in R1's place"),
        "ema_kimg": (batch * math.log(0.5) / math.log(0.999) / 1000, "0.999 per step, appendix A.1"),
    }


def stylegan1(resolution: int, batch_size: int | None) -> Resolved:
    """Karras et al. 2019, appendix C, and the authors' settings for 8 GPUs; one batch size for all resolutions."""
    why = "StyleGAN, appendix C"
    return {
        **_growing(min(8, resolution), batch_size or _grown_batch(resolution)),
        "gamma": (10.0, why),
        "r1_interval": (1, "in every step"),
        "pl_weight": (0.0, "StyleGAN2's regulariser, not StyleGAN's"),
        "style_mixing_prob": (0.9, why),
        "ema_kimg": (10.0, "the authors' code"),
        "num_mapping_layers": (8, why),
    }


def _grown_batch(resolution: int) -> int:
    """The authors' batch at the highest resolution of the run; they take larger ones below it."""
    return {8: 256, 16: 128, 32: 64}.get(resolution, 32)


def _growing(start_resolution: int, batch: int) -> Resolved:
    """What ProGAN and StyleGAN have in common."""
    return {
        "batch_size": (batch, "the authors' at this resolution"),
        "mbstd_group_size": (min(batch, 4), "4, or the batch where that is smaller"),
        "n_critic": (1, "as published, also with WGAN-GP"),
        "lr_generator": (0.001, "more from 128 px on: times 1.5, 2, 3"),
        "lr_discriminator": (0.001, "more from 128 px on: times 1.5, 2, 3"),
        "beta1": (0.0, "as published"),
        "beta2": (0.99, "as published"),
        "ema_rampup": (None, "published without"),
        "start_resolution": (start_resolution, "as published"),
        "stable_kimg": (600.0, "as published"),
        "fade_kimg": (600.0, "as published"),
    }
