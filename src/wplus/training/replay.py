"""Replay: a discriminator also sees what was generated earlier, so that what it learns from changes slowly."""

import torch
from torch import Tensor, nn

from wplus.core.distributed import gathered, rank_and_world


class ReplayPool(nn.Module):
    """The last images or latents that passed (Shrivastava et al. 2017, section 2.3; 50 images in CycleGAN).

    They are a buffer (size, *shape), NaN where one was lost; how many of them there are follows from the clock.
    """

    stored: Tensor

    def __init__(self, size: int, *shape: int) -> None:
        super().__init__()
        self.register_buffer("stored", torch.zeros(size, *shape))

    def forward(self, rows: Tensor, *, seen: int) -> Tensor:
        """`query` for rows (N, *shape) of this process: the pool sees those of all, in the order of the images."""
        rank, world = rank_and_world()
        every = gathered(rows).unflatten(0, (world, -1)).transpose(0, 1).flatten(0, 1)
        return self.query(every, seen=seen)[rank::world]

    @torch.no_grad()
    def query(self, rows: Tensor, *, seen: int) -> Tensor:
        """Rows (N, *shape) -> as many, after `seen` earlier ones. Draws from torch's CPU generator.

        While there is room a row is stored and comes back; later it comes back in half of the cases, and in the others
        is exchanged for a random stored one. One that is not finite leaves its place empty and replaces none, which is
        decided on the device.
        """
        size = len(self.stored)
        if size == 0:
            return rows
        coins, slots = torch.rand(len(rows)).tolist(), torch.randint(size, (len(rows),)).tolist()
        answers, is_lost = rows.clone(), ~rows.flatten(1).isfinite().all(dim=1)
        for index, (coin, slot) in enumerate(zip(coins, slots, strict=True)):
            if seen + index < size:
                self.stored[seen + index] = rows[index]
            elif coin > 0.5:
                earlier = self.stored[slot].clone()
                answers[index] = torch.where(earlier.isfinite().all(), earlier, answers[index])
                self.stored[slot] = torch.where(is_lost[index], earlier, rows[index])
        return answers
