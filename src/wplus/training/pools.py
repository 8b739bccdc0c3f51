"""Replay of earlier codes (Shrivastava et al. 2017, section 2.3): what a discriminator learns from changes slowly."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LatentPool(nn.Module):
    """The last codes that passed, as a buffer `codes` (size, w_dim); how many there are follows from the clock."""

    codes: Tensor

    def __init__(self, size: int, w_dim: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(size, w_dim))

    @torch.no_grad()
    def query(self, codes: Tensor, *, seen: int) -> Tensor:
        """Codes (N, w_dim) -> as many, after `seen` earlier ones.

        While there is room a code is stored and comes back; later it comes back in half of the cases, and in the
        others takes the place of a random stored one, which comes back instead. Draws from torch's CPU generator.
        """
        size = len(self.codes)
        if size == 0:
            return codes
        coins, places = torch.rand(len(codes)).tolist(), torch.randint(size, (len(codes),)).tolist()
        answers = codes.clone()
        for index, (coin, place) in enumerate(zip(coins, places, strict=True)):
            if seen + index < size:
                self.codes[seen + index] = codes[index]
            elif coin > 0.5:
                answers[index] = self.codes[place]
                self.codes[place] = codes[index]
        return answers
