"""Training an encoder for a frozen generator (e4e, Tov et al. 2021; pSp, Richardson et al. 2021; ReStyle, Alaluf et al.
2021): image terms, terms of the codes, and a discriminator that keeps the codes where the generator's own are."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.core.runtime import eval_mode
from wplus.losses.adversarial import nonsaturating_generator
from wplus.losses.image_pair import ImageDistance
from wplus.models.network import Network
from wplus.training.batch_norm import running_statistics, shared_statistics
from wplus.training.ema import ema_decay, update_ema
from wplus.training.encoder_hparams import EncoderHparams
from wplus.training.latent_adversary import Adversary
from wplus.training.module import TrainingModule
from wplus.training.optim import Ranger

FROZEN = ("generator.", "terms.")  # comes from files, and is not repeated in every checkpoint


class EncoderModule(TrainingModule):
    """An encoder learns to answer images with codes; the discriminator of codes learns beside it.

    Arguments
        encoder        a wplus.models.encoders.base.Encoder whose `latent_avg` is set
        generator      frozen here
        terms          of the loss, by the names that `hparams.weights` uses; also measured on held-out images
        hparams         the numbers
        fingerprint    of the generator
        discriminator  of codes; needed where the adversarial term has a weight
    """

    def __init__(
        self,
        encoder: Any,
        generator: Any,
        *,
        terms: Mapping[str, ImageDistance],
        hparams: EncoderHparams,
        fingerprint: str,
        discriminator: Network | None = None,
        seed: int = 0,
    ) -> None:
        identity = {
            "hparams": asdict(hparams),
            "encoder": {"class": type(encoder).__name__, **encoder.arguments},
            "generator": fingerprint,
            "terms": {name: term.name for name, term in terms.items()},
            "seed": seed,
        }
        super().__init__(batch_size=hparams.batch_size, seed=seed, identity=identity)
        self.hp, self.fingerprint = hparams, fingerprint
        self.encoder, self.generator = encoder.train().requires_grad_(True), generator.eval().requires_grad_(False)
        self.terms = nn.ModuleDict(terms)
        self._set_stage()
        self.average = None if hparams.ema_kimg is None else copy.deepcopy(encoder).eval().requires_grad_(False)
        self.adversary = None if discriminator is None else Adversary(discriminator, hparams.latent_discriminator)
        self.register_state_dict_post_hook(_leave_out_frozen)
        self.register_load_state_dict_post_hook(_expect_no_frozen)

    @property
    def exported(self) -> dict[str, Network]:
        """The encoder, or its moving average, and its generator."""
        return {"generator": self.generator, "encoder": self.encoder if self.average is None else self.average}

    def describe(self) -> dict[str, Any]:
        """Which generator the encoder belongs to, and how it came to be."""
        return {
            "encoder": {
                "generator": self.fingerprint,
                "stage": int(self.exported["encoder"].stage),
                "hparams": asdict(self.hp),
                "terms": {name: dict(term.provenance) for name, term in self.terms.items()},
                "weights": "the encoder's" if self.average is None else "moving average of the encoder",
            }
        }

    # --- the step ---------------------------------------------------------------------------------------------------

    def update(self, real: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """One step of the encoder; before it one of the discriminator, on the codes of the same forward pass."""
        stage = self._set_stage()
        optimizers[0].zero_grad(set_to_none=True)
        target = self._target(real)
        ws, shown = self._start(real)
        with shared_statistics(running_statistics([self.encoder])):
            for number in range(self.hp.refinements):
                ws = self._encode(self.encoder, real, ws, shown, stage)
                if number == 0 and self.adversary is not None:
                    self._teach_adversary(ws.detach(), labels, stage, optimizers[1])
                self.seed_phase(f"encoder/{number}")
                shown = self.generator.synthesis(ws, noise_mode=self.hp.noise)
                self._loss(ws, shown, target, stage).backward()
                ws, shown = ws.detach(), shown.detach()
        self.guarded_step("encoder", optimizers[0])
        self._update_average()

    def _set_stage(self) -> int:
        """The stage of this moment, also in the encoder, which is exported with it."""
        stage = self.hp.stage(self.images_seen, self.encoder.num_ws - 1)
        self.encoder.stage.fill_(stage)
        return stage

    def _start(self, real: Tensor) -> tuple[Tensor, Tensor | None]:
        """The mean code for each image, and its picture for an encoder that looks at one."""
        ws = self.encoder.latent_avg[None]
        shown = self.generator.synthesis(ws) if self.encoder.is_iterative else None
        num = len(real)
        return ws.expand(num, -1, -1), None if shown is None else shown.expand(num, -1, -1, -1)

    def _encode(self, encoder: Any, real: Tensor, ws: Tensor, shown: Tensor | None, stage: int) -> Tensor:
        return ws + encoder.offsets(real if shown is None else torch.cat([real, shown], dim=1), stage)

    def _target(self, real: Tensor) -> dict[str, list[Tensor]]:
        """Features of the real images for every term that has a weight."""
        with torch.no_grad():
            small = self._fit(real)
            return {name: term.features(small) for name, term in self.terms.items() if self.hp.weights.get(name)}

    def _fit(self, images: Tensor) -> Tensor:
        """The size at which images are compared: at most `loss_px`, averaged over areas."""
        size = self.hp.loss_px
        return images if images.shape[-1] <= size else F.adaptive_avg_pool2d(images, size)

    def _loss(self, ws: Tensor, images: Tensor, target: dict[str, list[Tensor]], stage: int) -> Tensor:
        small = self._fit(images)
        values = {
            name: self.terms[name].distance(self.terms[name].features(small), target[name]).mean() for name in target
        }
        values |= self._code_terms(ws, stage)
        total = sum(self.hp.weights[name] * value for name, value in values.items())
        for name, value in values.items():
            self.means.add(f"train/encoder/{name}", value)
        self.means.add("train/encoder/loss", total)
        return total

    def _code_terms(self, ws: Tensor, stage: int) -> dict[str, Tensor]:
        """Those with a weight: `adversarial` is a mean over the codes that take part, `delta` a sum over the deltas."""
        weights, values = self.hp.weights, {}
        if self.adversary is not None:
            logits = self.adversary.discriminator(ws[:, : stage + 1].flatten(0, 1))
            values["adversarial"] = nonsaturating_generator(logits).mean()
        if weights.get("delta"):
            deltas = ws[:, 1 : stage + 1] - ws[:, :1]  # (N, stage, w_dim)
            values["delta"] = torch.linalg.vector_norm(deltas, dim=2).mean(dim=0).sum()
        if weights.get("w_norm"):
            values["w_norm"] = torch.linalg.vector_norm(ws - self.encoder.latent_avg, dim=(1, 2)).mean()
        return values

    def _teach_adversary(self, ws: Tensor, labels: Tensor, stage: int, optimizer: torch.optim.Optimizer) -> None:
        """A step of the discriminator, and every few steps one of its R1 penalty, on what the pools give."""
        adversary, step = self.adversary, self.images_seen // self.batch_size
        self.seed_phase("latent_discriminator")
        real, fake = self.adversary.choose(self._own_codes(len(ws), labels), self._fakes(ws), stage)
        self.seed_phase("pools", common=True)
        real, fake = adversary.replay(real, fake, seen=self.images_seen)
        phases = {"latent_discriminator": lambda: adversary.loss(real, fake)}
        if adversary.settings.r1 and step % adversary.settings.r1_interval == 0:
            phases["latent_r1"] = lambda: adversary.penalty(real)
        with _learning(adversary.discriminator):
            for name, loss in phases.items():
                optimizer.zero_grad(set_to_none=True)
                loss().backward()
                self.guarded_step(name, optimizer, in_a_row=False)
        for name, value in adversary.observe(real, fake).items():
            self.means.add(f"train/latent_discriminator/{name}", value)

    def _own_codes(self, num: int, labels: Tensor) -> Tensor:
        """w (num, w_dim) of the generator's mapping, of the classes of the images."""
        z = torch.randn(num, self.generator.z_dim, device=self.device)
        c = labels if self.generator.c_dim else None
        return self.generator.mapping(z, c, truncation_psi=self.hp.adversary.psi)[:, 0]

    def _fakes(self, ws: Tensor) -> Tensor:
        return ws - self.encoder.latent_avg if self.hp.adversary.fakes == "without_mean" else ws

    @torch.no_grad()
    def _update_average(self) -> None:
        hparams = self.hp
        if self.average is not None:
            decay = ema_decay(
                self.batch_size, self.images_seen, half_life_kimg=hparams.ema_kimg, rampup=hparams.ema_rampup
            )
            update_ema(self.average, self.encoder, decay)

    # --- beside the step --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def reconstruct(self, real: Tensor) -> Tensor:
        """Images (N, C, R, R) of the codes that the exported encoder answers `real` with; stored noise."""
        encoder = self.exported["encoder"]
        ws, shown = self._start(real)
        with eval_mode(encoder):
            for _ in range(self.hp.refinements):
                ws = self._encode(encoder, real, ws, shown, int(encoder.stage))
                images = self.generator.synthesis(ws)
                shown = None if shown is None else images
        return images

    @torch.no_grad()
    def compare(self, images: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Every term (N,) of image pairs, those without a weight too."""
        a, b = self._fit(images), self._fit(real)
        return {name: term(a, b) for name, term in self.terms.items()}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The encoder's, and the latent discriminator's where there is one."""
        hparams, params = self.hp, self.encoder.parameters()
        options = {"lr": hparams.lr, "weight_decay": hparams.weight_decay}
        if hparams.optimizer == "ranger":
            optimizers: list[torch.optim.Optimizer] = [Ranger(params, **options)]
        else:
            optimizers = [torch.optim.AdamW(params, **options, fused=True)]
        return optimizers if self.adversary is None else [*optimizers, self.adversary.optimizer()]

    def state_summary(self) -> dict[str, Any]:
        """Counters for logs: skipped steps, and the stage."""
        return {**super().state_summary(), "progress/stage": int(self.encoder.stage)}


@contextmanager
def _learning(network: nn.Module) -> Iterator[None]:
    """Parameters have gradients inside only."""
    network.requires_grad_(True)
    try:
        yield
    finally:
        network.requires_grad_(False)


def _leave_out_frozen(module: nn.Module, state: dict[str, Tensor], prefix: str, _: object) -> None:
    for name in [name for name in state if name.startswith(tuple(prefix + part for part in FROZEN))]:
        del state[name]


def _expect_no_frozen(module: nn.Module, incompatible: Any) -> None:
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if not name.startswith(FROZEN)]
