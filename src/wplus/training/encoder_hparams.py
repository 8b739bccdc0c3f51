"""Hyper-parameters for encoder training. Everything periodic is counted in images, as elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError, check_choice, check_number

LATENT_LOSSES = ("adversarial", "delta", "w_norm")
"""Losses of the latents; all others compare images."""
INFOS = {
    "encoder_parameters": MetricInfo(meaning="Weights and biases of the encoder."),
    "input_px": MetricInfo(meaning="Input size of the encoder, to which images are resized.", unit="px"),
    "loss_px": MetricInfo(meaning="Side at which images are compared.", unit="px"),
    "last_delta_kimg": MetricInfo(meaning="Time at which the last delta is activated.", unit="kimg"),
}


@dataclass(frozen=True, kw_only=True)
class Progressive:
    """Activates deltas one by one (e4e, section 3.3.1): the first at `start_kimg`, another every `every_kimg`."""

    start_kimg: float | None
    """None: never; the first latent is used for all layers."""
    every_kimg: float = 1.0

    def __post_init__(self) -> None:
        if self.start_kimg is not None:
            check_number("training.progressive.start_kimg", self.start_kimg, lowest=0)
        check_number("training.progressive.every_kimg", self.every_kimg, lowest=0.001)

    def stage(self, nimg: int, last: int) -> int:
        """Return the index of the newest active delta after `nimg` images: 0 for w alone, up to `last`."""
        if self.start_kimg is None:
            return 0
        since = nimg - round(self.start_kimg * 1000)
        return 0 if since < 0 else min(1 + since // round(self.every_kimg * 1000), last)


@dataclass(frozen=True, kw_only=True)
class LatentDiscriminatorHparams:
    """Hyper-parameters of the latent discriminator (e4e, section 3.3.2)."""

    lr: float = 2e-5
    beta1: float = 0.9
    beta2: float = 0.999
    r1: float = 10.0
    """R1 weight; the penalty is r1/2 |dD/dw|^2."""
    r1_interval: int = 16
    pool_size: int = 50
    """Size of the pool of earlier latents that replace half of the discriminator's inputs; 0: no pool."""
    styles: Literal["random", "first"] = "random"
    """Which of an image's latents the discriminator is trained on: a random active one, or the first."""
    fakes: Literal["with_mean", "without_mean"] = "with_mean"
    """with_mean: the encoder's latents; without_mean: their offsets from the mean, as in the paper's runs."""
    psi: float = 1.0
    """Truncation of the real latents."""

    def __post_init__(self) -> None:
        _check(self, "training.latent_discriminator", highest={"beta1": 0.9999, "beta2": 0.9999}, zero=("pool_size",))


@dataclass(frozen=True, kw_only=True)
class EncoderHparams:
    """Hyper-parameters of an encoder's training (Tov et al. 2021; Richardson et al. 2021)."""

    batch_size: int
    """Images per step over all processes."""
    loss_weights: Mapping[str, float]
    """Weights of l1, l2, perceptual, the losses in image_loss by name, adversarial, delta and w_norm."""
    optimizer: Literal["ranger", "adamw"] = "ranger"
    lr: float = 1e-4
    weight_decay: float = 0.0
    ema_kimg: float | None = None
    """Half-life of the moving average of the encoder, which is then exported; None: the encoder itself is exported."""
    ema_rampup: float = 0.05
    """The half-life is at most this share of the images seen so far."""
    start_from: Literal["mean", "zero"] = "mean"
    """What the encoder's outputs are relative to: the generator's mean w, or zero."""
    noise: Literal["random", "const"] = "random"
    """Noise of the generator during training: fresh (random) or stored (const)."""
    num_passes: int = 1
    """Passes per image of an iterative encoder, each of which sees the result of the previous one (ReStyle)."""
    loss_px: int = 256
    """Images larger than this are compared at this size."""
    progressive: Progressive | None = None
    """None: all deltas from the start."""
    latent_discriminator: LatentDiscriminatorHparams | None = None

    def __post_init__(self) -> None:
        _check(self, "training.hparams", highest={"weight_decay": 1.0})
        for name, value in self.loss_weights.items():
            check_number(f"training.loss_weights.{name}", value, lowest=0)
        if (weight := self.loss_weights.get("adversarial")) and self.latent_discriminator is None:
            raise UserError(
                f"training.loss_weights.adversarial={weight:g} needs a latent discriminator, which this training does "
                "not have: choose training=e4e, or the weight 0."
            )

    @property
    def adversary(self) -> LatentDiscriminatorHparams | None:
        """Settings of the latent discriminator if its loss has a weight, otherwise None."""
        return self.latent_discriminator if self.loss_weights.get("adversarial") else None

    def progressive_stage(self, nimg: int, last: int) -> int:
        """Return the index of the newest active delta after `nimg` images, out of `last` in total."""
        return last if self.progressive is None else self.progressive.stage(nimg, last)


def make_encoder_hparams(
    hparams: Mapping[str, Any],
    loss_weights: Mapping[str, float],
    progressive: Mapping[str, float] | None,
    latent_discriminator: Mapping[str, Any] | None,
) -> EncoderHparams:
    """Build hyper-parameters from the plain values of a configuration; UserError for an invalid number or choice."""
    stages = None if progressive is None else Progressive(**progressive)
    adversary = None if latent_discriminator is None else LatentDiscriminatorHparams(**latent_discriminator)
    return EncoderHparams(
        **hparams, loss_weights=dict(loss_weights), progressive=stages, latent_discriminator=adversary
    )


def _check(settings: object, prefix: str, *, highest: Mapping[str, float], zero: tuple[str, ...] = ()) -> None:
    """Raise UserError for a number out of range (integers: at least 1, or 0 if in `zero`) or an invalid choice."""
    for name, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if choices := [choice for choice in get_args(kind) if isinstance(choice, str)]:
            check_choice(f"{prefix}.{name}", value, choices)
        elif kind in (int, float) or (kind == float | None and value is not None):
            lowest = 1 if kind is int and name not in zero else 0
            check_number(f"{prefix}.{name}", value, lowest=lowest, highest=highest.get(name), whole=kind is int)
