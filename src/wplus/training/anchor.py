"""Warm-up of a generator by reconstruction, and pairs of latents and images retained during adversarial training.

A discriminator facing noise separates all images at once and teaches slowly. Here the generator is first trained as the
decoder of a variational autoencoder (Kingma and Welling 2014), for a minute or two. Its mapping is then fitted to the
distribution of image codes by nearest neighbours in w (IMLE, Li and Malik 2018; in a latent space GLANN, Hoshen et al.
2019), and every training image is assigned the latent whose w is nearest. A reconstruction loss on these pairs (GLO,
Bojanowski et al. 2018) complements the adversarial loss, which alone would forget them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from wplus.core.distributed import rank_and_world
from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo
from wplus.core.random import rng
from wplus.data.on_device import uploaded
from wplus.errors import UserError, check_number
from wplus.losses.variational import gaussian_nll, kl_to_normal
from wplus.models.autoencoder import CodeEncoder
from wplus.models.mapping import MappingMLP
from wplus.training.inputs import micro_batches
from wplus.training.module import leave_out
from wplus.training.phases import Draw, Phase, Told, draw_codes

if TYPE_CHECKING:
    from wplus.data import ImageSet
    from wplus.losses.image_pair import ImageDistance
    from wplus.models.generator import GeneratorNetwork
    from wplus.training.gan import GanModule

ENCODER_LR = 1e-3
CALM = 0.25  # final fraction of the warm-up, during which learning rates decay to nearly 0
CHUNK = 512  # images or codes per batch when processing all of them
INFOS = {
    "train/warm_up/distortion": MetricInfo(
        meaning="Reconstruction error of training images in the warm-up, nats per element of the image.",
        direction="lower",
    ),
    "train/warm_up/rate": MetricInfo(meaning="KL(q(z|x) || N(0, I)) in the warm-up, nats per element of the image."),
    "train/anchor/l2": MetricInfo(
        meaning="Mean squared error of training images generated from their latents.", direction="lower"
    ),
    "train/anchor/perceptual": MetricInfo(
        meaning="Perceptual distance of training images generated from their latents.", direction="lower"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Training images (n, C, H, W) in [-1, 1] and their assigned latents z (n, z_dim)."""

    z: Tensor
    images: Tensor


