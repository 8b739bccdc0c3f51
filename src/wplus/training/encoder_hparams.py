"""The numbers of an encoder's training. Everything periodic is counted in images, as elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from wplus.errors import UserError, check_number

CODE_TERMS = ("adversarial", "delta", "w_norm")
"""Terms of the codes; all others compare images."""
_CHOICES = {
    "optimizer": ("ranger", "adamw"),
    "start_from": ("mean", "zero"),
    "noise": ("random", "const"),
    "fakes": ("with_mean", "without_mean"),
    "styles": ("random", "first"),
}


@dataclass(frozen=True, kw_only=True)
class Progressive:
    """Deltas join one after the other (e4e, section 3.3.1): the first at `start_kimg`, the next every `every_kimg`."""

    start_kimg: float | None
    """None: never, the first code stands for all layers."""
    every_kimg: float = 1.0

    def __post_init__(self) -> None:
        if self.start_kimg is not None:
            check_number("training.progressive.start_kimg", self.start_kimg, lowest=0)
        check_number("training.progressive.every_kimg", self.every_kimg, lowest=0.001)

    def stage(self, nimg: int, last: int) -> int:
        """The number of the newest delta after `nimg` images: 0 for w alone, up to `last`."""
        if self.start_kimg is None:
            return 0
        since = nimg - round(self.start_kimg * 1000)
        return 0 if since < 0 else min(1 + since // round(self.every_kimg * 1000), last)


@dataclass(frozen=True, kw_only=True)
class LatentAdversary:
    """The discriminator of codes (e4e, section 3.3.2)."""

    lr: float = 2e-5
    beta1: float = 0.9
    beta2: float = 0.999
    r1: float = 10.0
    """R1 weight; the penalty is r1/2 |dD/dw|^2."""
    r1_interval: int = 16
    pool_size: int = 50
    """Earlier codes that half of the discriminator's inputs are exchanged with; 0: none."""
    styles: str = "random"
    """Which of an image's codes the discriminator learns from: a random one of those that take part, or the first."""
    fakes: str = "with_mean"
    """with_mean: the encoder's codes; without_mean: their offsets from the mean, as in the paper's runs."""
    psi: float = 1.0
    """Truncation of the real codes."""

    def __post_init__(self) -> None:
        _check(self, "training.latent_discriminator", highest={"beta1": 0.9999, "beta2": 0.9999}, zero=("pool_size",))


@dataclass(frozen=True, kw_only=True)
class EncoderHparams:
    """Hyper-parameters of an encoder's training (Tov et al. 2021; Richardson et al. 2021)."""

    batch_size: int
    """Images per step over all processes."""
    weights: Mapping[str, float]
    """Of the terms of the loss: l1, l2, perceptual, those of image_loss by their names, adversarial, delta, w_norm."""
    optimizer: str = "ranger"
    lr: float = 1e-4
    weight_decay: float = 0.0
    ema_kimg: float | None = None
    """Half-life of the moving average of the encoder that is exported; None: the encoder itself is."""
    ema_rampup: float = 0.05
    """The half-life is at most this share of the images seen so far."""
    start_from: str = "mean"
    """What the encoder's answers are relative to: the generator's mean w, or zero."""
    noise: str = "random"
    """Noise of the generator during training: fresh (random) or stored (const)."""
    refinements: int = 1
    """Passes per image of an iterative encoder, each of which sees what the last one reached (ReStyle)."""
    loss_px: int = 256
    """Images larger than this are compared at this size."""
    progressive: Progressive | None = None
    """None: all deltas from the start."""
    latent_discriminator: LatentAdversary | None = field(default=None)

    def __post_init__(self) -> None:
        _check(self, "training.hparams", highest={"weight_decay": 1.0})
        for name, value in self.weights.items():
            check_number(f"training.weights.{name}", value, lowest=0)
        if self.weights.get("adversarial") and self.latent_discriminator is None:
            raise UserError(
                f"training.weights.adversarial={self.weights['adversarial']:g} needs a latent discriminator, which "
                "this training has not: choose training=e4e, or the weight 0."
            )

    @property
    def adversary(self) -> LatentAdversary | None:
        """The discriminator of codes, where its term has a weight."""
        return self.latent_discriminator if self.weights.get("adversarial") else None

    def stage(self, nimg: int, last: int) -> int:
        """The number of the newest delta that takes part after `nimg` images, of `last` in all."""
        return last if self.progressive is None else self.progressive.stage(nimg, last)


def encoder_hparams_of(
    hparams: Mapping[str, Any],
    weights: Mapping[str, float],
    progressive: Mapping[str, float] | None,
    latent_discriminator: Mapping[str, Any] | None,
) -> EncoderHparams:
    """The hparams from the plain values of a configuration; UserError for a number or a choice that cannot be."""
    return EncoderHparams(
        **hparams,
        weights=dict(weights),
        progressive=None if progressive is None else Progressive(**progressive),
        latent_discriminator=None if latent_discriminator is None else LatentAdversary(**latent_discriminator),
    )


def _check(settings: Any, prefix: str, *, highest: Mapping[str, float], zero: tuple[str, ...] = ()) -> None:
    """UserError for a number below its limit (1 for whole ones, except those that may be `zero`), or a wrong word."""
    for field_ in fields(settings):
        name, value = field_.name, getattr(settings, field_.name)
        kind = str(field_.type)
        if name in _CHOICES and value not in _CHOICES[name]:
            raise UserError(f"{prefix}.{name}={value} is not allowed; it must be {' or '.join(_CHOICES[name])}.")
        if kind in ("int", "float") or (kind == "float | None" and value is not None):
            whole = kind == "int"
            lowest = 1 if whole and name not in zero else 0
            check_number(f"{prefix}.{name}", value, lowest=lowest, highest=highest.get(name), whole=whole)
