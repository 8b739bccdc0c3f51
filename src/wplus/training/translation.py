"""Translator training: pix2pix with pairs (Isola et al., 1611.07004), CycleGAN without (Zhu et al., 1703.10593)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core.distributed import rank_and_world
from wplus.core.metric_result import MetricInfo, described
from wplus.models.network import Network
from wplus.models.translation.base import TranslatorNetwork
from wplus.models.translation.patch import PatchDiscriminator
from wplus.training.module import TrainingModule, shared_statistics
from wplus.training.replay import ReplayPool
from wplus.training.translation_hparams import CycleGANHparams, Pix2PixHparams, TranslationHparams

Direction = Literal["forward", "backward"]
Loss = Callable[..., Tensor]


class TranslationModule(TrainingModule):
    """Base class of both methods: two domains in the channels of a batch, random crops, learning-rate schedule.

    Args:
        channels: number of channels of domain a and of domain b.
        generator_loss, discriminator_loss: losses of logits, see `wplus.losses.adversarial`.
        hparams: hyper-parameters, with those that depend on the data filled in.
        networks: networks by role; `generator` translates a to b.
    """

    generator: TranslatorNetwork
    discriminator: PatchDiscriminator
    hp: TranslationHparams
    needs_pairs: ClassVar[bool]

    def __init__(
        self, networks: Mapping[str, Network], *, channels: tuple[int, int], generator_loss: Loss,
        discriminator_loss: Loss, hparams: TranslationHparams, seed: int = 0,
    ) -> None:  # fmt: skip
        described = {role: {"class": type(net).__name__, **net.arguments} for role, net in networks.items()}
        losses = {name: _name(loss) for name, loss in (("g", generator_loss), ("d", discriminator_loss))}
        run_fingerprint = {"hparams": asdict(hparams), "networks": described, "losses": losses, "seed": seed}
        super().__init__(batch_size=hparams.batch_size, seed=seed, run_fingerprint=run_fingerprint)
        self.channels, self.generator_loss, self.discriminator_loss = channels, generator_loss, discriminator_loss
        self.hp = hparams
        for role, network in networks.items():
            self.add_module(role, network.train().requires_grad_(True))
        self.roles = list(networks)

    @property
    def exported(self) -> dict[str, Network]:
        """All networks; neither method keeps a moving average."""
        return {role: getattr(self, role) for role in self.roles}

    def describe(self) -> dict[str, Any]:
        """The method and its hyper-parameters."""
        method = type(self).__name__.removesuffix("Module").lower()
        return {"translation": {"method": method, "hparams": asdict(self.hp), "weights": "as trained"}}

    def translator(self, direction: Direction) -> TranslatorNetwork | None:
        """Return the generator of a direction, or None if there is none."""
        return getattr(self, "generator" if direction == "forward" else "generator_backward", None)

    @torch.no_grad()
    def translate(self, images: Tensor, direction: Direction = "forward") -> Tensor:
        """Translate images (N, C, H, W) in [-1, 1] to (N, D, H, W), explicitly in inference mode."""
        translator = self.translator(direction)
        assert translator is not None
        return translator(images, mode="inference")

    def split(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Split a batch (N, C_a + C_b, H, W) into images of a and of b."""
        a, b = images.split(list(self.channels), dim=1)
        return a, b

    def set_rates(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Set the current learning rate."""
        rate = self.hp.rate(self.images_seen)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate

    def adam(self, *networks: Network) -> torch.optim.Optimizer:
        """Create one Adam for all the networks, as published."""
        hp = self.hp
        parameters = [parameter for network in networks for parameter in network.parameters()]
        return torch.optim.Adam(parameters, lr=hp.rate(0), betas=(hp.beta1, hp.beta2), fused=True)

    def judged(self, discriminator: PatchDiscriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, averaged over images and patches; batches pass separately, as published."""
        logits = discriminator(real, "train"), discriminator(fake, "train")
        for name, values in zip(("real", "fake"), logits, strict=True):
            self.means.add(f"train/logits/{name}", values.mean())
        return self.discriminator_loss(*logits).mean()

    def state_summary(self) -> dict[str, Any]:
        """Values to log: skipped steps and the learning rate."""
        return {**super().state_summary(), "progress/learning_rate": self.hp.rate(self.images_seen)}

    def log_infos(self) -> dict[str, MetricInfo]:
        """Descriptions of the values that a run logs."""
        meanings = {
            "train/generator/loss": "Weighted sum of the generators' losses.",
            "train/generator/adversarial": "The adversarial loss of the generators, mean over directions.",
            "train/generator/l1": "Mean absolute difference of training images from the truth; pixels in [-1, 1].",
            "train/generator/cycle": "Mean absolute difference of images after a full cycle, mean over directions.",
            "train/generator/identity": "Mean absolute change of images that already belong to the target domain.",
            "train/generator/grad_norm": "Norm of the generators' gradient.",
            "train/discriminator/loss": "Loss of the discriminators, mean over domains.",
            "train/discriminator/grad_norm": "Norm of the discriminators' gradient.",
            "train/logits/real": "Mean logit of real patches.",
            "train/logits/fake": "Mean logit of generated patches.",
            "progress/learning_rate": "Current learning rate.",
        }
        return {**super().log_infos(), **described(meanings)}


class Pix2PixModule(TranslationModule):
    """Trains a translator on pairs: first the discriminator, then the generator, on the same generated image.

    min_G max_D  E[log D(a, b)] + E[log(1 - D(a, G(a)))] + lambda E |b - G(a)|_1, non-saturating (equation 4)
    """

    hp: Pix2PixHparams
    needs_pairs = True

    def update(self, real: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Perform one step of each network on pairs (N, C_a + C_b, H, W)."""
        self.set_rates(optimizers)
        self.seed_phase("jitter")
        a, b = self.split(jittered(real, self.hp.jitter))
        with shared_statistics([self.generator, self.discriminator]):
            self.seed_phase("dropout")
            fake = self.generator(a, "train")
            self._step_discriminator(a, b, fake.detach(), optimizers[1])
            self._step_generator(a, b, fake, optimizers[0])

    def _seen(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the discriminator's input for a pair."""
        return torch.cat([a, b], dim=1) if self.hp.discriminated == "pair" else b

    def _step_discriminator(self, a: Tensor, b: Tensor, fake: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = self.judged(self.discriminator, self._seen(a, b), self._seen(a, fake))
        (self.hp.discriminator_weight * loss).backward()
        self.guarded_step("discriminator", optimizer, in_a_row=False)
        self.means.add("train/discriminator/loss", loss)

    def _step_generator(self, a: Tensor, b: Tensor, fake: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.discriminator.requires_grad_(False)
        adversarial = self.generator_loss(self.discriminator(self._seen(a, fake), "train")).mean()
        l1 = F.l1_loss(fake, b)
        loss = self.hp.adversarial_weight * adversarial + self.hp.l1_weight * l1
        loss.backward()
        self.discriminator.requires_grad_(True)
        self.guarded_step("generator", optimizer)
        for name, value in {"adversarial": adversarial, "l1": l1, "loss": loss}.items():
            self.means.add(f"train/generator/{name}", value)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Create one Adam for each network."""
        return [self.adam(self.generator), self.adam(self.discriminator)]


class CycleGANModule(TranslationModule):
    """Trains two translators on unpaired images with cycle consistency: generators first, then discriminators.

    L = L_GAN(G, D_b) + L_GAN(F, D_a) + lambda (|F(G(a)) - a|_1 + |G(F(b)) - b|_1)  (equation 3), plus the identity loss
    0.5 lambda (|G(b) - b|_1 + |F(a) - a|_1), which preserves colors (section 5.2)
    """

    hp: CycleGANHparams
    generator_backward: TranslatorNetwork
    discriminator_backward: PatchDiscriminator
    needs_pairs = False

    def __init__(
        self, networks: Mapping[str, Network], *, hparams: CycleGANHparams, resolution: int, **shared: Any
    ) -> None:
        super().__init__(networks, hparams=hparams, **shared)
        self.pool_a, self.pool_b = (
            ReplayPool(hparams.pool_size, channels, resolution, resolution) for channels in self.channels
        )

    def update(self, real: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Step both generators, then both discriminators, on images (N, C_a + C_b, H, W)."""
        self.set_rates(optimizers)
        a, b = self.split(real)
        self.seed_phase("jitter a")
        a = jittered(a, self.hp.jitter)
        self.seed_phase("jitter b")
        b = jittered(b, self.hp.jitter)
        with shared_statistics(self.exported.values()):
            self.seed_phase("dropout")
            fake_a, fake_b = self._step_generators(a, b, optimizers[0])
            self.seed_phase("pools")
            fake_a, fake_b = (pool(fake, seen=self.images_seen)
                              for pool, fake in ((self.pool_a, fake_a), (self.pool_b, fake_b)))  # fmt: skip
            self._step_discriminators((a, fake_a), (b, fake_b), optimizers[1])

    def _step_generators(self, a: Tensor, b: Tensor, optimizer: torch.optim.Optimizer) -> tuple[Tensor, Tensor]:
        """Step both generators and return the translations of b and of a."""
        forward, backward, hp = self.generator, self.generator_backward, self.hp
        optimizer.zero_grad(set_to_none=True)
        self._hold_discriminators(True)
        fake_b, fake_a = forward(a, "train"), backward(b, "train")
        losses = {
            "adversarial": self._fooled(self.discriminator, fake_b) + self._fooled(self.discriminator_backward, fake_a),
            "cycle": F.l1_loss(backward(fake_b, "train"), a) + F.l1_loss(forward(fake_a, "train"), b),
        }
        weights = {"adversarial": hp.adversarial_weight, "cycle": hp.cycle_weight}
        if hp.identity_weight:
            losses["identity"] = F.l1_loss(forward(b, "train"), b) + F.l1_loss(backward(a, "train"), a)
            weights["identity"] = hp.identity_weight * hp.cycle_weight
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        loss.backward()
        self._hold_discriminators(False)
        self.guarded_step("generator", optimizer)
        for name, value in losses.items():
            self.means.add(f"train/generator/{name}", value / 2)
        self.means.add("train/generator/loss", loss)
        return fake_a.detach(), fake_b.detach()

    def _fooled(self, discriminator: PatchDiscriminator, fake: Tensor) -> Tensor:
        return self.generator_loss(discriminator(fake, "train")).mean()

    def _hold_discriminators(self, is_held: bool) -> None:
        for discriminator in (self.discriminator, self.discriminator_backward):
            discriminator.requires_grad_(not is_held)

    def _step_discriminators(
        self, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        """Step both discriminators on (real, generated) images of the two domains."""
        optimizer.zero_grad(set_to_none=True)
        loss = self.judged(self.discriminator, *b) + self.judged(self.discriminator_backward, *a)
        (self.hp.discriminator_weight * loss).backward()
        self.guarded_step("discriminator", optimizer, in_a_row=False)
        self.means.add("train/discriminator/loss", loss / 2)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Create one Adam for both generators and one for both discriminators."""
        return [
            self.adam(self.generator, self.generator_backward),
            self.adam(self.discriminator, self.discriminator_backward),
        ]


def jittered(images: Tensor, factor: float) -> Tensor:
    """Enlarge images (N, C, H, W) by `factor` (bilinear) and crop each at a random position, the same for all channels.

    Draws for the images of all processes from torch's generator and uses those of this process (pix2pix, appendix 6.2:
    286 to 256).
    """
    if factor == 1:
        return images
    rank, world = rank_and_world()
    places = torch.rand(len(images) * world, 2, device=images.device)[rank::world]
    scale = 1 / factor
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = (2 * places - 1) * (1 - scale)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _name(loss: Loss) -> str:
    return str(getattr(loss, "func", loss).__name__)
