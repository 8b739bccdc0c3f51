"""The discriminator's training batch and its gradient penalties, which a loss lists by `_target_`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from wplus.errors import UserError, check_choice, check_number
from wplus.losses.regularisers import interpolates, r1_penalty, unit_gradient_penalty
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.training.augment.pipeline import Identity, Sampled
from wplus.training.hparams import Hparams

Discriminator = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class DiscriminatorBatch:
    """Real and generated images (N, C, H, W) with their labels (N, c_dim)."""

    real: Tensor
    labels: Tensor
    fake: Tensor
    fake_labels: Tensor
    alpha: Tensor
    """(N,) in [0, 1]: interpolation weights between the images of a pair, for penalties that mix them."""
    augment_real: Sampled = field(default_factory=Identity)
    """Augmentation of the real images for the discriminator."""
    augment_fake: Sampled = field(default_factory=Identity)
    before_heads: tuple[Sampled, Sampled] = (Identity(), Identity())
    """Further augmentation of (real, generated) images for heads on frozen features."""

    @cached_property
    def shown(self) -> tuple[Tensor, Tensor]:
        """Real and generated images as the discriminator sees them."""
        return self.augment_real(self.real), self.augment_fake(self.fake)


@dataclass(frozen=True)
class Penalty:
    """Base class of discriminator penalties; calling one on a batch returns its unweighted value per image (N,).

    To add a penalty, define a subclass with a `name` and `__call__` in any module.

    Args:
        weight: the name of the hyper-parameter that weights it, or a number.
    """

    weight: str | float
    name: ClassVar[str]
    factor: ClassVar[float] = 1.0
    uses_fake: ClassVar[bool] = True
    """Whether it uses generated images."""
    mixes: ClassVar[bool] = False
    """Whether it interpolates between the images of a pair, which must then share a class."""
    why_needed: ClassVar[str] = ""
    """Why a loss that includes it makes no sense without it, or "" if the loss can do without."""

    def __post_init__(self) -> None:
        what = f"The weight of the penalty {self.name}"
        if isinstance(self.weight, str):
            check_choice(what, self.weight, [item.name for item in fields(Hparams)])
        else:
            check_number(what, self.weight, lowest=0)

    def __call__(self, discriminator: Discriminator, batch: DiscriminatorBatch) -> Tensor:
        """Return the unweighted value (N,)."""
        raise NotImplementedError

    def weight_at(self, hparams: Hparams) -> float:
        """Return the factor applied to its value, e.g. gamma/2 for R1."""
        return self.factor * (getattr(hparams, self.weight) if isinstance(self.weight, str) else self.weight)


@dataclass(frozen=True)
class R1(Penalty):
    """gamma/2 |dD/dx|^2 on real images (Mescheder et al. 2018, equation 9)."""

    name = "r1"
    factor = 1 / 2
    uses_fake = False

    def __call__(self, discriminator: Discriminator, batch: DiscriminatorBatch) -> Tensor:
        """|dD/dx|^2 (N,)."""
        return _squared_slope(discriminator, batch.real, batch.labels, batch.augment_real)


@dataclass(frozen=True)
class R2(Penalty):
    """gamma/2 |dD/dx|^2 on generated images (Mescheder et al. 2018); with R1 the penalty of R3GAN."""

    name = "r2"
    factor = 1 / 2

    def __call__(self, discriminator: Discriminator, batch: DiscriminatorBatch) -> Tensor:
        """|dD/dx|^2 (N,)."""
        return _squared_slope(discriminator, batch.fake, batch.fake_labels, batch.augment_fake)


def _squared_slope(discriminator: Discriminator, images: Tensor, labels: Tensor, augment: Sampled) -> Tensor:
    x = images.detach().requires_grad_()
    return r1_penalty(discriminator(augment(x), labels), x)


@dataclass(frozen=True)
class GradientPenalty(Penalty):
    """lambda (|dD/dx| - 1)^2 between real and generated images (WGAN-GP, Gulrajani et al. 2017, equation 3)."""

    name = "gradient_penalty"
    mixes = True
    why_needed = "nothing else keeps the critic's slope, and with it the loss, within bounds"

    def __call__(self, discriminator: Discriminator, batch: DiscriminatorBatch) -> Tensor:
        """(|dD/dx| - 1)^2 (N,)."""
        x = interpolates(batch.real, batch.fake, batch.alpha).detach().requires_grad_()
        return unit_gradient_penalty(discriminator(batch.augment_real(x), batch.labels), x)


def active_penalties(penalties: Sequence[Penalty], hparams: Hparams) -> list[Penalty]:
    """Return the penalties with non-zero weight; UserError if the loss makes no sense without one whose weight is 0."""
    for penalty in penalties:
        if penalty.why_needed and not penalty.weight_at(hparams):
            raise UserError(
                f"{penalty.weight}=0 is refused with a loss that includes {penalty.name}: {penalty.why_needed}; "
                "use another weight or another loss, such as loss=nonsaturating."
            )
    return [penalty for penalty in penalties if penalty.weight_at(hparams)]


# --- logits ---------------------------------------------------------------------------------------------------------


def both_logits(discriminator: DiscriminatorNetwork, batch: DiscriminatorBatch) -> tuple[Tensor, Tensor]:
    """Return training logits of real and of generated images (N, 1 or 2); N must be a multiple of the group size.

    Both go through in one pass, interleaved so that no minibatch-stddev group mixes them. With batch norm there are two
    passes, as published (Radford et al. 2016), so that each has its own statistics.
    """
    real, fake = batch.shown
    if discriminator.own_class.batch_norm:
        return discriminator.learned_logits(real, batch.labels), discriminator.learned_logits(fake, batch.fake_labels)
    groups = (discriminator.group_size, -1)

    def join(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([x.unflatten(0, groups) for x in (a, b)], dim=1).flatten(0, 1)

    logits = discriminator.learned_logits(join(real, fake), join(batch.labels, batch.fake_labels))
    real_logits, fake_logits = logits.unflatten(0, groups).chunk(2, dim=1)
    return real_logits.flatten(0, 1), fake_logits.flatten(0, 1)
