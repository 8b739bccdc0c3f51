"""Losses of the phases of a GAN training step, as generators over micro-batches, and the values logged on the way.

Each micro-batch yields its share of the batch mean. The order follows StyleGAN2's step (Karras et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wplus.core.distributed import mean_over_ranks
from wplus.core.metric_result import MetricInfo, described
from wplus.models.projected import Projected
from wplus.training.inputs import micro_batches
from wplus.training.penalties import DiscriminatorBatch, Penalty, both_logits
from wplus.training.phases import Draw, Told

if TYPE_CHECKING:
    from wplus.training.gan import GanModule


def generator_losses(module: GanModule, draw: Draw, told: Told) -> Iterator[Tensor]:
    """E f(D(G(z))), by default f(t) = -log sigmoid(t) (Goodfellow et al. 2014, section 3)."""
    real, inputs, (augment_real, augment) = draw.real, draw.inputs, draw.augments
    assert inputs is not None
    w_sum = torch.zeros((), device=real.device)
    for part in micro_batches(len(real), module.num_micro, module.group_size, module.device):
        sample = inputs.take(part)
        fake, _, w_part = module.generate(sample)
        w_sum = w_sum + w_part
        shown, loss = augment.take(part)(fake), torch.zeros((), device=real.device)
        if module.pixels is not None:
            logits = [module.pixels(shown, sample.c)]
            if module.compares:
                with torch.no_grad():
                    logits.append(module.pixels(augment_real.take(part)(real[part]), draw.labels[part]))
            loss = module.generator_loss(*logits).sum() / len(real)
            told.number("train/generator/loss", loss.detach() * module.num_micro)
        if module.asked is not None:
            assert isinstance(module.discriminator, Projected)
            heard = module.asked.against(module.discriminator, draw.before_heads[1].take(part)(shown), sample.c)
            told.number("train/heads/generator", heard.detach().mean())
            loss = loss + heard.sum() * (module.asked.weight_at(module.images_seen) / len(real))
        yield loss
    told.w_mean = w_sum / len(real)
    if module.anchor is not None and draw.pairs is not None:
        loss, numbers = module.anchor.loss(module.generator, draw.pairs)
        told.numbers.extend(numbers.items())
        yield loss


def path_length_losses(module: GanModule, draw: Draw, told: Told) -> Iterator[Tensor]:
    """E (|J^T y| - a)^2, J = dG/dw, y ~ N(0, I), a the running mean of |J^T y| (StyleGAN2, equation 4)."""
    hp, inputs = module.hp, draw.inputs
    assert inputs is not None
    num = len(inputs.z)
    parts = micro_batches(num, min(module.num_micro, num), 1, module.device)
    # The mean of all lengths is needed first. With several parts no graphs are kept: together they would be as large
    # as that of the whole batch.
    keep = torch.Tensor.detach if len(parts) > 1 else lambda lengths: lengths
    known = [keep(module.path_lengths(inputs.take(part))) for part in parts]
    mean = mean_over_ranks(torch.cat(known).detach().mean())
    a = module.pl_mean.lerp(mean, hp.pl_decay)
    for part, lengths in zip(parts, known, strict=True):
        penalty = (lengths.detach() - a).square()  # (|J^T y| - a)^2
        told.number("train/path_length/penalty", penalty.mean())
        lengths = module.path_lengths(inputs.take(part)) if len(parts) > 1 else lengths
        gradient = path_length_gradient(lengths, mean, a, hp.pl_decay)
        yield gradient * (2 / num * hp.pl_weight * hp.pl_interval)
    told.pl_mean = a
    told.number("train/path_length/mean", a)


def path_length_gradient(lengths: Tensor, mean: Tensor, a: Tensor, decay: float) -> Tensor:
    """Return a scalar whose gradient is N/2 times that of E (l - a)^2 over N images, `lengths` being some of them.

    Since a = old + decay (m - old) depends on the mean m of all lengths, d/dl_i E (l - a)^2 = 2/N k_i with
    k_i = (l_i - a) - decay (m - a). Unlike the square, sum_i k_i l_i over micro-batches equals that over the batch.
    """
    k = (lengths.detach() - a) - decay * (mean - a)
    return (k * lengths).sum()


def discriminator_losses(module: GanModule, draw: Draw, told: Told) -> Iterator[Tensor]:
    """E f(D(x), D(G(z))), by default -log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))); penalties if not lazy."""
    num = len(draw.real)
    for batch in discriminator_batches(module, draw):
        loss = _pixels_loss(module, batch, num, told) + _heads_loss(module, batch, num, told)
        yield loss if module.lazy_penalties else loss + penalty_loss(module, batch, draw.weights, told)


def _pixels_loss(module: GanModule, batch: DiscriminatorBatch, num: int, told: Told) -> Tensor:
    """Return a micro-batch's share of the pixel discriminator's loss, a mean over `num` pairs."""
    if module.pixels is None:
        return torch.zeros((), device=batch.real.device)
    real, fake = both_logits(module.pixels, batch)
    real_logits, fake_logits = real[:, :1], fake[:, :1]
    loss = module.discriminator_loss(real_logits, fake_logits).sum() / num
    told.number("train/discriminator/loss", loss.detach() * module.num_micro)
    for kind, logits in (("real", real_logits.detach()), ("fake", fake_logits.detach())):
        told.number(f"train/logits/{kind}", logits.mean())
        told.number(f"train/logits/{kind}_std", logits.std(correction=0))
        told.number(f"train/logits/{kind}_sign", logits.sign().mean())
    told.logits.append(real_logits.detach())
    direction = (fake[:, 1:] - real[:, 1:]).sum() / num  # SAN: trains its direction; otherwise empty
    return loss + direction


def _heads_loss(module: GanModule, batch: DiscriminatorBatch, num: int, told: Told) -> Tensor:
    """Return a micro-batch's share of the loss of the heads on frozen features."""
    if module.asked is None:
        return torch.zeros((), device=batch.real.device)
    assert isinstance(module.discriminator, Projected)
    loss, real, values = module.asked.learn(module.discriminator, batch, nimg=module.images_seen)
    for name, value in values.items():
        told.number(name, value)
    if module.pixels is None:
        told.logits.append(torch.cat(real, dim=1))
    return loss.sum() / num


