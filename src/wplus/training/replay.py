"""Replay pools: a discriminator also sees earlier generated samples, so that its training data changes slowly."""

import torch
from torch import Tensor, nn

from wplus.core.distributed import gathered, rank_and_world


class ReplayPool(nn.Module):
    """Pool of earlier images or latents (Shrivastava et al. 2017, section 2.3; 50 images in CycleGAN).

    They are stored in a buffer (size, *shape), with NaN for samples that were not finite; how many are stored follows
    from the clock.
    """

    stored: Tensor

    def __init__(self, size: int, *shape: int) -> None:
        super().__init__()
        self.register_buffer("stored", torch.zeros(size, *shape))

    def forward(self, rows: Tensor, *, seen: int) -> Tensor:
        """Call `query` for rows (N, *shape) of this process; the pool sees those of all processes, in image order."""
        rank, world = rank_and_world()
        every = gathered(rows).unflatten(0, (world, -1)).transpose(0, 1).flatten(0, 1)
        return self.query(every, seen=seen)[rank::world]

    @torch.no_grad()
    def query(self, rows: Tensor, *, seen: int) -> Tensor:
        """Map rows (N, *shape), after `seen` earlier ones, to as many. Draws from torch's CPU generator.

        While there is room, each row is stored and returned. Afterwards it is returned in half of the cases and swapped
        with a random stored row in the others. A non-finite row leaves its slot empty and replaces no other; this is
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
