"""GAN training: StyleGAN2's training step, with regularisers applied lazily or in every step."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wplus.core.distributed import mean_over_ranks
from wplus.core.metric_result import MetricInfo
from wplus.core.runtime import Runtime
from wplus.losses.adversarial import compares
from wplus.losses.regularisers import path_lengths
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.generator import GeneratorNetwork
from wplus.models.network import Network, nets_seen
from wplus.models.projected import Projected
from wplus.training.anchor import ENCODER_LR, Anchor, warm_up
from wplus.training.anchor import INFOS as anchor_infos
from wplus.training.augment.blur import Blurred, faded_sigma
from wplus.training.augment.control import INFOS as augment_infos
from wplus.training.augment.control import NoAugment
from wplus.training.augment.pipeline import Sampled
from wplus.training.faster import prepare
from wplus.training.gan_losses import (
    discriminator_losses,
    gan_infos,
    generator_losses,
    path_length_losses,
    penalty_losses,
)  # fmt: skip
from wplus.training.heads import INFOS as head_infos
from wplus.training.heads import Heads
from wplus.training.hparams import Hparams
from wplus.training.inputs import GeneratorInputs, sample_inputs, style_mixing
from wplus.training.module import TrainingModule, ema_decay, fused_operations, shared_statistics, update_ema
from wplus.training.optim import adam_numbers, discriminator_groups, freeze, frozen_layers
from wplus.training.penalties import Penalty, active_penalties
from wplus.training.phases import (
    Draw,
    Phase,
    Role,
    Told,
    backward,
    draw_for_penalties,
    draw_images,
    draw_pairs,
    draw_paths,
)  # fmt: skip
from wplus.training.posthoc_ema import PowerAverages
from wplus.training.progressive import growth_of
from wplus.training.validate import check_fit, check_micro_batches

Losses = Callable[..., Iterator[Tensor]]
GeneratorLoss = Callable[..., Tensor]
DiscriminatorLoss = Callable[[Tensor, Tensor], Tensor]


class GanModule(TrainingModule):
    """Trains a generator against a discriminator (StyleGAN2, Karras et al. 2020, sections 2 and 3).

    Raises UserError for networks, losses and hyper-parameters that do not fit together.

    Args:
        generator, discriminator: networks to train; a copy of the generator is kept as the moving average `ema`.
        generator_loss: maps logits of generated images to a loss per image; one that compares
            (`wplus.losses.adversarial.compares`) also takes the logits of real images.
        discriminator_loss: maps (real logits, generated logits) to a loss per pair.
        hparams: hyper-parameters; `hparams.batch_size` counts all processes and micro-batches.
        num_micro: micro-batches per step and process (gradient accumulation).
        labels: (M, c_dim) labels of the training data, from which labels for generated images are drawn.
        augment: augmentation applied to everything the discriminator sees, real and generated; None means none.
        heads: training of the heads on frozen features, if the discriminator has any.
        anchor: warm-up of the generator by reconstruction, and the pairs it retains; already bound to the data.
        freeze_discriminator: number of discriminator layers, starting at the image, that are frozen (Freeze-D).
        posthoc_ema: relative lengths of additional generator averages that are stored at snapshots, from which
            `wplus ema` can reconstruct any other length (`wplus.training.posthoc_ema`).
    """

    labels: Tensor
    pl_mean: Tensor

    def __init__(
        self,
        generator: GeneratorNetwork,
        discriminator: DiscriminatorNetwork,
        *,
        generator_loss: GeneratorLoss,
        discriminator_loss: DiscriminatorLoss,
        hparams: Hparams,
        penalties: Sequence[Penalty] = (),
        seed: int = 0,
        num_micro: int = 1,
        labels: Tensor | None = None,
        augment: NoAugment | None = None,
        heads: Heads | None = None,
        anchor: Anchor | None = None,
        freeze_discriminator: int = 0,
        posthoc_ema: Sequence[float] = (),
    ) -> None:
        active = active_penalties(penalties, hparams)
        judge = discriminator.own_class
        check_fit(type(generator), judge, hparams, active)
        check_micro_batches([type(generator), judge], num_micro)
        assert (heads is not None) == isinstance(discriminator, Projected)
        fingerprint = {
            "hparams": asdict(hparams),
            "loss": {"generator": _described(generator_loss), "discriminator": _described(discriminator_loss)},
            "penalties": ", ".join(penalty.name for penalty in active),
            "generator": generator.arguments,
            "discriminator": discriminator.arguments,
            "seed": seed,
            "num_micro": num_micro,
            "augment": augment.fingerprint if augment else None,
            "heads": heads.fingerprint if heads else None,
            "freeze_discriminator": freeze_discriminator or None,
            "posthoc_ema": list(posthoc_ema) or None,
            **({"anchor": anchor.fingerprint} if anchor else {}),
        }
        super().__init__(batch_size=hparams.batch_size, seed=seed, run_fingerprint=fingerprint)
        self.generator, self.discriminator = generator, discriminator
        self.frozen, self.group_size = frozen_layers(discriminator, freeze_discriminator), discriminator.group_size
        generator.saw = nets_seen([generator, discriminator], anchor.saw if anchor else ())
        self.ema = copy.deepcopy(generator).eval().requires_grad_(False)
        self.power_averages = PowerAverages(generator, posthoc_ema)
        self.generator_loss, self.discriminator_loss = generator_loss, discriminator_loss
        self.penalties, self.compares = active, compares(generator_loss)
        # Images that are compared or mixed with each other must share a class.
        self.same_labels = self.compares or any(penalty.mixes for penalty in active)
        # Whether penalties have optimizer steps of their own; otherwise they are part of the discriminator's loss.
        self.lazy_penalties = bool(active) and hparams.r1_interval > 1
        self.hp, self.hp_now, self.num_micro = hparams, hparams, num_micro  # hp_now: values for the current step
        self.growth = growth_of(type(generator), generator.resolution, hparams)
        if self.growth is not None:
            self.growth.apply([generator, discriminator, self.ema], 0)
        self.augment, self.heads, self.anchor = augment or NoAugment(), heads, anchor
        self.fixed_form = False  # whether drawn inputs have the same structure in every step
        self.backward_of: dict[str, Callable[[Draw], Told]] = {}  # phase -> faster function for its gradients
        self.register_buffer("pl_mean", torch.zeros(()))
        self.register_buffer("labels", torch.zeros(1, 0) if labels is None else labels, persistent=False)

    @property
    def exported(self) -> dict[str, Network]:
        """The moving average of the generator, and the discriminator."""
        return {"generator": self.ema, "discriminator": self.discriminator}

    @property
    def caution(self) -> str:
        """See base class; until the warm-up is over, samples from the generator are not meaningful images."""
        if self.anchor is None or self.anchor.is_fitted:
            return ""
        return f"still in its warm-up of {self.anchor.warmup / 1000:g} kimg, samples are not meaningful yet"

    @property
    def stored_averages(self) -> dict[float, Network]:
        """Averages of the generator that a snapshot stores, by relative length."""
        return dict(zip(self.power_averages.sigmas, self.power_averages.averages, strict=True))  # type: ignore[arg-type]

    def describe(self) -> dict[str, Any]:
        """The hyper-parameters, which generator weights are exported, and what the run started from."""
        known = self.run_fingerprint
        origin = {name: known[name] for name in ("transfer", "freeze_discriminator") if known.get(name)}
        return {"hparams": asdict(self.hp), "weights": "moving average of the generator", **origin}

    def state_summary(self) -> dict[str, Any]:
        """Counters of skipped steps, and the state of the augmentation."""
        return {**super().state_summary(), **self.augment.summary()}

    def log_infos(self) -> dict[str, MetricInfo]:
        """Descriptions of the values that a run logs."""
        known = gan_infos(self.penalties, {phase.name: phase.network for phase in self.phases()})
        others = (head_infos if self.heads else {}) | (anchor_infos if self.anchor else {})
        return {**super().log_infos(), **known, **augment_infos, **others}

    # --- the step ---------------------------------------------------------------------------------------------------

    def prepare(self, runtime: Runtime) -> dict[str, Any]:
        """See base class; phases can be compiled or recorded as CUDA graphs (`wplus.training.faster`)."""
        self.kernels, said = fused_operations(runtime)
        return {"trainer.kernels": said, **prepare(self, runtime)}

    def update(self, real: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Run the phases that are due, then update the moving averages."""
        real = self._follow_clock(real, optimizers)
        if not warm_up(self, real, optimizers[0]):
            self._compete(real, labels, optimizers)
        half_life, rampup = self.hp_now.ema_kimg, self.hp.ema_rampup
        update_ema(self.ema, self.generator, ema_decay(self.batch_size, self.images_seen, half_life, rampup))
        self.power_averages.update(self.generator, batch_size=self.batch_size, nimg=self.images_seen + self.batch_size)

    def _compete(self, real: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Run the phases of this step, then adapt augmentation and heads to the discriminator's outputs."""
        step = self.images_seen // self.batch_size
        self.discriminator.begin_step()
        with shared_statistics([self.generator, self.discriminator]):
            for phase in self.phases():
                if step % phase.interval == 0:
                    self.run_phase(phase, real, labels, optimizers[phase.network == "discriminator"])
        self.augment.adapt(batch_size=self.batch_size, step=step + 1)
        end_step = getattr(self.discriminator_loss, "end_step", None)  # only stateful losses have it
        if end_step is not None:
            end_step()
        if self.heads is not None:
            self.heads.adapt(batch_size=self.batch_size, step=step + 1)
        for name, value in self.augment.values().items():
            self.means.add(name, value)

    def phases(self) -> list[Phase]:
        """Phases in StyleGAN2's order; regularisers with weight 0, or applied in every step, have none of their own."""
        hp = self.hp

        def phase(name: str, network: Role, interval: int, draw: Callable[..., Draw], losses: Losses) -> Phase:
            return Phase(name, network, interval, partial(draw, self), partial(losses, self))

        phases = [phase("generator", "generator", hp.n_critic, draw_images, generator_losses)]
        if hp.pl_weight:  # its interval counts the generator's own steps
            interval = hp.pl_interval * hp.n_critic
            phases.append(phase("path_length", "generator", interval, draw_paths, path_length_losses))
        phases.append(phase("discriminator", "discriminator", 1, draw_pairs, discriminator_losses))
        if self.lazy_penalties:
            name = "_".join(penalty.name for penalty in self.penalties)
            phases.append(phase(name, "discriminator", hp.r1_interval, draw_for_penalties, penalty_losses))
        return phases

    def run_phase(self, phase: Phase, real: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Draw a phase's inputs, accumulate gradients over its micro-batches and take the optimizer step."""
        self.seed_phase(phase.name)
        draw = phase.draw(real, labels)
        self.set_learning(phase)
        optimizer.zero_grad(set_to_none=True)
        run = self.backward_of.get(phase.name)
        self._take_note(backward(phase, draw) if run is None else run(draw))
        self.guarded_step(phase.name, optimizer)

    def set_learning(self, phase: Phase) -> None:
        """Enable gradients for the network that a phase trains, except for its frozen layers."""
        self.generator.requires_grad_(phase.network == "generator")
        self.discriminator.requires_grad_(phase.network == "discriminator")
        freeze(self.frozen)

    def _take_note(self, told: Told) -> None:
        """Pass on a phase's outputs: values to log, logits for augmentation, running means of w and path lengths."""
        for name, value in told.numbers:
            self.means.add(name, value)
        for logits in told.logits:
            self.augment.observe(logits)
        if told.w_mean is not None:
            self.generator.mapping.update_w_avg(mean_over_ranks(told.w_mean))
        if told.pl_mean is not None:
            self.pl_mean.copy_(torch.where(told.pl_mean.isfinite(), told.pl_mean, self.pl_mean))

    @property
    def pixels(self) -> DiscriminatorNetwork | None:
        """The discriminator of pixels, if there is one."""
        return self.discriminator.pixel_part

    @property
    def asked(self) -> Heads | None:
        """The heads while their weight is non-zero, otherwise None."""
        weight = 0.0 if self.heads is None else self.heads.weight_at(self.images_seen)
        return None if not isinstance(weight, Tensor) and weight == 0 else self.heads

    # --- building blocks of the losses ------------------------------------------------------------------------------

    def sample_inputs(self, num: int, *, labels: Tensor | None = None, path_length: bool = False) -> GeneratorInputs:
        """Draw all random inputs for `num` images; labels come from the data, or are `labels` if classes must match."""
        return sample_inputs(
            self.generator, num, labels=labels if self.same_labels else None, all_labels=self.labels,
            style_mixing_prob=self.hp.style_mixing_prob, path_length=path_length, fixed_form=self.fixed_form,
        )  # fmt: skip

    def sample_augment(self, images: Tensor) -> Sampled:
        """Sample the augmentation of a batch like `images` for the discriminator, preceded by blur while it lasts."""
        sampled = self.augment.sample(images)
        if self.hp.blur_sigma is None or self.hp.blur_fade_kimg is None:
            return sampled
        sigma = faded_sigma(self.hp.blur_sigma, self.images_seen, fade_kimg=self.hp.blur_fade_kimg)
        return Blurred(sampled, sigma) if sigma else sampled

    def generate(self, inputs: GeneratorInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return images (N, C, H, W), their ws (N, num_ws, w_dim) and the batch sum of w before mixing (w_dim,)."""
        ws, w_sum = style_mixing(self.generator, inputs)
        return self.generator.synthesis(ws, noise=inputs.noise), ws, w_sum

    def path_lengths(self, inputs: GeneratorInputs) -> Tensor:
        """Return path lengths |J^T y| (N,)."""
        images, ws, _ = self.generate(inputs)
        assert inputs.pl_noise is not None
        return path_lengths(images, ws, inputs.pl_noise)

    def _follow_clock(self, real: Tensor, optimizers: list[torch.optim.Optimizer]) -> Tensor:
        """Apply schedules and progressive growing for this step; return real images at the current level of detail."""
        if self.hp.decay_kimg is not None or self.growth is not None:
            self.hp_now = self.hp.at(self.images_seen)
            for optimizer, numbers in zip(optimizers, self._adam_numbers(), strict=True):
                for group in optimizer.param_groups:
                    if not group.get("own_lr"):
                        group.update(numbers)
        if self.growth is None:
            return real
        self.growth.apply([self.generator, self.discriminator, self.ema], self.images_seen)
        self.growth.restart(optimizers, self.images_seen, self.batch_size)
        self.means.add("train/lod", torch.full((), self.growth.lod(self.images_seen), device=real.device))
        return self.growth.shown(real, self.images_seen)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Create Adam for the generator and the unfrozen discriminator; heads may have their own learning rate."""
        generator, discriminator = self._adam_numbers()
        groups: list[list[dict[str, Any]]] = [[{"params": list(self.generator.parameters()), **generator}]]
        if self.anchor is not None:
            encoder = {"params": list(self.anchor.encoder.parameters()), "lr": ENCODER_LR, "own_lr": True}
            groups[0].append({**generator, **encoder})
        # Penalties apply to the pixel discriminator only, so the heads need no correction for lazy steps.
        own = {"lr": None if self.heads is None else self.heads.lr, "betas": (self.hp.beta1, self.hp.beta2)}
        groups.append(discriminator_groups(self.discriminator, self.frozen, discriminator, own))
        # Only fused optimizers can skip a step on the device (`guarded_step`).
        return [torch.optim.Adam(part, eps=self.hp.adam_eps, fused=True) for part in groups]

    @property
    def generator_lr(self) -> float:
        """The current learning rate of the generator's Adam."""
        return float(self._adam_numbers()[0]["lr"])

    def _adam_numbers(self) -> list[dict[str, Any]]:
        factor = 1.0 if self.growth is None else self.growth.lr_factor(self.images_seen)
        return adam_numbers(self.hp_now, lazy_penalties=self.lazy_penalties, factor=factor)


def _described(loss: Callable[..., Tensor]) -> str:
    """Return a loss's name with its chosen arguments; a stateful loss describes itself."""
    if isinstance(loss, torch.nn.Module):
        return str(loss.described)
    function, chosen = (loss.func, loss.keywords) if isinstance(loss, partial) else (loss, {})
    return " ".join([getattr(function, "__name__", type(function).__name__), *(f"{k}={v}" for k, v in chosen.items())])
