"""Training of the latent discriminator for encoders such as e4e (Tov et al. 2021, section 4.2)."""

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
    """Discriminates w of the mapping network (real) from w of an encoder (fake); frozen except in its own steps.

    e4e's code has two variants of its training data: with --use_w_pool a random latent of each image, half of them
    replaced by earlier ones (pool_size=50, styles=random); without it the first latent (pool_size=0, styles=first).
    """

    def __init__(self, discriminator: LatentDiscriminator, settings: LatentDiscriminatorHparams) -> None:
        super().__init__()
        self.discriminator, self.settings = discriminator.requires_grad_(False), settings
        w_dim = discriminator.arguments["w_dim"]
        self.real_pool, self.fake_pool = (ReplayPool(settings.pool_size, w_dim) for _ in range(2))

    def choose(self, ws: Tensor, stage: int) -> Tensor:
        """Choose one of the latents 0..stage of each image, ws (N, num_ws, w_dim) -> (N, w_dim)."""
        if self.settings.styles == "first":
            return ws[:, 0]
        rank, world = rank_and_world()
        style = torch.randint(stage + 1, (len(ws) * world,), device=ws.device)[rank::world]
        return ws[torch.arange(len(ws), device=ws.device), style]

    def replay(self, real: Tensor, fake: Tensor, *, seen: int) -> tuple[Tensor, Tensor]:
        """Pass both (N, w_dim) through their replay pools."""
        return self.real_pool(real, seen=seen), self.fake_pool(fake, seen=seen)

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the logistic loss."""
        return logistic_discriminator(*self.discriminator(torch.cat([real, fake])).chunk(2)).mean()

    def penalty(self, real: Tensor) -> Tensor:
        """Return lazy R1: r1/2 |dD/dw|^2, times the number of steps between two applications."""
        w = real[:, :, None, None].clone().requires_grad_()  # r1_penalty takes images
        penalty = r1_penalty(self.discriminator(w.flatten(1)), w).mean()
        return penalty * (0.5 * self.settings.r1 * self.settings.r1_interval)

    @torch.no_grad()
    def observe(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return means to log: the loss and the logits after the step."""
        logits = self.discriminator(torch.cat([real, fake])).chunk(2)
        return {"loss": logistic_discriminator(*logits).mean(), "real": logits[0].mean(), "fake": logits[1].mean()}

    def optimizer(self) -> torch.optim.Optimizer:
        """Create Adam with the published settings."""
        lr, betas = self.settings.lr, (self.settings.beta1, self.settings.beta2)
        return torch.optim.Adam(self.discriminator.parameters(), lr=lr, betas=betas, fused=True)
