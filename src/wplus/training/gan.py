"""The adversarial game: up to four phases, one moving average."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from wplus.core.distributed import mean_over_ranks
from wplus.losses.adversarial import compares
from wplus.losses.regularisers import path_lengths
from wplus.models.network import Network
from wplus.training.adam import adam_numbers, adams, set_numbers
from wplus.training.augment import Drawn, NoAugment, Untouched
from wplus.training.batch_norm import running_statistics, shared_statistics
from wplus.training.ema import ema_decay, update_ema
from wplus.training.freeze import frozen_layers, hold
from wplus.training.hparams import Hparams
from wplus.training.inputs import Draw, micro_batches, mixed_styles, sample_inputs
from wplus.training.logits import both_logits, group_size, logit_statistics
from wplus.training.module import TrainingModule
from wplus.training.penalties import Pairs, active_penalties
from wplus.training.progressive import growth_of
from wplus.training.validate import check_fit, check_micro_batches

GeneratorLoss = Callable[..., Tensor]
DiscriminatorLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Phase:
    """One optimizer step of the game: `losses` yields a loss per micro-batch, every `interval` steps."""

    name: str
    network: Literal["generator", "discriminator"]
    interval: int
    losses: Callable[[Tensor, Tensor], Iterator[Tensor]]


class GanModule(TrainingModule):
    """Generator against discriminator, with gradient penalties and path length regularisation, lazy as in StyleGAN2
    (sections 2 and 3) or in every step. UserError for networks, losses and numbers that do not fit each other.

    Arguments
        generator, discriminator   networks; a copy of the generator is kept as the moving average `ema`
        generator_loss             logits of generated images -> loss per image; one that compares
                                   (`wplus.losses.adversarial.compares`) also gets those of real images
        discriminator_loss         (real logits, generated logits) -> loss per pair
        penalties                  of the discriminator, by name (`wplus.training.penalties`); the hparams weighs them
        hparams                     the numbers; `hparams.batch_size` counts all processes and micro-batches
        num_micro                  micro-batches per step and process (gradient accumulation)
        labels                     (M, c_dim) labels of the training data, from which generated images draw theirs
        augment                    what the discriminator sees of images, real and generated, in its phases and the
                                   generator's; None: the images themselves
        freeze_discriminator       layers of the discriminator, from the image on, that do not learn (Freeze-D)
    """

    def __init__(
        self,
        generator: Network,
        discriminator: Network,
        *,
        generator_loss: GeneratorLoss,
        discriminator_loss: DiscriminatorLoss,
        hparams: Hparams,
        penalties: Sequence[str] = ("r1",),
        seed: int = 0,
        num_micro: int = 1,
        labels: Tensor | None = None,
        augment: NoAugment | None = None,
        freeze_discriminator: int = 0,
    ) -> None:
        active = active_penalties(penalties, hparams)
        check_fit(type(generator), type(discriminator), hparams, active)
        check_micro_batches([type(generator), type(discriminator)], num_micro)
        identity = {
            "hparams": asdict(hparams),
            "loss": {"generator": _described(generator_loss), "discriminator": _described(discriminator_loss)},
            "penalties": ", ".join(penalty.name for penalty in active),
            "generator": generator.arguments,
            "discriminator": discriminator.arguments,
            "seed": seed,
            "num_micro": num_micro,
            "augment": augment.identity if augment else None,
            "freeze_discriminator": freeze_discriminator or None,
        }
        super().__init__(batch_size=hparams.batch_size, seed=seed, identity=identity)
        self.generator, self.discriminator = generator, discriminator
        self.frozen = frozen_layers(discriminator, freeze_discriminator)
        hold(self.frozen)
        self.ema = copy.deepcopy(generator).eval().requires_grad_(False)
        self.generator_loss, self.discriminator_loss = generator_loss, discriminator_loss
        self.penalties, self.compares = active, compares(generator_loss)
        # Images that are compared or mixed with each other belong to one class.
        self.same_labels = self.compares or any(penalty.name == "gradient_penalty" for penalty in active)
        self.hp, self.num_micro = hparams, num_micro
        self.now = hparams  # at the clock of this step
        self.growth = growth_of(type(generator), generator.resolution, hparams)
        if self.growth is not None:
            self.growth.apply([generator, discriminator, self.ema], 0)
        self.augment = augment or NoAugment()
        self.register_buffer("pl_mean", torch.zeros(()))
        self.register_buffer("labels", torch.zeros(1, 0) if labels is None else labels, persistent=False)

    @property
    def exported(self) -> dict[str, Network]:
        """The moving average of the generator, and the discriminator."""
        return {"generator": self.ema, "discriminator": self.discriminator}

    def describe(self) -> dict[str, Any]:
        """The hparams, which weights of the generator are exported, and what the run started from."""
        origin = {name: self.identity[name] for name in ("transfer", "freeze_discriminator") if self.identity.get(name)}
        return {"hparams": asdict(self.hp), "weights": "moving average of the generator", **origin}

    def state_summary(self) -> dict[str, Any]:
        """Counters of skipped steps, and what is to be said of augmentation."""
        return {**super().state_summary(), **self.augment.summary()}

    # --- the step ---------------------------------------------------------------------------------------------------

    def update(self, real: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Run the phases that are due, then move the average."""
        self._set_numbers(optimizers)
        real = self._grow(real, optimizers)
        step = self.images_seen // self.batch_size
        with shared_statistics(running_statistics([self.generator, self.discriminator])):
            for phase in self.phases():
                if step % phase.interval == 0:
                    self.run_phase(phase, real, labels, optimizers[phase.network == "discriminator"])
        self._update_average()
        self.augment.adapt(batch_size=self.batch_size, step=step + 1)
        for name, value in self.augment.values().items():
            self.means.add(name, value)

    def phases(self) -> list[Phase]:
        """The phases in StyleGAN2's order; a regulariser of weight 0, or one of every discriminator step, has none."""
        hparams = self.hp
        phases = [Phase("generator", "generator", hparams.n_critic, self._generator_losses)]
        if hparams.pl_weight:
            interval = hparams.pl_interval * hparams.n_critic  # it counts the generator's own steps
            phases.append(Phase("path_length", "generator", interval, self._path_length_losses))
        phases.append(Phase("discriminator", "discriminator", 1, self._discriminator_losses))
        if self.lazy_penalties:
            name = "_".join(penalty.name for penalty in self.penalties)
            phases.append(Phase(name, "discriminator", hparams.r1_interval, self._penalty_losses))
        return phases

    @property
    def lazy_penalties(self) -> bool:
        """Whether the penalties have optimizer steps of their own; else they are part of the discriminator's loss."""
        return bool(self.penalties) and self.hp.r1_interval > 1

    def run_phase(self, phase: Phase, real: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Accumulate the gradients of one phase over its micro-batches and take the optimizer step."""
        self.seed_phase(phase.name)
        self.generator.requires_grad_(phase.network == "generator")
        self.discriminator.requires_grad_(phase.network == "discriminator")
        hold(self.frozen)
        optimizer.zero_grad(set_to_none=True)
        for loss in phase.losses(real, labels):
            loss.backward()
        self.guarded_step(phase.name, optimizer)

    def _grow(self, real: Tensor, optimizers: list[torch.optim.Optimizer]) -> Tensor:
        """Set what is in use of networks that grow; the real images with as much detail."""
        if self.growth is None:
            return real
        self.growth.apply([self.generator, self.discriminator, self.ema], self.images_seen)
        self.growth.restart(optimizers, self.images_seen, self.batch_size)
        self.means.add("train/lod", torch.full((), self.growth.lod(self.images_seen), device=real.device))
        return self.growth.shown(real, self.images_seen)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = ema_decay(
            self.hp.batch_size, self.images_seen, half_life_kimg=self.now.ema_kimg, rampup=self.hp.ema_rampup
        )
        update_ema(self.ema, self.generator, decay)

    # --- the phases -------------------------------------------------------------------------------------------------

    def _generator_losses(self, real: Tensor, labels: Tensor) -> Iterator[Tensor]:
        draw = self._draw(len(real), labels=labels)
        view, real_view = self._views(real, 2 if self.compares else 1)
        ws_sum = torch.zeros((), device=real.device)
        for part in self._parts(len(real)):
            sample = draw.take(part)
            ws, w_sum = mixed_styles(self.generator, sample)
            ws_sum = ws_sum + w_sum
            images = self.generator.synthesis(ws, noise=sample.noise)
            logits = self.discriminator(view.take(part)(images), sample.c)
            compared = []
            if self.compares:
                with torch.no_grad():
                    compared = [self.discriminator(real_view.take(part)(real[part]), labels[part])]
            loss = self.generator_loss(logits, *compared).sum() / len(real)
            self.means.add("train/generator/loss", loss.detach() * self.num_micro)
            yield loss
        self.generator.mapping.update_w_avg(mean_over_ranks(ws_sum / len(real)))

    def _path_length_losses(self, real: Tensor, labels: Tensor) -> Iterator[Tensor]:
        """(|J^T y| - a)^2 with a the running mean of the lengths (StyleGAN2, equation 4).

        The running mean includes this batch, so its gradient reaches every image of the batch. Given the mean m of
        the lengths, the gradient is that of sum_i k_i l_i with k_i = 2/N ((l_i - a) - decay (m - a)): a form that
        micro-batches can add up.
        """
        hparams = self.hp
        count = max(len(real) // hparams.pl_batch_shrink, 1)
        draw = self._draw(count, path_length=True)
        parts = list(torch.arange(count, device=self.device).chunk(min(self.num_micro, count)))
        lengths_of = [self._lengths(draw.take(part)) for part in parts[:1]] if len(parts) == 1 else None
        known = [lengths_of[0].detach()] if lengths_of else [self._lengths(draw.take(part)).detach() for part in parts]
        batch_mean = mean_over_ranks(torch.cat(known).mean())
        average = self.pl_mean.lerp(batch_mean, hparams.pl_decay)
        for index, part in enumerate(parts):
            lengths = lengths_of[0] if lengths_of else self._lengths(draw.take(part))
            pull = (lengths.detach() - average) - hparams.pl_decay * (batch_mean - average)
            yield (pull * lengths).sum() * (2 / count * hparams.pl_weight * hparams.pl_interval)
            self.means.add("train/path_length/penalty", (known[index] - average).square().mean())
        self.pl_mean.copy_(torch.where(average.isfinite(), average, self.pl_mean))
        self.means.add("train/path_length/mean", average)

    def _discriminator_losses(self, real: Tensor, labels: Tensor) -> Iterator[Tensor]:
        for pairs in self._pairs(real, labels):
            real_logits, fake_logits = both_logits(self.discriminator, pairs)
            loss = self.discriminator_loss(real_logits, fake_logits).sum() / len(real)
            self._observe(loss.detach() * self.num_micro, real_logits.detach(), fake_logits.detach())
            self.augment.observe(real_logits.detach())
            yield loss if self.lazy_penalties else loss + self._penalty(pairs, len(real))

    def _penalty_losses(self, real: Tensor, labels: Tensor) -> Iterator[Tensor]:
        """In a phase of their own, every `r1_interval` steps, and as much stronger."""
        for pairs in self._pairs(real, labels, generated=any(penalty.sees_generated for penalty in self.penalties)):
            yield self._penalty(pairs, len(real))

    def _penalty(self, pairs: Pairs, num: int) -> Tensor:
        """The sum of the weighted penalties over the images, divided by their number `num` in the whole batch."""
        total = torch.zeros((), device=pairs.real.device)
        for penalty in self.penalties:
            value = penalty.function(self.discriminator, pairs)
            self.means.add(f"train/{penalty.name}/penalty", value.detach().mean())
            weight = penalty.factor * getattr(self.now, penalty.weight)
            total = total + value.sum() * (weight * self.hp.r1_interval / num)
        return total

    # --- their parts ------------------------------------------------------------------------------------------------

    def _parts(self, batch_size: int) -> list[Tensor]:
        return micro_batches(batch_size, self.num_micro, group_size(self.discriminator), self.device)

    def _pairs(self, real: Tensor, labels: Tensor, *, generated: bool = True) -> Iterator[Pairs]:
        """Real images beside generated ones, in micro-batches; without `generated` the real ones stand for both."""
        draw = self._draw(len(real), labels=labels) if generated else None
        mixes = any(penalty.name == "gradient_penalty" for penalty in self.penalties)
        share = torch.rand(len(real), device=real.device) if mixes else torch.zeros(len(real), device=real.device)
        real_view, fake_view = self._views(real, 2 if generated else 1)
        for part in self._parts(len(real)):
            fake, fake_labels = real[part], labels[part]
            if draw is not None:
                sample = draw.take(part)
                fake_labels = sample.c
                with torch.no_grad():
                    fake = self.generator.synthesis(mixed_styles(self.generator, sample)[0], noise=sample.noise)
            views = real_view.take(part), fake_view.take(part)
            yield Pairs(real[part], labels[part], fake, fake_labels, share[part], *views)

    def _views(self, images: Tensor, num: int) -> tuple[Drawn | Untouched, Drawn | Untouched]:
        """Augmentations for two batches like `images`, or for one, which stands for both; the last draws of a phase."""
        first = self.augment.draw(images)
        return first, self.augment.draw(images) if num == 2 else first

    def _draw(self, num: int, *, labels: Tensor | None = None, path_length: bool = False) -> Draw:
        """All random inputs for `num` images; labels from the data, or `labels` where classes must be the same."""
        return sample_inputs(
            self.generator,
            num,
            labels=labels if self.same_labels and labels is not None else None,
            all_labels=self.labels,
            style_mixing_prob=self.hp.style_mixing_prob,
            path_length=path_length,
        )

    def _lengths(self, sample: Draw) -> Tensor:
        ws, _ = mixed_styles(self.generator, sample)
        return path_lengths(self.generator.synthesis(ws, noise=sample.noise), ws, sample.pl_noise)

    def _observe(self, loss: Tensor, real: Tensor, fake: Tensor) -> None:
        self.means.add("train/discriminator/loss", loss)
        for name, value in logit_statistics(real, fake).items():
            self.means.add(f"train/logits/{name}", value)

    # --- optimizers -------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Of the generator and of the layers of the discriminator that are not frozen."""
        held = {id(parameter) for layer in self.frozen for parameter in layer.parameters()}
        learning = [parameter for parameter in self.discriminator.parameters() if id(parameter) not in held]
        return adams((self.generator.parameters(), learning), self._adam_numbers(), self.hp.adam_eps)

    def _adam_numbers(self) -> list[dict[str, Any]]:
        factor = 1.0 if self.growth is None else self.growth.lr_factor(self.images_seen)
        return adam_numbers(self.now, lazy_penalties=self.lazy_penalties, factor=factor)

    def _set_numbers(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """What the hparams says at this clock; where none of its numbers moves there is nothing to do."""
        if self.hp.decay_kimg is not None or self.growth is not None:
            self.now = self.hp.at(self.images_seen)
            set_numbers(optimizers, self._adam_numbers())


def _described(loss: Callable[..., Tensor]) -> str:
    """The name of a loss, with what was chosen in it."""
    function, chosen = (loss.func, loss.keywords) if isinstance(loss, partial) else (loss, {})
    return " ".join([getattr(function, "__name__", type(function).__name__), *(f"{k}={v}" for k, v in chosen.items())])
