"""Hyper-parameters of pix2pix and CycleGAN. Everything periodic is counted in images, as elsewhere."""

from dataclasses import dataclass, fields
from typing import Literal

from wplus.core.metric_result import MetricInfo
from wplus.errors import check_choice, check_number

INFOS = {
    "generator_parameters": MetricInfo(meaning="Weights and biases of the generator of one direction."),
    "discriminator_parameters": MetricInfo(meaning="Weights and biases of the discriminator of one domain."),
    "num_downs": MetricInfo(meaning="Downsampling steps of the generator."),
    "num_blocks": MetricInfo(meaning="Residual blocks of the generator."),
    "num_layers": MetricInfo(meaning="Layers of stride 2 of the discriminator, which determine the patch size."),
    "constant_kimg": MetricInfo(meaning="Time at the full learning rate.", unit="kimg"),
    "decay_kimg": MetricInfo(meaning="Time over which the learning rate then falls to 0.", unit="kimg"),
}
EPOCHS = 100  # at the full learning rate, and again for its decay, as published


@dataclass(frozen=True, kw_only=True)
class TranslationHparams:
    """Hyper-parameters common to both methods, with the published defaults."""

    batch_size: int = 1  # images of each domain per step over all processes
    lr: float = 0.0002  # learning rate of both Adams
    beta1: float = 0.5
    beta2: float = 0.999
    constant_kimg: float | None = None  # time at the full learning rate; null: 100 epochs of the data
    decay_kimg: float | None = None  # time in which it then falls linearly to 0; null: 100 epochs
    jitter: float = 286 / 256  # images are enlarged by this factor and cropped at random; 1: no jitter

    def __post_init__(self) -> None:
        lowest = {"batch_size": 1, "jitter": 1, "pool_size": 0}
        highest = {"beta1": 0.9999, "beta2": 0.9999, "jitter": 4}
        for item in fields(self):
            value, name = getattr(self, item.name), item.name
            if isinstance(value, str):
                check_choice(f"training.hparams.{name}", value, DISCRIMINATED)
            elif not (value is None and name.endswith("_kimg")):
                whole = name in ("batch_size", "pool_size")
                check_number(f"training.hparams.{name}", value, lowest=lowest.get(name, 0),
                             highest=highest.get(name), whole=whole)  # fmt: skip

    def rate(self, nimg: int) -> float:
        """Return the learning rate after `nimg` images: constant, then falling linearly to 0."""
        if self.constant_kimg is None or self.decay_kimg is None:
            return self.lr
        over = nimg - 1000 * self.constant_kimg
        if over <= 0:
            return self.lr
        return self.lr * max(0.0, 1 - over / (1000 * self.decay_kimg)) if self.decay_kimg else 0.0


DISCRIMINATED = ("pair", "output")


@dataclass(frozen=True, kw_only=True)
class Pix2PixHparams(TranslationHparams):
    """pix2pix (Isola et al. 2017, section 3 and appendix 6.2)."""

    adversarial_weight: float = 1.0
    l1_weight: float = 100.0  # weight of the mean absolute difference from the truth
    discriminator_weight: float = 0.5  # "we divide the objective by 2 while optimizing D"
    discriminated: Literal["pair", "output"] = "pair"  # what D sees: input and output together, or the output alone


@dataclass(frozen=True, kw_only=True)
class CycleGANHparams(TranslationHparams):
    """CycleGAN (Zhu et al. 2017, section 4 and appendix 7.1)."""

    adversarial_weight: float = 2.0  # the paper's (D - 1)^2 is twice LSGAN's loss
    cycle_weight: float = 10.0  # lambda, weight of the mean absolute difference after a full cycle
    identity_weight: float = 0.5  # weight of the identity loss, relative to cycle_weight; 0: none
    discriminator_weight: float = 1.0  # LSGAN's loss has the paper's half inside
    pool_size: int = 50  # size of the pool of earlier outputs that replace half of the discriminators' inputs; 0: none
