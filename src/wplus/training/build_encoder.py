"""Builds an encoder training from its configuration, rejecting invalid combinations before any work is done."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from wplus.checkpoint import Models, load
from wplus.core.random import step_seed
from wplus.core.runtime import Runtime
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import L1, L2
from wplus.models.encoders.base import Encoder
from wplus.models.encoders.e4e import LatentDiscriminator
from wplus.models.generator import GeneratorNetwork
from wplus.training.build import Builder, Training, set_precision
from wplus.training.encoder import EncoderModule
from wplus.training.encoder_hparams import INFOS, LATENT_LOSSES, EncoderHparams, make_encoder_hparams
from wplus.training.hparams import Resolved
from wplus.training.snapshot import InversionView
from wplus.training.transfer import Transfer

INPUT_PX = (32, 256)  # limits of an encoder's default input size, the generator's resolution


def encoder_training(
    *,
    hparams: Mapping[str, Any],
    loss_weights: Mapping[str, float],
    progressive: Mapping[str, float] | None,
    latent_discriminator: Mapping[str, Any] | None,
    data: Builder,
    checkpoint: str | None,
    encoder: Builder | None,
    perceptual: Builder | None,
    image_loss: Builder | None,
    runtime: Runtime,
    seed: int,
    num_samples: int,
    transfer: Transfer | None = None,
    **idle: Any,
) -> Training:
    """Build an encoder training for the generator in a checkpoint; `idle` choices, of other trainings, must be None."""
    if transfer is not None and transfer.files:
        raise UserError(
            "transfer.checkpoint has no effect on an encoder's training, which starts from an untrained encoder: leave "
            "it out; the generator to invert is checkpoint=model.safetensors."
        )
    settings = make_encoder_hparams(hparams, loss_weights, progressive, latent_discriminator)
    if encoder is None:
        raise UserError("An encoder's training needs a choice of encoder, such as encoder=small.")
    if checkpoint is None:
        raise UserError(
            "An encoder is trained for a generator: give the generator's checkpoint, for example "
            "checkpoint=model.safetensors."
        )
    for name, choice in idle.items():
        if choice is not None:
            raise UserError(
                f"{name} has no effect on an encoder's training, whose generator comes from a checkpoint: leave it out "
                "(debug=quick sets it; for encoders there is debug=quick_encoder)."
            )
    models = load(checkpoint, needs=["generator"])
    losses = _losses(perceptual, image_loss, settings.loss_weights)
    module = build_encoder_module(models, encoder(), losses=losses, hparams=settings, runtime=runtime, seed=seed)
    images, held_out = (data(split=split, resolution=models.generator.resolution) for split in ("train", "held_out"))
    _check_images(images, models.generator)
    module.run_fingerprint.update(data=images.fingerprint, world_size=runtime.world_size)
    view = InversionView(held_out, num_samples=num_samples)
    return Training(module=module, data=images, view=view, resolved=_numbers(module), infos=INFOS)


def build_encoder_module(
    models: Models,
    encoder: partial,
    *,
    losses: Mapping[str, ImageDistance],
    hparams: EncoderHparams,
    runtime: Runtime,
    seed: int = 0,
) -> EncoderModule:
    """Build an untrained encoder for `models.generator` and the module that trains it, tested on a blank image.

    `encoder` is a partial constructor; num_ws, w_dim, img_channels and an input_size of None are filled in. Raises
    UserError if encoder, losses, hparams and generator do not fit together.
    """
    generator = models.generator
    torch.manual_seed(step_seed(seed, "weights"))
    network = _fitting(encoder, generator)
    if hparams.start_from == "mean":
        network.latent_avg.copy_(generator.mapping.w_avg.expand_as(network.latent_avg))
    if hparams.num_passes > 1 and not network.is_iterative:
        raise UserError(
            f"training.hparams.num_passes={hparams.num_passes} needs an encoder that sees its last result "
            "(encoder.is_iterative=true, as encoder=restyle); this one passes once."
        )
    if hparams.progressive is not None and not network.has_stages:
        raise UserError(
            f"{type(network).__name__} has no deltas that could join one by one: give training.progressive=null."
        )
    discriminator = LatentDiscriminator(w_dim=generator.w_dim) if hparams.adversary is not None else None
    set_precision([generator], runtime)
    module = EncoderModule(
        network, generator, losses=losses, hparams=hparams, fingerprint=models.fingerprint, discriminator=discriminator,
        seed=seed,
    )  # fmt: skip
    blank = torch.zeros(1, generator.img_channels, generator.resolution, generator.resolution)
    module.compare(module.reconstruct(blank), blank)
    return module


def _losses(
    perceptual: Builder | None, image_loss: Builder | None, weights: Mapping[str, float]
) -> dict[str, ImageDistance]:
    """Return the image losses by name; UserError for a weight without a loss or a loss without a weight."""
    losses: dict[str, ImageDistance] = {"l1": L1(), "l2": L2()}
    if perceptual is not None:
        losses["perceptual"] = perceptual()
    losses |= image_loss() if image_loss is not None else {}
    for name in sorted(set(losses) - set(weights)):
        raise UserError(f"The loss '{name}' has no weight: give +training.loss_weights.{name}=, 0 to measure it only.")
    known = [*losses, *LATENT_LOSSES]
    for name, weight in weights.items():
        if weight and name not in known:
            raise UserError(
                f"training.loss_weights.{name}={weight:g} has no loss; there are {', '.join(known)}, and "
                "image_loss=[...] adds others."
            )
    return losses


def _fitting(encoder: partial, generator: GeneratorNetwork) -> Encoder:
    size = {"num_ws": generator.num_ws, "w_dim": generator.w_dim, "img_channels": generator.img_channels}
    if "input_size" in inspect.signature(encoder.func).parameters and encoder.keywords.get("input_size") is None:
        size["input_size"] = min(max(generator.resolution, INPUT_PX[0]), INPUT_PX[1])
    return encoder(**size)


def _check_images(images: ImageSet, generator: GeneratorNetwork) -> None:
    """Raise UserError if images and generator differ in channels or, for a conditional generator, in classes."""
    if images.img_channels != generator.img_channels:
        raise UserError(
            f"The images have {images.img_channels} channel(s), the generator makes {generator.img_channels}; "
            f"for a folder or zip give data.channels={generator.img_channels}."
        )
    if generator.c_dim and images.c_dim != generator.c_dim:
        raise UserError(
            f"The generator is conditional on {generator.c_dim} classes and the images have {images.c_dim}; choose "
            "data.labels as in the generator's own training."
        )


def _numbers(module: EncoderModule) -> Resolved:
    """Return the values derived from generator and hparams, each with its reason."""
    encoder, hparams = module.encoder, module.hp
    numbers: Resolved = {
        "encoder_parameters": (
            encoder.num_parameters,
            f"{type(encoder).__name__} for {encoder.num_ws} codes of {encoder.w_dim} numbers",
        ),
        "input_px": (encoder.input_size, "the encoder's input size"),
        "loss_px": (min(hparams.loss_px, module.generator.resolution), "size at which images are compared"),
    }
    if hparams.progressive is not None and hparams.progressive.start_kimg is not None:
        last = hparams.progressive.start_kimg + (encoder.num_ws - 2) * hparams.progressive.every_kimg
        numbers["last_delta_kimg"] = (last, f"delta {encoder.num_ws - 1} is activated")
    return numbers
