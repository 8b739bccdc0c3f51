"""e4e's discriminator of latents: does a w come from the mapping network, or from an encoder?"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from wplus.models.network import Network


class LatentDiscriminator(Network):
    """An MLP w (N, w_dim) -> logits (N, 1) (Tov et al. 2021, section 3.3.2; Nitzan et al. 2020).

    `num_layers` linear layers, leaky ReLU with slope 0.2 between them; 788,481 parameters for w_dim 512.
    """

    def __init__(self, *, w_dim: int = 512, width: int = 512, num_layers: int = 4) -> None:
        super().__init__()
        widths = [w_dim] + [width] * (num_layers - 1)
        hidden = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.LeakyReLU(0.2))]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], 1))

    def forward(self, w: Tensor) -> Tensor:
        """w (N, w_dim) -> logits (N, 1)."""
        return self.layers(w)
