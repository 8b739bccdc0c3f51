"""The discriminator of codes at play: what it is shown, what it learns from, its replay pools."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wplus.core.distributed import gathered, rank_and_world
from wplus.losses.adversarial import logistic_discriminator
from wplus.losses.regularisers import r1_penalty
from wplus.models.network import Network
from wplus.training.encoder_hparams import LatentAdversary
from wplus.training.pools import LatentPool


class Adversary(nn.Module):
    """Tells codes of the mapping network (real) from codes of an encoder (fake); frozen but for its own steps.

    Two historic variants of what it learns from are `settings.pool_size=50, styles=random` (e4e with --use_w_pool: for
    each image a random one of its codes, half of them exchanged with earlier ones) and `pool_size=0, styles=first` (e4e
    without: the first code of each image, and no other ever).
    """

    def __init__(self, discriminator: Network, settings: LatentAdversary) -> None:
        super().__init__()
        self.discriminator, self.settings = discriminator.requires_grad_(False), settings
        w_dim = discriminator.arguments["w_dim"]
        self.real_pool, self.fake_pool = (LatentPool(settings.pool_size, w_dim) for _ in range(2))

    def choose(self, real: Tensor, ws: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Real codes (N, w_dim) as they are, and one of each image's codes 0..stage, of ws (N, num_ws, w_dim)."""
        if self.settings.styles == "first":
            return real, ws[:, 0]
        style = torch.randint(stage + 1, (len(ws),), device=ws.device)
        return real, ws[torch.arange(len(ws), device=ws.device), style]

    def replay(self, real: Tensor, fake: Tensor, *, seen: int) -> tuple[Tensor, Tensor]:
        """Both (N, w_dim) through their pools, which see the codes of all processes in the same order everywhere."""
        rank = rank_and_world()[0]
        return tuple(
            pool.query(gathered(codes), seen=seen)[rank * len(codes) :][: len(codes)]
            for pool, codes in ((self.real_pool, real), (self.fake_pool, fake))
        )

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """The logistic loss."""
        logits = self.discriminator(torch.cat([real, fake])).chunk(2)
        return logistic_discriminator(*logits).mean()

    def penalty(self, real: Tensor) -> Tensor:
        """R1 for its lazy step: r1/2 |dD/dw|^2, times the steps between two of them."""
        codes = real[:, :, None, None].clone().requires_grad_()  # r1_penalty takes images
        penalty = r1_penalty(self.discriminator(codes.flatten(1)), codes).mean()
        return penalty * (0.5 * self.settings.r1 * self.settings.r1_interval)

    @torch.no_grad()
    def observe(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Means for the log: its loss and its logits after the step."""
        logits = self.discriminator(torch.cat([real, fake])).chunk(2)
        return {"loss": logistic_discriminator(*logits).mean(), "real": logits[0].mean(), "fake": logits[1].mean()}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam, as published."""
        settings = self.settings
        betas = (settings.beta1, settings.beta2)
        return torch.optim.Adam(self.discriminator.parameters(), lr=settings.lr, betas=betas, fused=True)
