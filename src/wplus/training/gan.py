"""Training a generator against a discriminator: StyleGAN2's losses and regularisers, lazy or in every step."""

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
from wplus.models.network import GeneratorNetwork, Network, nets_seen
from wplus.models.projected import Projected
from wplus.training.augment.blur import Blurred, faded_sigma
from wplus.training.augment.control import INFOS as augment_infos
from wplus.training.augment.control import NoAugment
from wplus.training.augment.pipeline import Sampled
from wplus.training.faster import prepare
from wplus.training.gan_infos import gan_infos
from wplus.training.heads import INFOS as head_infos
from wplus.training.heads import Heads
from wplus.training.hparams import Hparams
from wplus.training.inputs import GeneratorInputs, micro_batches, sample_inputs, style_mixing
from wplus.training.module import TrainingModule, ema_decay, fused_operations, shared_statistics, update_ema
from wplus.training.optim import adam_numbers, discriminator_groups, freeze, frozen_layers
from wplus.training.penalties import DiscriminatorBatch, Penalty, active_penalties, both_logits
from wplus.training.phases import Draw, Phase, Told, backward, draw_for_penalties, draw_images, draw_pairs, draw_paths
from wplus.training.posthoc_ema import PowerAverages
from wplus.training.progressive import growth_of
from wplus.training.validate import check_fit, check_micro_batches

GeneratorLoss = Callable[..., Tensor]
DiscriminatorLoss = Callable[[Tensor, Tensor], Tensor]


