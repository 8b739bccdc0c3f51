"""Training of an `AttributeNet`: the schedule, and the steps, each of which depends only on (seed, step)."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core.images import to_float
from wplus.data.loader import EpochOrder
from wplus.data.on_device import uploaded
from wplus.errors import UserError
from wplus.pretrained.attribute_classifier import AttributeNet


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Training schedule of a classifier: AdamW with warm-up over the first twentieth and cosine decay to 0."""

    kimg: float
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.0
    snapshot_kimg: float = 50.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("kimg", "batch_size", "learning_rate", "snapshot_kimg"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)} is not allowed: it must be more than 0.")

    @property
    def num_steps(self) -> int:
        """Total number of steps, at least one."""
        return max(1, round(self.kimg * 1000 / self.batch_size))

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        warm = max(1, self.num_steps // 20)
        return self.learning_rate * min((step + 1) / warm, (1 + math.cos(math.pi * step / self.num_steps)) / 2)


def seeded_net(seed: int, **arguments: Any) -> AttributeNet:
    """A newly initialized net; the global random state is preserved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttributeNet(**arguments)


def new_optimizer(net: AttributeNet, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW with the schedule's settings."""
    return torch.optim.AdamW(net.parameters(), weight_decay=schedule.weight_decay, fused=True)


def learning(
    net: AttributeNet, optimizer: torch.optim.Optimizer, images: Callable[[Tensor], Tensor], targets: Tensor,
    schedule: Schedule, *, start: int = 0,
) -> Iterator[Tensor]:  # fmt: skip
    """Run the training steps from number `start` on, yielding the loss of each, on the net's device.

    Args:
        images: image numbers (B,) -> uint8 (B, C, R, R) at the net's input size.
        targets: int64 (N, factors), the class of every factor of each image.
    """
    device = next(net.parameters()).device
    for step, indices in _order(len(targets), schedule, start):
        pixels = to_float(uploaded(images(indices), device))
        loss = _loss(net, pixels, uploaded(targets[indices], device), schedule.label_smoothing)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.detach()


def _order(num: int, schedule: Schedule, start: int) -> Iterator[tuple[int, Tensor]]:
    """Yield (step, image numbers (B,)) from `start` on: permutations drawn from (seed, epoch), joined without a gap."""
    size = schedule.batch_size
    order = EpochOrder(num, lambda epoch: np.random.default_rng([schedule.seed, epoch]).permutation(num))
    for step in range(start, schedule.num_steps):
        yield step, torch.from_numpy(order(np.arange(step * size, (step + 1) * size)))


def _loss(net: AttributeNet, pixels: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross entropy in nats, summed over factors and averaged over images."""
    parts = net.factors(net(pixels))
    losses = [F.cross_entropy(part, targets[:, i], label_smoothing=smoothing) for i, part in enumerate(parts)]
    return torch.stack(losses).sum()
