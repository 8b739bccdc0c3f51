"""Builds a translation training from its configuration, rejecting invalid combinations before any work is done."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from wplus.core.random import step_seed
from wplus.core.runtime import Runtime
from wplus.data.domains import DomainBatches, TwoDomains, require_domains
from wplus.errors import UserError
from wplus.losses.adversarial import compares
from wplus.models.translation.unet import UNet
from wplus.training.build import Builder, Training, check_divides, set_precision
from wplus.training.hparams import Resolved
from wplus.training.snapshot import View
from wplus.training.transfer import Transfer
from wplus.training.translation import CycleGANModule, Loss, Pix2PixModule, TranslationModule
from wplus.training.translation_hparams import (
    EPOCHS,
    INFOS,
    CycleGANHparams,
    Pix2PixHparams,
    TranslationHparams,
)
from wplus.training.translation_view import TranslationView
from wplus.training.validate import check_options

Parts = Mapping[str, Any]


def pix2pix_training(*, hparams: Pix2PixHparams, **choices: Any) -> Training:
    """Build a paired translation training; `choices` are those of `translation_training`."""
    return translation_training("pix2pix", hparams, pix2pix, **choices)


def cyclegan_training(*, hparams: CycleGANHparams, **choices: Any) -> Training:
    """Build an unpaired training with a translator per direction; `choices` are those of `translation_training`."""
    return translation_training("cyclegan", hparams, cyclegan, **choices)


def translation_training(
    name: str,
    hparams: TranslationHparams,
    assemble: Callable[..., TranslationModule],
    *,
    data: Builder,
    model: Builder | None,
    loss: Builder | None,
    runtime: Runtime,
    seed: int,
    num_samples: int,
    checkpoint: str | None,
    transfer: Transfer | None = None,
    probes: Callable[..., View] | None = None,
    **idle: Any,
) -> Training:
    """Build a translation training; `idle` choices, of other trainings, must be None.

    A model has its own loss, which `loss` overrides if given. In addition to `TranslationView`, `probes` treat forward
    translations like a generator's images; probes that need latents return nothing.
    """
    _check_idle(name, {**idle, "checkpoint": checkpoint, "transfer.checkpoint": transfer and (transfer.files or None)})
    if model is None:
        raise UserError(f"The training of {name} needs a choice of model: give model={name}.")
    parts = model()
    check_parts(parts, name)
    losses = _losses(parts["loss"] if loss is None else loss(), name)
    images, held_out = (
        require_domains(data(split=split), paired=name == "pix2pix", model=name) for split in ("train", "held_out")
    )
    hparams, numbers = _schedule(hparams, images)
    torch.manual_seed(step_seed(seed, "weights"))
    parts, sizes = _sized(parts, images)
    channels = (images.a.img_channels, images.img_channels)
    module = assemble(parts, channels, images.resolution, hparams=hparams, seed=seed, **losses)
    set_precision(list(module.exported.values()), runtime)
    check_divides(hparams.batch_size, runtime.world_size)
    _rehearse(module, images)
    module.run_fingerprint.update(data=images.fingerprint, world_size=runtime.world_size)
    view: View = TranslationView(held_out, num_samples=num_samples)
    if probes is not None:
        view = probes(samples=view, data=images, held_out=lambda: held_out, seed=seed, num_samples=num_samples)
    batches = partial(DomainBatches, paired=module.needs_pairs)
    resolved = {**_counted(module), **sizes, **numbers}
    return Training(module=module, data=images, batches=batches, view=view, resolved=resolved, infos=INFOS)


def _check_idle(name: str, choices: Mapping[str, Any]) -> None:
    for choice, value in choices.items():
        if value is not None:
            raise UserError(f"{choice} has no effect on the training of {name}: leave it out.")


def check_parts(parts: Parts, name: str) -> None:
    """Raise UserError for networks of another kind of model."""
    if not all(isinstance(parts.get(role), partial) for role in ("generator", "discriminator")) or "preset" in parts:
        raise UserError(f"training={name} is refused with this model, which translates no images: use model={name}.")
    for role in ("generator", "discriminator"):
        check_options(role, parts[role])


def _losses(parts: Parts, name: str) -> dict[str, Loss]:
    """Return both losses; UserError for losses that need a penalty or compare generated with real images."""
    is_bound = any(penalty.why_needed for penalty in parts.get("penalties") or ())
    if is_bound or compares(parts["generator_loss"]):
        raise UserError(
            f"This loss is refused with {name}: it needs a penalty, or compares generated images with real ones; use "
            "loss=nonsaturating, loss=lsgan or loss=hinge."
        )
    return {role: parts[role] for role in ("generator_loss", "discriminator_loss")}


def _schedule(hparams: TranslationHparams, images: TwoDomains) -> tuple[Any, Resolved]:
    """Fill in the times of the learning-rate schedule, with reasons; epochs are those of the larger domain."""
    largest = max(len(images), len(images.a))
    numbers: Resolved = {}
    for name in ("constant_kimg", "decay_kimg"):
        given = getattr(hparams, name)
        derived = (EPOCHS * largest / 1000, f"{EPOCHS} epochs of {largest} images, as published")
        numbers[name] = derived if given is None else (given, "given")
    return replace(hparams, **{name: value for name, (value, _) in numbers.items()}), numbers


def _sized(parts: Parts, images: TwoDomains) -> tuple[dict[str, Any], Resolved]:
    """Fill in sizes that are None in the partial constructors, derived from the resolution, with reasons."""
    exponent = round(math.log2(images.resolution))
    derived: Resolved = {
        "num_downs": (exponent, f"the innermost map of {images.resolution} px is 1 px wide"),
        "num_blocks": (9 if images.resolution >= 256 else 6, "9 from 256 px, 6 below, as published"),
        "num_layers": (max(1, min(3, exponent - 4)), "1 at 32 px, 2 at 64 px, 3 and patches of 70 px above"),
    }
    if parts["generator"].func is not UNet:
        derived["num_downs"] = (2 if images.resolution >= 128 else 1, "2 from 128 px, 1 below")
    sized, used = dict(parts), Resolved()
    for role in ("generator", "discriminator"):
        filled = {
            key: derived[key][0] for key, value in parts[role].keywords.items() if value is None and key in derived
        }
        sized[role] = partial(parts[role], **filled)
        used |= {key: derived[key] for key in filled}
    return sized, used


def pix2pix(
    parts: Parts, channels: tuple[int, int], resolution: int, *, hparams: Pix2PixHparams, **shared: Any
) -> Pix2PixModule:
    """Build untrained networks for images with `channels` in domains a and b, and the module that trains them."""
    a, b = channels
    seen = a + b if hparams.discriminated == "pair" else b
    networks = {
        "generator": parts["generator"](in_channels=a, img_channels=b),
        "discriminator": parts["discriminator"](in_channels=seen),
    }
    return Pix2PixModule(networks, hparams=hparams, channels=channels, **shared)


def cyclegan(
    parts: Parts, channels: tuple[int, int], resolution: int, *, hparams: CycleGANHparams, **shared: Any
) -> CycleGANModule:
    """Build the networks and the module as in `pix2pix`, for both directions."""
    a, b = channels
    if a != b and hparams.identity_weight:
        raise UserError(
            f"training.hparams.identity_weight={hparams.identity_weight:g} is refused: domain a has {a} channel(s) and "
            f"b {b}, so that no image belongs to both; give 0."
        )
    networks = {
        "generator": parts["generator"](in_channels=a, img_channels=b),
        "discriminator": parts["discriminator"](in_channels=b),
        "generator_backward": parts["generator"](in_channels=b, img_channels=a),
        "discriminator_backward": parts["discriminator"](in_channels=a),
    }
    return CycleGANModule(networks, hparams=hparams, channels=channels, resolution=resolution, **shared)


def _rehearse(module: TranslationModule, images: TwoDomains) -> None:
    """Test a forward pass; UserError if a network does not fit the images or batch norm gets a single value."""
    blank = torch.zeros(1, module.channels[0], images.resolution, images.resolution)
    was = [buffer.clone() for buffer in module.buffers()]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        made = module.generator(blank.expand(module.batch_size, -1, -1, -1), mode="train")
        module.translate(blank)
    assert made.shape[1:] == (module.channels[1], images.resolution, images.resolution)
    for buffer, before in zip(module.buffers(), was, strict=True):
        buffer.copy_(before)


def _counted(module: TranslationModule) -> Resolved:
    networks = {"generator": module.generator, "discriminator": module.discriminator}
    return {f"{role}_parameters": (net.num_parameters, type(net).__name__) for role, net in networks.items()}