class GanModule(TrainingModule):
    """Generator against discriminator (StyleGAN2, Karras et al. 2020, sections 2 and 3).

    UserError for networks, losses and numbers that do not fit each other.

    Args:
        generator, discriminator: networks; a copy of the generator is kept as the moving average `ema`.
        generator_loss: logits of generated images -> loss per image; one that compares
            (`wplus.losses.adversarial.compares`) also gets those of real images.
        discriminator_loss: (real logits, generated logits) -> loss per pair.
        hparams: the numbers; `hparams.batch_size` counts all processes and micro-batches.
        num_micro: micro-batches per step and process (gradient accumulation).
        labels: (M, c_dim) labels of the training data, from which generated images draw theirs.
        augment: what the discriminator sees of images, real and generated; None: the images themselves.
        heads: how heads on frozen features are trained, where the discriminator has such.
        freeze_discriminator: layers of the discriminator, from the image on, that do not learn (Freeze-D).
        posthoc_ema: relative lengths of averages of the generator that are kept beside `ema` and stored at snapshots,
            from which `wplus ema` makes any other (`wplus.training.posthoc_ema`).
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
        }
        super().__init__(batch_size=hparams.batch_size, seed=seed, run_fingerprint=fingerprint)
        self.generator, self.discriminator = generator, discriminator
        self.frozen, self.group_size = frozen_layers(discriminator, freeze_discriminator), discriminator.group_size
        generator.saw = nets_seen([generator, discriminator])
        self.ema = copy.deepcopy(generator).eval().requires_grad_(False)
        self.power_averages = PowerAverages(generator, posthoc_ema)
        self.generator_loss, self.discriminator_loss = generator_loss, discriminator_loss
        self.penalties, self.compares = active, compares(generator_loss)
        # Images that are compared or mixed with each other belong to one class.
        self.same_labels = self.compares or any(penalty.mixes for penalty in active)
        # Whether they have optimizer steps of their own; else they are part of the discriminator's loss.
        self.lazy_penalties = bool(active) and hparams.r1_interval > 1
        self.hp, self.num_micro = hparams, num_micro
        self.hp_now = hparams  # at the clock of this step
        self.growth = growth_of(type(generator), generator.resolution, hparams)
        if self.growth is not None:
            self.growth.apply([generator, discriminator, self.ema], 0)
        self.augment, self.heads = augment or NoAugment(), heads
        self.fixed_form = False  # whether what is drawn has the same form in every step
        self.backward_of: dict[str, Callable[[Draw], Told]] = {}  # phase -> a faster way to its gradients
        self.register_buffer("pl_mean", torch.zeros(()))
        self.register_buffer("labels", torch.zeros(1, 0) if labels is None else labels, persistent=False)

    @property
    def exported(self) -> dict[str, Network]:
        """The moving average of the generator, and the discriminator."""
        return {"generator": self.ema, "discriminator": self.discriminator}

    @property
    def stored_averages(self) -> dict[float, Network]:
        """Averages of the generator that a snapshot stores, by their relative length."""
        return dict(zip(self.power_averages.sigmas, self.power_averages.averages, strict=True))  # type: ignore[arg-type]

    def describe(self) -> dict[str, Any]:
        """The hyper-parameters, which weights of the generator are exported, and what the run started from."""
        known = self.run_fingerprint
        origin = {name: known[name] for name in ("transfer", "freeze_discriminator") if known.get(name)}
        return {"hparams": asdict(self.hp), "weights": "moving average of the generator", **origin}

    def state_summary(self) -> dict[str, Any]:
        """Counters of skipped steps, and what is to be said of augmentation."""
        return {**super().state_summary(), **self.augment.summary()}

    def log_infos(self) -> dict[str, MetricInfo]:
        """What the numbers are that a run logs."""
        known = gan_infos(self.penalties, {phase.name: phase.network for phase in self.phases()})
        return {**super().log_infos(), **known, **augment_infos, **(head_infos if self.heads else {})}

    # --- the step ---------------------------------------------------------------------------------------------------

    def prepare(self, runtime: Runtime) -> dict[str, Any]:
        """As of every training; phases are compiled or recorded (`wplus.training.faster`)."""
        self.kernels, said = fused_operations(runtime)
        return {"trainer.kernels": said, **prepare(self, runtime)}

    def update(self, real: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Run the phases that are due, then move the average."""
        real = self._follow_clock(real, optimizers)
        step = self.images_seen // self.batch_size
        self.discriminator.begin_step()
        with shared_statistics([self.generator, self.discriminator]):
            for phase in self.phases():
                if step % phase.interval == 0:
                    self.run_phase(phase, real, labels, optimizers[phase.network == "discriminator"])
        half_life, rampup = self.hp_now.ema_kimg, self.hp.ema_rampup
        update_ema(self.ema, self.generator, ema_decay(self.batch_size, self.images_seen, half_life, rampup))
        self.power_averages.update(self.generator, batch_size=self.batch_size, nimg=self.images_seen + self.batch_size)
        self.augment.adapt(batch_size=self.batch_size, step=step + 1)
        end_step = getattr(self.discriminator_loss, "end_step", None)  # of a loss with a state
        if end_step is not None:
            end_step()
        if self.heads is not None:
            self.heads.adapt(batch_size=self.batch_size, step=step + 1)
        for name, value in self.augment.values().items():
            self.means.add(name, value)

    def phases(self) -> list[Phase]:
        """In StyleGAN2's order; a regulariser of weight 0, or one of every discriminator step, has none."""
        hp = self.hp
        phases = [Phase("generator", "generator", hp.n_critic, partial(draw_images, self), self.generator_losses)]
        if hp.pl_weight:  # its interval counts the generator's own steps
            interval = hp.pl_interval * hp.n_critic
            phases.append(
                Phase("path_length", "generator", interval, partial(draw_paths, self), self.path_length_losses)
            )
        phases.append(Phase("discriminator", "discriminator", 1, partial(draw_pairs, self), self.discriminator_losses))
        if self.lazy_penalties:
            name, draw = "_".join(penalty.name for penalty in self.penalties), partial(draw_for_penalties, self)
            phases.append(Phase(name, "discriminator", hp.r1_interval, draw, self.penalty_losses))
        return phases

    def run_phase(self, phase: Phase, real: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Draw what a phase needs, accumulate its gradients over its micro-batches and take the optimizer step."""
        self.seed_phase(phase.name)
        draw = phase.draw(real, labels)
        self.set_learning(phase)
        optimizer.zero_grad(set_to_none=True)
        run = self.backward_of.get(phase.name)
        self._take_note(backward(phase, draw) if run is None else run(draw))
        self.guarded_step(phase.name, optimizer)

    def set_learning(self, phase: Phase) -> None:
        """Gradients for the network of a phase, and for no frozen layer of it."""
        self.generator.requires_grad_(phase.network == "generator")
        self.discriminator.requires_grad_(phase.network == "discriminator")
        freeze(self.frozen)

    def _take_note(self, told: Told) -> None:
        """Numbers for the log, logits for the augmentation, and the running means of w and of path lengths."""
        for name, value in told.numbers:
            self.means.add(name, value)
        for logits in told.logits:
            self.augment.observe(logits)
        if told.w_mean is not None:
            self.generator.mapping.update_w_avg(mean_over_ranks(told.w_mean))
        if told.pl_mean is not None:
            self.pl_mean.copy_(torch.where(told.pl_mean.isfinite(), told.pl_mean, self.pl_mean))

    # --- the losses: of each micro-batch its part of the mean over the batch ----------------------------------------

    def generator_losses(self, draw: Draw, told: Told) -> Iterator[Tensor]:
        """E f(D(G(z))), by default f(t) = -log sigmoid(t) (Goodfellow et al. 2014, section 3)."""
        real, inputs, (augment_real, augment) = draw.real, draw.inputs, draw.augments
        assert inputs is not None
        w_sum = torch.zeros((), device=real.device)
        for part in micro_batches(len(real), self.num_micro, self.group_size, self.device):
            sample = inputs.take(part)
            fake, _, w_part = self.generate(sample)
            w_sum = w_sum + w_part
            shown, loss = augment.take(part)(fake), torch.zeros((), device=real.device)
            if self.pixels is not None:
                logits = [self.pixels(shown, sample.c)]
                if self.compares:
                    with torch.no_grad():
                        logits.append(self.pixels(augment_real.take(part)(real[part]), draw.labels[part]))
                loss = self.generator_loss(*logits).sum() / len(real)
                told.number("train/generator/loss", loss.detach() * self.num_micro)
            if self.asked is not None:
                assert isinstance(self.discriminator, Projected)
                heard = self.asked.against(self.discriminator, draw.before_heads[1].take(part)(shown), sample.c)
                told.number("train/heads/generator", heard.detach().mean())
                loss = loss + heard.sum() * (self.asked.weight_at(self.images_seen) / len(real))
            yield loss
        told.w_mean = w_sum / len(real)

    def path_length_losses(self, draw: Draw, told: Told) -> Iterator[Tensor]:
        """E (|J^T y| - a)^2, J = dG/dw, y ~ N(0, I), a the running mean of |J^T y| (StyleGAN2, equation 4)."""
        hp, inputs = self.hp, draw.inputs
        assert inputs is not None
        num = len(inputs.z)
        parts = micro_batches(num, min(self.num_micro, num), 1, self.device)
        # The mean of all lengths is needed first; the graphs of several parts together would be that of the batch.
        keep = torch.Tensor.detach if len(parts) > 1 else lambda lengths: lengths
        known = [keep(self.path_lengths(inputs.take(part))) for part in parts]
        mean = mean_over_ranks(torch.cat(known).detach().mean())
        a = self.pl_mean.lerp(mean, hp.pl_decay)
        for part, lengths in zip(parts, known, strict=True):
            penalty = (lengths.detach() - a).square()  # (|J^T y| - a)^2
            told.number("train/path_length/penalty", penalty.mean())
            lengths = self.path_lengths(inputs.take(part)) if len(parts) > 1 else lengths
            gradient = path_length_gradient(lengths, mean, a, hp.pl_decay)
            yield gradient * (2 / num * hp.pl_weight * hp.pl_interval)
        told.pl_mean = a
        told.number("train/path_length/mean", a)

    def discriminator_losses(self, draw: Draw, told: Told) -> Iterator[Tensor]:
        """E f(D(x), D(G(z))), by default -log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))); penalties if not lazy."""
        num = len(draw.real)
        for batch in self.discriminator_batches(draw):
            loss = self.pixels_loss(batch, num, told) + self.heads_loss(batch, num, told)
            yield loss if self.lazy_penalties else loss + self.penalty(batch, draw.weights, told)

    def pixels_loss(self, batch: DiscriminatorBatch, num: int, told: Told) -> Tensor:
        """A micro-batch's part in the mean over `num` pairs, of what judges pixels."""
        if self.pixels is None:
            return torch.zeros((), device=batch.real.device)
        real, fake = both_logits(self.pixels, batch)
        real_logits, fake_logits = real[:, :1], fake[:, :1]
        loss = self.discriminator_loss(real_logits, fake_logits).sum() / num
        told.number("train/discriminator/loss", loss.detach() * self.num_micro)
        for kind, logits in (("real", real_logits.detach()), ("fake", fake_logits.detach())):
            told.number(f"train/logits/{kind}", logits.mean())
            told.number(f"train/logits/{kind}_std", logits.std(correction=0))
            told.number(f"train/logits/{kind}_sign", logits.sign().mean())
        told.logits.append(real_logits.detach())
        direction = (fake[:, 1:] - real[:, 1:]).sum() / num  # SAN: by which its direction learns; else there is none
        return loss + direction

    def heads_loss(self, batch: DiscriminatorBatch, num: int, told: Told) -> Tensor:
        """The same, of heads on frozen features."""
        if self.asked is None:
            return torch.zeros((), device=batch.real.device)
        assert isinstance(self.discriminator, Projected)
        loss, real, values = self.asked.learn(self.discriminator, batch, nimg=self.images_seen)
        for name, value in values.items():
            told.number(name, value)
        if self.pixels is None:
            told.logits.append(torch.cat(real, dim=1))
        return loss.sum() / num

    def penalty_losses(self, draw: Draw, told: Told) -> Iterator[Tensor]:
        """The penalties alone, in a step of their own."""
        for batch in self.discriminator_batches(draw):
            yield self.penalty(batch, draw.weights, told)

    def penalty(self, batch: DiscriminatorBatch, weights: Sequence[Tensor], told: Told) -> Tensor:
        """A micro-batch's part in the mean over the batch of gamma/2 |dD/dx|^2, or others."""
        total = torch.zeros((), device=batch.real.device)
        for penalty, weight in zip(self.penalties, weights, strict=True):
            assert self.pixels is not None
            value = penalty(self.pixels, batch)  # (n,), |dD/dx|^2
            told.number(f"train/{penalty.name}/penalty", value.detach().mean())
            total = total + value.sum() * weight
        return total

    @property
    def pixels(self) -> DiscriminatorNetwork | None:
        """What judges pixels."""
        return self.discriminator.pixel_part

    @property
    def asked(self) -> Heads | None:
        """The heads, while they have a weight."""
        weight = 0.0 if self.heads is None else self.heads.weight_at(self.images_seen)
        return None if not isinstance(weight, Tensor) and weight == 0 else self.heads

    # --- what they are made of --------------------------------------------------------------------------------------

    def sample_inputs(self, num: int, *, labels: Tensor | None = None, path_length: bool = False) -> GeneratorInputs:
        """All random inputs for `num` images; labels from the data, or `labels` where classes must be the same."""
        return sample_inputs(
            self.generator, num, labels=labels if self.same_labels else None, all_labels=self.labels,
            style_mixing_prob=self.hp.style_mixing_prob, path_length=path_length, fixed_form=self.fixed_form,
        )  # fmt: skip

    def sample_augment(self, images: Tensor) -> Sampled:
        """What happens to a batch like `images` before the discriminator sees it, blur first, while there is any."""
        sampled = self.augment.sample(images)
        if self.hp.blur_sigma is None or self.hp.blur_fade_kimg is None:
            return sampled
        sigma = faded_sigma(self.hp.blur_sigma, self.images_seen, fade_kimg=self.hp.blur_fade_kimg)
        return Blurred(sampled, sigma) if sigma else sampled

    def generate(self, inputs: GeneratorInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, C, H, W), their ws (N, num_ws, w_dim), and the sum of w over the batch before mixing (w_dim,)."""
        ws, w_sum = style_mixing(self.generator, inputs)
        return self.generator.synthesis(ws, noise=inputs.noise), ws, w_sum

    def path_lengths(self, inputs: GeneratorInputs) -> Tensor:
        """|J^T y| (N,)."""
        images, ws, _ = self.generate(inputs)
        assert inputs.pl_noise is not None
        return path_lengths(images, ws, inputs.pl_noise)

    def discriminator_batches(self, draw: Draw) -> Iterator[DiscriminatorBatch]:
        """Micro-batches of real images beside generated ones."""
        real, labels, alpha, (before_real, before_fake) = draw.real, draw.labels, draw.alpha, draw.before_heads
        assert alpha is not None
        for part in micro_batches(len(real), self.num_micro, self.group_size, self.device):
            fake, fake_labels = real[part], labels[part]
            if draw.inputs is not None:
                sample = draw.inputs.take(part)
                fake_labels = sample.c
                with torch.no_grad():
                    fake, _, _ = self.generate(sample)
            augments = draw.augments[0].take(part), draw.augments[1].take(part)
            before = before_real.take(part), before_fake.take(part)
            yield DiscriminatorBatch(real[part], labels[part], fake, fake_labels, alpha[part], *augments, before)

    def _follow_clock(self, real: Tensor, optimizers: list[torch.optim.Optimizer]) -> Tensor:
        """Set the numbers of this moment, and what is in use of networks that grow; real images with as much detail."""
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
        """Of the generator, and of what learns of the discriminator: its heads may have a rate of their own."""
        generator, discriminator = self._adam_numbers()
        groups: list[list[dict[str, Any]]] = [[{"params": list(self.generator.parameters()), **generator}]]
        # Penalties are the pixels' alone, so there are no lazy steps of the heads to correct for.
        own = {"lr": None if self.heads is None else self.heads.lr, "betas": (self.hp.beta1, self.hp.beta2)}
        groups.append(discriminator_groups(self.discriminator, self.frozen, discriminator, own))
        # Fused ones can skip a step (`guarded_step`).
        return [torch.optim.Adam(part, eps=self.hp.adam_eps, fused=True) for part in groups]

    def _adam_numbers(self) -> list[dict[str, Any]]:
        factor = 1.0 if self.growth is None else self.growth.lr_factor(self.images_seen)
        return adam_numbers(self.hp_now, lazy_penalties=self.lazy_penalties, factor=factor)


def path_length_gradient(lengths: Tensor, mean: Tensor, a: Tensor, decay: float) -> Tensor:
    """A scalar whose gradient is N/2 times that of E (l - a)^2, the mean over N images, of which `lengths` are some.

    As a = old + decay (m - old) moves with the mean m of all lengths, d/dl_i E (l - a)^2 = 2/N k_i with
    k_i = (l_i - a) - decay (m - a). Unlike the square, the sum of k_i l_i over micro-batches is that of the batch.
    """
    k = (lengths.detach() - a) - decay * (mean - a)
    return (k * lengths).sum()


def _described(loss: Callable[..., Tensor]) -> str:
    """The name of a loss, with what was chosen in it; one with a state describes itself."""
    if isinstance(loss, torch.nn.Module):
        return str(loss.described)
    function, chosen = (loss.func, loss.keywords) if isinstance(loss, partial) else (loss, {})
    return " ".join([getattr(function, "__name__", type(function).__name__), *(f"{k}={v}" for k, v in chosen.items())])
