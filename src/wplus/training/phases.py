"""A phase of a step in two halves: what is drawn for it, by the host, and a function of tensors that gives gradients.

The second half draws nothing and does not ask for the clock, so that it can be compiled, or recorded as a CUDA graph
(`wplus.training.faster`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from wplus.core.distributed import rank_and_world
from wplus.training.augment.pipeline import Identity, Sampled
from wplus.training.inputs import GeneratorInputs

if TYPE_CHECKING:
    from wplus.training.anchor import Pairs
    from wplus.training.gan import GanModule

Role = Literal["generator", "discriminator"]


@dataclass(frozen=True)
class Draw:
    """All that a phase works with beside its networks.

    real (N, C, H, W), labels (N, c_dim); `alpha` (N,) in [0, 1]: places between the images of a pair; `augments` and
    `before_heads` are of real and of generated images; `weights` () of each penalty at this moment, over N; `pairs` of
    latents and images that the generator keeps; `noise` (N, z_dim) of the codes of images.
    """

    real: Tensor
    labels: Tensor
    inputs: GeneratorInputs | None = None
    alpha: Tensor | None = None
    augments: tuple[Sampled, Sampled] = (Identity(), Identity())
    before_heads: tuple[Sampled, Sampled] = (Identity(), Identity())
    weights: tuple[Tensor, ...] = ()
    pairs: Pairs | None = None
    noise: Tensor | None = None


@dataclass
class Told:
    """What a phase tells beside its gradients, all detached: scalars for the log by name, logits (n, ...) of real
    images for the augmentation, the batch's mean of w (w_dim,) before mixing, and the new running mean of path lengths.
    """

    numbers: list[tuple[str, Tensor]] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    w_mean: Tensor | None = None
    pl_mean: Tensor | None = None

    def number(self, name: str, value: Tensor) -> None:
        """A scalar of one micro-batch."""
        self.numbers.append((name, value))


@dataclass(frozen=True)
class Phase:
    """One optimizer step every `interval` steps: `draw` of real images and labels, then a loss per micro-batch."""

    name: str
    network: Role
    interval: int
    draw: Callable[[Tensor, Tensor], Draw]
    losses: Callable[[Draw, Told], Iterator[Tensor]]


def backward(phase: Phase, draw: Draw) -> Told:
    """Add the gradients of a phase to those of its network's parameters."""
    told = Told()
    for loss in phase.losses(draw, told):
        loss.backward()
    return told


# --- what is drawn ------------------------------------------------------------------------------------------------


def draw_images(module: GanModule, real: Tensor, labels: Tensor) -> Draw:
    """Of the generator's phase: generated images, and what is done to them before they are judged."""
    inputs = module.sample_inputs(len(real), labels=labels)
    augment = module.sample_augment(real)
    augment_real = module.sample_augment(real) if module.compares else augment
    before_heads = module.heads.sample(real) if module.heads else Identity()
    pairs = None if module.anchor is None else module.anchor.sample(module.batch_size)
    augments, heads = (augment_real, augment), (Identity(), before_heads)
    return Draw(real, labels, inputs, augments=augments, before_heads=heads, pairs=pairs)


def draw_codes(module: GanModule, real: Tensor, labels: Tensor) -> Draw:
    """Of the warm-up: what is added to the codes of the images."""
    rank, world = rank_and_world()
    noise = torch.randn(len(real) * world, module.generator.z_dim, device=real.device)[rank::world]
    return Draw(real, labels, noise=noise)


def draw_paths(module: GanModule, real: Tensor, labels: Tensor) -> Draw:
    """Of path length regularisation: a part of the batch, and projections of its images."""
    num = max(len(real) // module.hp.pl_batch_shrink, 1)
    return Draw(real[:num], labels[:num], module.sample_inputs(num, path_length=True))


def draw_pairs(module: GanModule, real: Tensor, labels: Tensor, *, with_fake: bool = True) -> Draw:
    """Of the discriminator's phase: real and generated images; without the latter the real ones stand for both."""
    inputs = module.sample_inputs(len(real), labels=labels) if with_fake else None
    mixes = any(penalty.mixes for penalty in module.penalties)
    rank, world = rank_and_world()
    alpha = (torch.rand if mixes else torch.zeros)(len(real) * world, device=real.device)[rank::world]
    augment_real = module.sample_augment(real)
    augment_fake = module.sample_augment(real) if with_fake else augment_real
    before_heads = [module.heads.sample(real) if module.heads else Identity() for _ in range(2)]
    return Draw(
        real, labels, inputs, alpha=alpha, augments=(augment_real, augment_fake),
        before_heads=(before_heads[0], before_heads[1]), weights=_penalty_weights(module, len(real)),
    )  # fmt: skip


def draw_for_penalties(module: GanModule, real: Tensor, labels: Tensor) -> Draw:
    """Of penalties in a phase of their own, of which some look at generated images."""
    return draw_pairs(module, real, labels, with_fake=any(penalty.uses_fake for penalty in module.penalties))


def _penalty_weights(module: GanModule, num: int) -> tuple[Tensor, ...]:
    """At this moment, of each penalty's value of one of `num` images: gamma/2 / num, stronger where rarer."""
    weights = (penalty.weight_at(module.hp_now) for penalty in module.penalties)  # gamma/2
    return tuple(torch.full((), weight * module.hp.r1_interval / num, device=module.device) for weight in weights)
