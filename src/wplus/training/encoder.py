"""Encoder training for a frozen generator (e4e, Tov et al. 2021; pSp, Richardson et al. 2021; ReStyle, Alaluf et al.
2021): image losses, latent losses, and a latent discriminator that keeps latents close to the generator's own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.core.distributed import rank_and_world
from wplus.core.metric_result import MetricInfo, described
from wplus.core.runtime import eval_mode
from wplus.losses.adversarial import nonsaturating_generator
from wplus.losses.image_pair import ImageDistance
from wplus.models.encoders.base import Encoder
from wplus.models.encoders.e4e import LatentDiscriminator
from wplus.models.generator import GeneratorNetwork
from wplus.models.network import Network, nets_seen
from wplus.training.encoder_hparams import EncoderHparams
from wplus.training.latent_adversary import LatentAdversary
from wplus.training.module import TrainingModule, ema_decay, leave_out, shared_statistics, update_ema
from wplus.training.optim import Ranger


class EncoderModule(TrainingModule):
    """Trains an encoder to map images to latents, together with an optional latent discriminator.

    Args:
        encoder: an encoder whose `latent_avg` is set.
        generator: the generator, which is frozen.
        losses: image-pair losses under the names used in `hparams.loss_weights`; also measured on held-out images.
        hparams: hyper-parameters.
        fingerprint: fingerprint of the generator.
        discriminator: latent discriminator; required if the adversarial loss has a weight.
    """

    def __init__(
        self,
        encoder: Encoder,
        generator: GeneratorNetwork,
        *,
        losses: Mapping[str, ImageDistance],
        hparams: EncoderHparams,
        fingerprint: str,
        discriminator: LatentDiscriminator | None = None,
        seed: int = 0,
    ) -> None:
        run_fingerprint = {
            "hparams": asdict(hparams),
            "encoder": {"class": type(encoder).__name__, **encoder.arguments},
            "generator": fingerprint,
            "losses": {name: loss.name for name, loss in losses.items()},
            "seed": seed,
        }
        super().__init__(batch_size=hparams.batch_size, seed=seed, run_fingerprint=run_fingerprint)
        encoder.saw = nets_seen([encoder, generator])
        self.hp, self.fingerprint = hparams, fingerprint
        self.encoder, self.generator = encoder.train().requires_grad_(True), generator.eval().requires_grad_(False)
        self.losses: Mapping[str, ImageDistance] = nn.ModuleDict(losses)  # type: ignore[assignment]
        self._set_stage()
        self.average = None if hparams.ema_kimg is None else copy.deepcopy(encoder).eval().requires_grad_(False)
        settings, self.adversary = hparams.latent_discriminator, None
        if discriminator is not None and settings is not None:
            self.adversary = LatentAdversary(discriminator, settings)
        leave_out(self, "generator", "losses")  # loaded from files

    @property
    def exported(self) -> dict[str, Network]:
        """The encoder or its moving average, and its generator."""
        return {"generator": self.generator, "encoder": self.exported_encoder}

    @property
    def exported_encoder(self) -> Encoder:
        """The moving average if there is one, otherwise the encoder."""
        return self.encoder if self.average is None else self.average

    def describe(self) -> dict[str, Any]:
        """Which generator the encoder belongs to, and how it was trained."""
        return {
            "encoder": {
                "generator": self.fingerprint,
                "stage": int(self.exported_encoder.stage),
                "hparams": asdict(self.hp),
                "losses": {name: dict(loss.provenance) for name, loss in self.losses.items()},
                "weights": "the encoder's" if self.average is None else "moving average of the encoder",
            }
        }

    def state_summary(self) -> dict[str, Any]:
        """Counters to log: skipped steps and the stage."""
        return {**super().state_summary(), "progress/stage": int(self.encoder.stage)}

    def log_infos(self) -> dict[str, MetricInfo]:
        """Descriptions of the values that a run logs."""
        meanings = {
            "train/encoder/loss": "Weighted sum of the encoder's losses.",
            "train/encoder/adversarial": "-log sigmoid of the discriminator's logits of the encoder's latents, mean.",
            "train/encoder/delta": "Norm of the deltas from the first latent, summed over active ones.",
            "train/encoder/w_norm": "Distance of all latents from the generator's mean.",
            "train/encoder/grad_norm": "Norm of the encoder's gradient.",
            "train/latent_discriminator/loss": "Logistic loss of the discriminator of latents.",
            "train/latent_discriminator/real": "Mean logit of latents of the mapping network.",
            "train/latent_discriminator/fake": "Mean logit of latents of the encoder.",
            "train/latent_discriminator/grad_norm": "Norm of the latent discriminator's gradient.",
            "train/latent_r1/grad_norm": "Norm of the latent discriminator's gradient in steps of its R1 penalty.",
            "progress/stage": "Index of the newest active delta; 0 for one latent in all layers.",
        }
        for name, loss in self.losses.items():
            meanings[f"train/encoder/{name}"] = f"Distance {loss.name} of training images from their inversions, mean."
        return {**super().log_infos(), **described(meanings)}

    # --- the step ---------------------------------------------------------------------------------------------------

    def update(self, real: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Step the latent discriminator on the latents of the encoder's forward pass, then step the encoder."""
        stage = self._set_stage()
        optimizers[0].zero_grad(set_to_none=True)
        with torch.no_grad():
            small, weights = self._fit(real), self.hp.loss_weights
            target = {name: loss.features(small) for name, loss in self.losses.items() if weights.get(name)}
        ws, images = self._start(len(real))
        with shared_statistics([self.encoder]):
            for number in range(self.hp.num_passes):
                ws = self._encode(self.encoder, real, ws, images, stage)
                if number == 0 and self.adversary is not None:
                    self._update_discriminator(self.adversary, ws.detach(), labels, stage, optimizers[1])
                images = self.generator.synthesis(ws, noise=self._noise(f"encoder/{number}", len(ws)))
                self._loss(ws, images, target, stage).backward()
                ws, images = ws.detach(), images.detach()
        self.guarded_step("encoder", optimizers[0])
        if self.average is not None and self.hp.ema_kimg is not None:
            decay = ema_decay(self.batch_size, self.images_seen, self.hp.ema_kimg, self.hp.ema_rampup)
            update_ema(self.average, self.encoder, decay)

    def _set_stage(self) -> int:
        """Return the current stage and store it in the encoder, which is exported with it."""
        stage = self.hp.progressive_stage(self.images_seen, self.encoder.num_ws - 1)
        self.encoder.stage.fill_(stage)
        return stage

    def _noise(self, phase: str, num: int) -> list[Tensor]:
        """Return noise for `num` images of this process: stored, or drawn for all processes and then sliced."""
        if self.hp.noise == "const":
            return self.generator.synthesis.const_noise()
        self.seed_phase(phase)
        rank, world = rank_and_world()
        return [noise[rank::world] for noise in self.generator.synthesis.random_noise(num * world)]

    def _start(self, num: int) -> tuple[Tensor, Tensor | None]:
        """Return the mean latent for each of `num` images and, for an iterative encoder, the image of that latent."""
        ws = self.encoder.latent_avg[None]
        images = self.generator.synthesis(ws).expand(num, -1, -1, -1) if self.encoder.is_iterative else None
        return ws.expand(num, -1, -1), images

    def _encode(self, encoder: Encoder, real: Tensor, ws: Tensor, images: Tensor | None, stage: int) -> Tensor:
        """Return ws + E(x), or ws + E(x, G(ws)) (ReStyle, equation 1)."""
        if encoder.is_iterative and images is not None:
            real = torch.cat([real, images], dim=1)
        return ws + encoder.offsets(real, stage)

    def _fit(self, images: Tensor) -> Tensor:
        """Downscale images to at most `loss_px` by area averaging, for comparison."""
        size = self.hp.loss_px
        return images if images.shape[-1] <= size else F.adaptive_avg_pool2d(images, size)

    def _loss(self, ws: Tensor, images: Tensor, target: dict[str, list[Tensor]], stage: int) -> Tensor:
        """Return the weighted sum of the image losses and the latent losses."""
        small = self._fit(images)
        values = {
            name: self.losses[name].distance(self.losses[name].features(small), features).mean()
            for name, features in target.items()
        }
        values |= self._latent_losses(ws, stage)
        weighted = (self.hp.loss_weights[name] * value for name, value in values.items())
        total = sum(weighted, start=torch.zeros((), device=ws.device))
        for name, value in {**values, "loss": total}.items():
            self.means.add(f"train/encoder/{name}", value)
        return total

    def _latent_losses(self, ws: Tensor, stage: int) -> dict[str, Tensor]:
        """Return the weighted latent losses: `adversarial` is a mean over active latents, `delta` a sum over deltas."""
        weights, values = self.hp.loss_weights, {}
        if self.adversary is not None:
            logits = self.adversary.discriminator(ws[:, : stage + 1].flatten(0, 1))
            values["adversarial"] = nonsaturating_generator(logits).mean()
        if weights.get("delta"):
            deltas = ws[:, 1 : stage + 1] - ws[:, :1]  # (N, stage, w_dim)
            values["delta"] = torch.linalg.vector_norm(deltas, dim=2).mean(dim=0).sum()
        if weights.get("w_norm"):
            values["w_norm"] = torch.linalg.vector_norm(ws - self.encoder.latent_avg, dim=(1, 2)).mean()
        return values

    def _update_discriminator(
        self, adversary: LatentAdversary, ws: Tensor, labels: Tensor, stage: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Step the discriminator, and every few steps its R1 penalty, on samples from the replay pools."""
        settings, step = adversary.settings, self.images_seen // self.batch_size
        self.seed_phase("latent_discriminator")
        real = self._sample_w(len(ws), labels)
        fake = adversary.choose(ws - self.encoder.latent_avg if settings.fakes == "without_mean" else ws, stage)
        self.seed_phase("pools")
        real, fake = adversary.replay(real, fake, seen=self.images_seen)
        phases = {"latent_discriminator": lambda: adversary.loss(real, fake)}
        if settings.r1 and step % settings.r1_interval == 0:
            phases["latent_r1"] = lambda: adversary.penalty(real)
        adversary.discriminator.requires_grad_(True)
        for name, loss in phases.items():
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            self.guarded_step(name, optimizer, in_a_row=False)
        adversary.discriminator.requires_grad_(False)
        for name, value in adversary.observe(real, fake).items():
            self.means.add(f"train/latent_discriminator/{name}", value)

    def _sample_w(self, num: int, labels: Tensor) -> Tensor:
        """Sample w (num, w_dim) from the generator's mapping, conditioned on the classes of the images."""
        assert self.adversary is not None
        rank, world = rank_and_world()
        z = torch.randn(num * world, self.generator.z_dim, device=self.device)[rank::world]
        c = labels if self.generator.c_dim else None
        return self.generator.mapping(z, c, truncation_psi=self.adversary.settings.psi)[:, 0]

    # --- beside the step --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def reconstruct(self, real: Tensor) -> Tensor:
        """Return inversions (N, C, R, R) of `real` by the exported encoder, with stored noise."""
        ws, images = self._start(len(real))
        with eval_mode(self.exported_encoder) as encoder:
            for _ in range(self.hp.num_passes):
                ws = self._encode(encoder, real, ws, images, int(encoder.stage))
                images = self.generator.synthesis(ws)
        assert images is not None
        return images

    @torch.no_grad()
    def compare(self, images: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Return every loss (N,) of image pairs, including those without a weight."""
        a, b = self._fit(images), self._fit(real)
        return {name: loss(a, b) for name, loss in self.losses.items()}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Create the encoder's optimizer and, if there is a latent discriminator, its optimizer."""
        params, lr, decay = self.encoder.parameters(), self.hp.lr, self.hp.weight_decay
        if self.hp.optimizer == "ranger":
            first: torch.optim.Optimizer = Ranger(params, lr=lr, weight_decay=decay)
        else:
            first = torch.optim.AdamW(params, lr=lr, weight_decay=decay, fused=True)
        return [first] if self.adversary is None else [first, self.adversary.optimizer()]
