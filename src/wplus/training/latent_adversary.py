"""The discriminator of latents that an encoder of e4e's kind is trained against (Tov et al. 2021, section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wplus.core.distributed import rank_and_world
from wplus.losses.adversarial import logistic_discriminator
from wplus.losses.regularisers import r1_penalty
from wplus.models.encoders.e4e import LatentDiscriminator
from wplus.training.encoder_hparams import LatentDiscriminatorHparams
from wplus.training.replay import ReplayPool


class LatentAdversary(nn.Module):
    """The discriminator of latents: w of the mapping network (real) or of an encoder (fake)? Frozen but for its steps.

    e4e's code has two variants of what it learns from: with --use_w_pool a random one of each image's latents, half of
    them exchanged with earlier ones (pool_size=50, styles=random), without it the first (pool_size=0, styles=first).
    """

    def __init__(self, discriminator: LatentDiscriminator, settings: LatentDiscriminatorHparams) -> None:
        super().__init__()
        self.discriminator, self.settings = discriminator.requires_grad_(False), settings
        w_dim = discriminator.arguments["w_dim"]
        self.real_pool, self.fake_pool = (ReplayPool(settings.pool_size, w_dim) for _ in range(2))

    def choose(self, ws: Tensor, stage: int) -> Tensor:
        """One of each image's latents 0..stage, of ws (N, num_ws, w_dim) -> (N, w_dim)."""
        if self.settings.styles == "first":
            return ws[:, 0]
        rank, world = rank_and_world()
        style = torch.randint(stage + 1, (len(ws) * world,), device=ws.device)[rank::world]
        return ws[torch.arange(len(ws), device=ws.device), style]

    def replay(self, real: Tensor, fake: Tensor, *, seen: int) -> tuple[Tensor, Tensor]:
        """Both (N, w_dim) through their pools."""
        return self.real_pool(real, seen=seen), self.fake_pool(fake, seen=seen)

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """The logistic loss."""
        return logistic_discriminator(*self.discriminator(torch.cat([real, fake])).chunk(2)).mean()

    def penalty(self, real: Tensor) -> Tensor:
        """R1 for its lazy step: r1/2 |dD/dw|^2, times the steps between two of them."""
        w = real[:, :, None, None].clone().requires_grad_()  # r1_penalty takes images
        penalty = r1_penalty(self.discriminator(w.flatten(1)), w).mean()
        return penalty * (0.5 * self.settings.r1 * self.settings.r1_interval)

    @torch.no_grad()
    def observe(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Means for the log: its loss and its logits after the step."""
        logits = self.discriminator(torch.cat([real, fake])).chunk(2)
        return {"loss": logistic_discriminator(*logits).mean(), "real": logits[0].mean(), "fake": logits[1].mean()}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam, as published."""
        lr, betas = self.settings.lr, (self.settings.beta1, self.settings.beta2)
        return torch.optim.Adam(self.discriminator.parameters(), lr=lr, betas=betas, fused=True)
