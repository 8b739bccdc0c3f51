"""Several processes: gradients are averaged in one flat exchange after a phase, not hooked into the backward pass.

A step of the game runs up to four backward passes, some of them through gradients; DistributedDataParallel's hooks
were made for one. The networks therefore stay unwrapped, and the phase averages what it accumulated.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor


def rank_and_world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) when nothing is distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@torch.no_grad()
def average_gradients(gradients: list[Tensor]) -> None:
    """Replace each gradient by its mean over the processes, in place, in one exchange."""
    world = rank_and_world()[1]
    if world == 1 or not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a detached tensor over the processes."""
    world = rank_and_world()[1]
    if world == 1:
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / world


@torch.no_grad()
def gathered(part: Tensor) -> Tensor:
    """The parts (N, ...) of all processes one after the other, the same on all of them."""
    world = rank_and_world()[1]
    if world == 1:
        return part
    parts = [torch.empty_like(part) for _ in range(world)]
    dist.all_gather(parts, part.contiguous())
    return torch.cat(parts)


class UnwrappedDDPStrategy(DDPStrategy):
    """Lightning's process handling without the DistributedDataParallel wrapper."""

    def configure_ddp(self) -> None:
        """Leave the module as it is; every process starts from rank 0's weights."""
        assert self.model is not None
        for tensor in self.model.state_dict().values():
            dist.broadcast(tensor, src=0)

    def pre_backward(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to prepare: there is no reducer."""