def penalty_losses(module: GanModule, draw: Draw, told: Told) -> Iterator[Tensor]:
    """The penalties alone, for a separate optimizer step."""
    for batch in discriminator_batches(module, draw):
        yield penalty_loss(module, batch, draw.weights, told)


def penalty_loss(module: GanModule, batch: DiscriminatorBatch, weights: Sequence[Tensor], told: Told) -> Tensor:
    """Return a micro-batch's share of the batch mean of the weighted penalties, such as gamma/2 |dD/dx|^2."""
    total = torch.zeros((), device=batch.real.device)
    for penalty, weight in zip(module.penalties, weights, strict=True):
        assert module.pixels is not None
        value = penalty(module.pixels, batch)  # (n,), |dD/dx|^2
        told.number(f"train/{penalty.name}/penalty", value.detach().mean())
        total = total + value.sum() * weight
    return total


def discriminator_batches(module: GanModule, draw: Draw) -> Iterator[DiscriminatorBatch]:
    """Yield micro-batches of real and generated images."""
    real, labels, alpha, (before_real, before_fake) = draw.real, draw.labels, draw.alpha, draw.before_heads
    assert alpha is not None
    for part in micro_batches(len(real), module.num_micro, module.group_size, module.device):
        fake, fake_labels = real[part], labels[part]
        if draw.inputs is not None:
            sample = draw.inputs.take(part)
            fake_labels = sample.c
            with torch.no_grad():
                fake, _, _ = module.generate(sample)
        augments = draw.augments[0].take(part), draw.augments[1].take(part)
        before = before_real.take(part), before_fake.take(part)
        yield DiscriminatorBatch(real[part], labels[part], fake, fake_labels, alpha[part], *augments, before)


def gan_infos(penalties: Sequence[Penalty], phases: Mapping[str, str]) -> dict[str, MetricInfo]:
    """Describe the logged values by name; `phases` maps the phases of a step to their networks."""
    logits = {"": "Mean", "_std": "Standard deviation", "_sign": "Mean sign"}
    kinds = {"real": "real images, as augmentation shows them", "fake": "generated images"}
    meanings = {
        "train/generator/loss": "The generator's adversarial loss, mean over images.",
        "train/discriminator/loss": "The discriminator's adversarial loss, mean over pairs, without penalties.",
        "train/path_length/penalty": "(|J^T y| - a)^2, mean over images: how unequal the lengths of paths are.",
        "train/path_length/mean": "a, the running mean of the path lengths |J^T y|.",
        "train/lod": "Level of detail of progressive networks: 0 is the full resolution, each further 1 halves it.",
        **{f"train/logits/{kind}{suffix}": f"{what} of the discriminator's logits of {images}."
           for kind, images in kinds.items() for suffix, what in logits.items()},
        **{f"train/{penalty.name}/penalty": f"{type(penalty).__doc__} Logged without its weight, mean over images."
           for penalty in penalties},
        **{f"train/{phase}/grad_norm": f"Norm of the {network}'s gradient in the phase {phase}."
           for phase, network in phases.items()},
    }  # fmt: skip
    return described(meanings)