class Anchor(nn.Module):
    """Warm-up of a generator, and the pairs of latents and images it retains.

    Args:
        warmup_kimg: length of the reconstruction warm-up, before adversarial training.
        sigma: standard deviation of p(x|z) in the warm-up, for images in [-1, 1].
        beta: weight of the rate in the warm-up.
        weight: weight of the squared error of pairs, relative to the adversarial loss.
        perceptual_weight: weight of the perceptual distance of pairs; 0: none.
        share: pairs per step, as a fraction of the batch.
        fit_steps, fit_lr: steps and learning rate for fitting the mapping.
        pool: number of candidate latents when assigning latents to images.
        perceptual: the perceptual distance.
    """

    z: Tensor
    fitted: Tensor

    def __init__(
        self,
        *,
        warmup_kimg: float = 40.0,
        sigma: float = 0.3,
        beta: float = 1.0,
        weight: float = 30.0,
        perceptual_weight: float = 2.0,
        share: float = 0.5,
        fit_steps: int = 400,
        fit_lr: float = 5.0,
        pool: int = 65536,
        perceptual: ImageDistance | None = None,
    ) -> None:
        super().__init__()
        check_number("anchor.warmup_kimg", warmup_kimg, lowest=0.001)
        check_number("anchor.sigma", sigma, lowest=0.001)
        weights = {"beta": beta, "weight": weight, "perceptual_weight": perceptual_weight}
        for name, value in weights.items():
            check_number(f"anchor.{name}", value, lowest=0)
        check_number("anchor.share", share, lowest=0.01, highest=1)
        check_number("anchor.fit_steps", fit_steps, lowest=1, whole=True)
        check_number("anchor.fit_lr", fit_lr, lowest=0)
        check_number("anchor.pool", pool, lowest=1, whole=True)
        self.warmup, self.sigma, self.beta = warmup_kimg * 1000, sigma, beta
        self.weight, self.perceptual_weight, self.share = weight, perceptual_weight, share
        self.fit_steps, self.fit_lr, self.pool = fit_steps, fit_lr, pool
        self.perceptual = perceptual if perceptual_weight else None
        leave_out(self, "perceptual")
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "is_fitted", bool(module.fitted)))
        self.is_fitted = False  # host copy: reading the buffer would synchronise with the device
        self.fingerprint: dict[str, Any] = {
            **weights, "warmup_kimg": warmup_kimg, "sigma": sigma, "share": share, "fit_steps": fit_steps,
            "fit_lr": fit_lr, "pool": pool, "perceptual": None if self.perceptual is None else self.perceptual.name,
        }  # fmt: skip

    @property
    def saw(self) -> tuple[str, ...]:
        """Pretrained nets that the generator is trained with through the perceptual distance."""
        return () if self.perceptual is None else (self.perceptual.name,)

    def bind(self, data: ImageSet, generator: GeneratorNetwork, *, seed: int) -> None:
        """Attach the images and create the encoder and latents; UserError for an unsuitable generator or labels."""
        if data.c_dim:
            raise UserError(
                "anchor is for images without labels: use anchor=none, or data.labels=none where data has that."
            )
        if not isinstance(generator.mapping, MappingMLP) or generator.progressive:
            raise UserError(
                "anchor needs a generator that has a mapping network and does not grow, as model=stylegan2, got "
                f"{type(generator).__module__.rpartition('.')[2]}: use anchor=none."
            )
        self.data, self.seed = data, seed
        size, channels = generator.resolution, generator.img_channels
        self.encoder = CodeEncoder(w_dim=generator.z_dim, input_size=size, img_channels=channels, variational=True)
        self.register_buffer("z", torch.zeros(len(data), generator.z_dim))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    # --- warm-up ------------------------------------------------------------------------------------------------------

    def warms_up(self, nimg: int) -> bool:
        """Return whether the warm-up is still running after `nimg` images."""
        return nimg < self.warmup

    def lr_factor(self, nimg: int) -> float:
        """Return the learning-rate factor in the warm-up: 1, with a linear decay to 0.02 at the end."""
        return min(1.0, max((1 - nimg / self.warmup) / CALM, 0.02))

    def reconstruction_loss(
        self, generator: GeneratorNetwork, real: Tensor, noise: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return -log p(x|z) + beta KL(q(z|x) || N(0, I)), averaged over images and their elements, and its terms."""
        posterior = self.encoder.posterior(real)
        drawn = generator(posterior.code(noise))
        log_sigma = torch.full((), self.sigma, device=real.device).log()
        size = real[0].numel()
        distortion = gaussian_nll(real, drawn, log_sigma).mean() / size
        rate = kl_to_normal(posterior).sum(dim=1).mean() / size
        parts = {"train/warm_up/distortion": distortion.detach(), "train/warm_up/rate": rate.detach()}
        return distortion + self.beta * rate, parts

    # --- from codes to latents ----------------------------------------------------------------------------------------

    def fit(self, generator: GeneratorNetwork) -> None:
        """Fit the mapping to the image codes in w, then assign a latent to every image."""
        mapping, source = generator.mapping, rng(self.seed, "anchor")
        assert isinstance(mapping, MappingMLP)
        with torch.no_grad():
            codes = [
                self.encoder.posterior(self._images(rows)).mean for rows in torch.arange(len(self.data)).split(CHUNK)
            ]
            targets = mapping.w(torch.cat(codes), None)
        fit_mapping(mapping, targets, steps=self.fit_steps, lr=self.fit_lr, source=source)
        with torch.no_grad():
            pool = torch.randn(self.pool, mapping.z_dim, generator=source).to(targets.device)
            ws = torch.cat([mapping.w(part, None) for part in pool.split(CHUNK)])
            nearest = torch.cat([torch.cdist(part, ws).argmin(dim=1) for part in targets.split(CHUNK)])
            self.z.copy_(pool[nearest])
            mapping.w_avg.copy_(ws.mean(dim=0))
        self.fitted.fill_(True)
        self.is_fitted = True

    def _images(self, rows: Tensor) -> Tensor:
        return to_float(uploaded(self.data.batch(rows)[0], self.z.device))

    # --- pairs --------------------------------------------------------------------------------------------------------

    def sample(self, batch_size: int) -> Pairs:
        """Draw this process's pairs, from torch's generator, for a step of `batch_size` images over all processes."""
        rank, world = rank_and_world()
        num = max(round(batch_size * self.share / world), 1) * world
        rows = torch.randint(len(self.data), (num,))[rank::world]
        return Pairs(z=self.z[uploaded(rows, self.z.device)], images=self._images(rows))

    def loss(self, generator: GeneratorNetwork, pairs: Pairs) -> tuple[Tensor, dict[str, Tensor]]:
        """Return weight |x - G(z)|^2 + perceptual_weight d(x, G(z)), averaged over pairs, and its unweighted terms."""
        drawn = generator(pairs.z)
        l2 = (pairs.images - drawn).square().mean()
        total, parts = self.weight * l2, {"train/anchor/l2": l2.detach()}
        if self.perceptual is not None:
            distance = self.perceptual(pairs.images, drawn).mean()
            total, parts["train/anchor/perceptual"] = total + self.perceptual_weight * distance, distance.detach()
        return total, parts


def warm_up(module: GanModule, real: Tensor, optimizer: torch.optim.Optimizer) -> bool:
    """Perform a warm-up step of `module`, or finish the warm-up once it is over; return whether there was a step.

    Finishing copies the generator into the averages and resets its optimizer, since the losses that follow differ.
    """
    anchor = module.anchor
    if anchor is None or anchor.is_fitted:
        return False
    warms_up = anchor.warms_up(module.images_seen)
    factor = anchor.lr_factor(module.images_seen) if warms_up else 1.0
    for group in optimizer.param_groups:
        group["lr"] = factor * (ENCODER_LR if group.get("own_lr") else module.generator_lr)
    if warms_up:
        phase = Phase("warm_up", "generator", 1, partial(draw_codes, module), partial(reconstruction_losses, module))
        module.run_phase(phase, real, real.new_zeros(len(real), 0), optimizer)
        return True
    anchor.fit(module.generator)
    for average in (module.ema, *module.power_averages.averages):
        average.load_state_dict(module.generator.state_dict())
    optimizer.state.clear()
    return False


def reconstruction_losses(module: GanModule, draw: Draw, told: Told) -> Iterator[Tensor]:
    """-log p(x|z) + beta KL(q(z|x) || p(z)) for the generator as a decoder, before adversarial training."""
    assert module.anchor is not None
    assert draw.noise is not None
    for part in micro_batches(len(draw.real), module.num_micro, 1, module.device):
        loss, numbers = module.anchor.reconstruction_loss(module.generator, draw.real[part], draw.noise[part])
        told.numbers.extend(numbers.items())
        yield loss * (len(draw.real[part]) / len(draw.real))


# --- fitting the mapping ----------------------------------------------------------------------------------------------

NUM_LATENTS, NUM_TARGETS, NUM_STEPS = 8192, 2048, 8  # latents and targets per matching, and steps that use it
BATCH = 512
JITTER = 0.02  # noise on matched latents, so that neighbouring latents give similar images


def fit_mapping(mapping: MappingMLP, targets: Tensor, *, steps: int, lr: float, source: torch.Generator) -> list[float]:
    """IMLE in w: for each of a sample of targets (M, w_dim), pull the nearest of many mapped latents towards it.

    Every target has a nearest latent, so none is left out, as can happen with a discriminator. All randomness comes
    from `source`, on the CPU. The effective learning rate of mapping layers is a hundredth of `lr`. Returns the mean
    squared distance of each matching, which decreases.
    """
    mapping.requires_grad_(True)
    optimizer = torch.optim.Adam(mapping.parameters(), lr=lr, betas=(0.5, 0.99))
    distances = []
    for step in range(steps):
        if step % NUM_STEPS == 0:
            with torch.no_grad():
                latents = torch.randn(NUM_LATENTS, mapping.z_dim, generator=source).to(targets.device)
                wanted = targets[torch.randint(len(targets), (NUM_TARGETS,), generator=source).to(targets.device)]
                between = torch.cdist(wanted, mapping.w(latents, None))
                matched = latents[between.argmin(dim=1)]
            distances.append(float(between.amin(dim=1).square().mean()))
        rows = torch.randint(NUM_TARGETS, (BATCH,), generator=source)
        jitter = JITTER * torch.randn(BATCH, mapping.z_dim, generator=source)
        rows, jitter = rows.to(targets.device), jitter.to(targets.device)
        # E |f(z_j) - w_i|^2, where f(z_j) is the nearest of many to w_i
        loss = (mapping.w(matched[rows] + jitter, None) - wanted[rows]).square().sum(dim=1).mean()
        for group in optimizer.param_groups:
            group["lr"] = lr * max(1 - step / steps, 0.02)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return distances
