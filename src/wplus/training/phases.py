"""Phases of a training step, each in two halves: drawing random inputs on the host, and computing gradients from them.

The second half is a function of tensors that draws nothing and does not depend on the clock, so it can be compiled or
recorded as a CUDA graph (`wplus.training.faster`).
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
    """All inputs of a phase besides its networks.

    real (N, C, H, W), labels (N, c_dim); `alpha` (N,) in [0, 1]: interpolation weights between the images of a pair;
    `augments` and `before_heads`: for (real, generated) images; `weights` (): current weight of each penalty, over N;
    `pairs`: latents and images that the generator retains; `noise` (N, z_dim): added to the codes of images.
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
    """Outputs of a phase besides its gradients, all detached: named scalars to log, logits (n, ...) of real images for
    the augmentation, the batch mean of w (w_dim,) before mixing, and the new running mean of path lengths.
    """

    numbers: list[tuple[str, Tensor]] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    w_mean: Tensor | None = None
    pl_mean: Tensor | None = None

    def number(self, name: str, value: Tensor) -> None:
        """Record a scalar from one micro-batch."""
        self.numbers.append((name, value))


@dataclass(frozen=True)
class Phase:
    """One optimizer step every `interval` steps: `draw` inputs for real images and labels, then yield `losses`."""

    name: str
    network: Role
    interval: int
    draw: Callable[[Tensor, Tensor], Draw]
    losses: Callable[[Draw, Told], Iterator[Tensor]]


def backward(phase: Phase, draw: Draw) -> Told:
    """Accumulate the gradients of a phase in the parameters of its network."""
    told = Told()
    for loss in phase.losses(draw, told):
        loss.backward()
    return told


# --- drawing inputs -----------------------------------------------------------------------------------------------


def draw_images(module: GanModule, real: Tensor, labels: Tensor) -> Draw:
    """Draw the inputs of the generator's phase: generator inputs and the augmentation of the generated images."""
    inputs = module.sample_inputs(len(real), labels=labels)
    before_heads = module.heads.sample(real) if module.heads else Identity()
    pairs = None if module.anchor is None else module.anchor.sample(module.batch_size)
    augment = module.sample_augment(real)  # last: on a GPU, whether p = 0 draws numbers depends on timing
    augment_real = module.sample_augment(real) if module.compares else augment
    augments, heads = (augment_real, augment), (Identity(), before_heads)
    return Draw(real, labels, inputs, augments=augments, before_heads=heads, pairs=pairs)


def draw_codes(module: GanModule, real: Tensor, labels: Tensor) -> Draw:
    """Draw the inputs of the warm-up: noise for the codes of the images."""
    rank, world = rank_and_world()
    noise = torch.randn(len(real) * world, module.generator.z_dim, device=real.device)[rank::world]
    return Draw(real, labels, noise=noise)


def draw_paths(module: GanModule, real: Tensor, labels: Tensor) -> Draw:
    """Draw the inputs of path length regularisation: part of the batch, and random projections of its images."""
    num = max(len(real) // module.hp.pl_batch_shrink, 1)
    return Draw(real[:num], labels[:num], module.sample_inputs(num, path_length=True))


def draw_pairs(module: GanModule, real: Tensor, labels: Tensor, *, with_fake: bool = True) -> Draw:
    """Draw the inputs of the discriminator's phase; without generated images the real ones stand in for both."""
    inputs = module.sample_inputs(len(real), labels=labels) if with_fake else None
    mixes = any(penalty.mixes for penalty in module.penalties)
    rank, world = rank_and_world()
    alpha = (torch.rand if mixes else torch.zeros)(len(real) * world, device=real.device)[rank::world]
    before_heads = [module.heads.sample(real) if module.heads else Identity() for _ in range(2)]
    augment_real = module.sample_augment(real)  # last, see draw_images
    augment_fake = module.sample_augment(real) if with_fake else augment_real
    return Draw(
        real, labels, inputs, alpha=alpha, augments=(augment_real, augment_fake),
        before_heads=(before_heads[0], before_heads[1]), weights=_penalty_weights(module, len(real)),
    )  # fmt: skip


def draw_for_penalties(module: GanModule, real: Tensor, labels: Tensor) -> Draw:
    """Draw the inputs of penalties in a phase of their own, with generated images only if one needs them."""
    return draw_pairs(module, real, labels, with_fake=any(penalty.uses_fake for penalty in module.penalties))


def _penalty_weights(module: GanModule, num: int) -> tuple[Tensor, ...]:
    """Current weight of each penalty's value for one of `num` images: gamma/2 / num, times the lazy interval."""
    weights = (penalty.weight_at(module.hp_now) for penalty in module.penalties)  # gamma/2
    return tuple(torch.full((), weight * module.hp.r1_interval / num, device=module.device) for weight in weights)
