"""The losses of a GAN's phases: of each micro-batch its part of the mean over the batch; and what is told on the way.

StyleGAN2 (Karras et al. 2020), in the order of its step.
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
    # The mean of all lengths is needed first; the graphs of several parts together would be that of the batch.
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
    """A scalar whose gradient is N/2 times that of E (l - a)^2, the mean over N images, of which `lengths` are some.

    As a = old + decay (m - old) moves with the mean m of all lengths, d/dl_i E (l - a)^2 = 2/N k_i with
    k_i = (l_i - a) - decay (m - a). Unlike the square, the sum of k_i l_i over micro-batches is that of the batch.
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
    """A micro-batch's part in the mean over `num` pairs, of what judges pixels."""
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
    direction = (fake[:, 1:] - real[:, 1:]).sum() / num  # SAN: by which its direction learns; else there is none
    return loss + direction


def _heads_loss(module: GanModule, batch: DiscriminatorBatch, num: int, told: Told) -> Tensor:
    """The same, of heads on frozen features."""
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
    """The penalties alone, in a step of their own."""
    for batch in discriminator_batches(module, draw):
        yield penalty_loss(module, batch, draw.weights, told)


def penalty_loss(module: GanModule, batch: DiscriminatorBatch, weights: Sequence[Tensor], told: Told) -> Tensor:
    """A micro-batch's part in the mean over the batch of gamma/2 |dD/dx|^2, or others."""
    total = torch.zeros((), device=batch.real.device)
    for penalty, weight in zip(module.penalties, weights, strict=True):
        assert module.pixels is not None
        value = penalty(module.pixels, batch)  # (n,), |dD/dx|^2
        told.number(f"train/{penalty.name}/penalty", value.detach().mean())
        total = total + value.sum() * weight
    return total


def discriminator_batches(module: GanModule, draw: Draw) -> Iterator[DiscriminatorBatch]:
    """Micro-batches of real images beside generated ones."""
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
    """Name -> meaning; `phases` are those of a step, name -> network."""
    logits = {"": "Mean", "_std": "Standard deviation", "_sign": "Mean sign"}
    kinds = {"real": "real images, as augmentation shows them", "fake": "generated images"}
    meanings = {
        "train/generator/loss": "The generator's adversarial loss, mean over images.",
        "train/discriminator/loss": "The discriminator's adversarial loss, mean over pairs, with no penalty.",
        "train/path_length/penalty": "(|J^T y| - a)^2, mean over images: how unequal the lengths of paths are.",
        "train/path_length/mean": "a, the running mean of the path lengths |J^T y|.",
        "train/lod": "Level of detail of networks that grow: 0 is the whole resolution, each 1 more half of it.",
        **{f"train/logits/{kind}{suffix}": f"{what} of the discriminator's logits of {images}."
           for kind, images in kinds.items() for suffix, what in logits.items()},
        **{f"train/{penalty.name}/penalty": f"{type(penalty).__doc__} Here without its weight, mean over images."
           for penalty in penalties},
        **{f"train/{phase}/grad_norm": f"Norm of the {network}'s gradient in the phase {phase}."
           for phase, network in phases.items()},
    }  # fmt: skip
    return described(meanings)
