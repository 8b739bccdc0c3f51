"""Gradient penalties of the discriminator, by the names that a loss brings them with (configs/loss).

r1                gamma/2 |dD/dx|^2 on real images (Mescheder et al. 2018)
r2                gamma/2 |dD/dx|^2 on generated images; with R1 the penalty of R3GAN
gradient_penalty  lambda (|dD/dx| - 1)^2 between real and generated images (WGAN-GP, Gulrajani et al. 2017)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from wplus.errors import UserError
from wplus.losses.regularisers import interpolates, r1_penalty, unit_gradient_penalty
from wplus.training.augment import Drawn, Untouched
from wplus.training.hparams import Hparams

Discriminator = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Pairs:
    """What a discriminator learns from: images (N, C, H, W) and labels (N, c_dim), and `share` (N,) in [0, 1]."""

    real: Tensor
    labels: Tensor
    fake: Tensor
    fake_labels: Tensor
    share: Tensor
    real_view: Drawn | Untouched = field(default_factory=Untouched)
    """What augmentation makes of the real images before the discriminator sees them."""
    fake_view: Drawn | Untouched = field(default_factory=Untouched)


def _r1(discriminator: Discriminator, pairs: Pairs) -> Tensor:
    images = pairs.real.detach().requires_grad_()
    return r1_penalty(discriminator(pairs.real_view(images), pairs.labels), images)


def _r2(discriminator: Discriminator, pairs: Pairs) -> Tensor:
    images = pairs.fake.detach().requires_grad_()
    return r1_penalty(discriminator(pairs.fake_view(images), pairs.fake_labels), images)


def _gradient_penalty(discriminator: Discriminator, pairs: Pairs) -> Tensor:
    images = interpolates(pairs.real, pairs.fake, pairs.share).detach().requires_grad_()
    return unit_gradient_penalty(discriminator(pairs.real_view(images), pairs.labels), images)


@dataclass(frozen=True)
class Penalty:
    """A penalty per image (N,), times `factor`, times the number of the hparams that `weight` names."""

    name: str
    weight: str
    factor: float
    function: Callable[[Discriminator, Pairs], Tensor]
    sees_generated: bool
    why_needed: str = ""
    """Why a loss that brings it makes no sense without it; "" where it does."""


UNBOUNDED = "nothing else keeps the critic's slope, and with it the loss, within bounds"

PENALTIES = {
    penalty.name: penalty
    for penalty in (
        Penalty("r1", "gamma", 0.5, _r1, sees_generated=False),
        Penalty("r2", "gamma", 0.5, _r2, sees_generated=True),
        Penalty("gradient_penalty", "gp_weight", 1.0, _gradient_penalty, sees_generated=True, why_needed=UNBOUNDED),
    )
}


def active_penalties(names: Sequence[str], hparams: Hparams) -> list[Penalty]:
    """Those of the names whose weight is not 0; UserError for an unknown one, and for a weight of 0 that cannot be."""
    unknown = [name for name in names if name not in PENALTIES]
    if unknown:
        raise UserError(f"Penalty '{unknown[0]}' is not known; a loss can bring {', '.join(PENALTIES)}.")
    active = [PENALTIES[name] for name in names if getattr(hparams, PENALTIES[name].weight)]
    for penalty in (PENALTIES[name] for name in names):
        if penalty.why_needed and penalty not in active:
            raise UserError(
                f"{penalty.weight}=0 is refused with a loss that brings {penalty.name}: {penalty.why_needed}; "
                "use another weight or another loss, such as loss=nonsaturating."
            )
    return active
