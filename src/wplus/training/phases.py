"""A phase of a step in two halves: what is drawn for it, by the host, and a function of tensors that gives gradients.

The second half draws nothing and does not ask for the clock, so that it can be compiled, or recorded as a CUDA graph
(`wplus.training.faster`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from wplus.training.augment.pipeline import Identity, Sampled
from wplus.training.inputs import GeneratorInputs


@dataclass(frozen=True)
class Draw:
    """All that a phase works with beside its networks.

    real (N, C, H, W), labels (N, c_dim); `alpha` (N,) in [0, 1]: places between the images of a pair; `augments` and
    `before_heads` are of real and of generated images; `weights` () of each penalty at this moment, over N.
    """

    real: Tensor
    labels: Tensor
    inputs: GeneratorInputs | None = None
    alpha: Tensor = field(default_factory=lambda: torch.zeros(0))
    augments: tuple[Sampled, Sampled] = (Identity(), Identity())
    before_heads: tuple[Sampled, Sampled] = (Identity(), Identity())
    weights: tuple[Tensor, ...] = ()


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
    network: Literal["generator", "discriminator"]
    interval: int
    draw: Callable[[Tensor, Tensor], Draw]
    losses: Callable[[Draw, Told], Iterator[Tensor]]


def backward(phase: Phase, draw: Draw) -> Told:
    """Add the gradients of a phase to those of its network's parameters."""
    told = Told()
    for loss in phase.losses(draw, told):
        loss.backward()
    return told
