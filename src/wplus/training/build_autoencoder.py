"""Builds an autoencoder training from its configuration, rejecting invalid combinations before any work is done."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from wplus.core.random import step_seed
from wplus.core.runtime import Runtime
from wplus.data import ImageSet
from wplus.data.reader import is_one_hot
from wplus.errors import UserError, check_number
from wplus.models.autoencoder import CodeEncoder, Decoder
from wplus.training.autoencoder import AutoencoderModule
from wplus.training.autoencoder_hparams import INFOS, autoencoder_hparams, check_idle, resolve_autoencoder
from wplus.training.build import Builder, Training, check_divides, set_precision
from wplus.training.hparams import Resolved
from wplus.training.snapshot import SampleView, View
from wplus.training.transfer import Transfer


def autoencoder_training(
    *,
    hparams: Mapping[str, Any],
    num_prior_images: int = 5000,  # maximum number of training images whose codes a mixture prior is fitted to
    data: Builder,
    model: Builder | None,
    probes: Callable[..., View] | None = None,
    transfer: Transfer | None = None,
    runtime: Runtime,
    seed: int,
    num_samples: int,
    **idle: Any,
) -> Training:
    """Build a training of an encoder and a decoder from scratch; `idle` choices, of other trainings, must be None."""
    if model is None:
        raise UserError("An autoencoder's training needs a choice of model, such as model=autoencoder or model=vae.")
    for name, choice in idle.items():
        if choice is not None:
            raise UserError(f"{name} has no effect on an autoencoder's training: leave it out.")
    if transfer is not None and transfer.files:
        raise UserError("transfer.checkpoint has no effect on an autoencoder's training: leave it out.")
    parts = model()
    check_parts(parts)
    check_number("training.num_prior_images", num_prior_images, lowest=1, whole=True)
    resolved = resolve_autoencoder(hparams, parts.get("preset", {}))
    images = data(split="train")
    module, resolved = build_autoencoder(
        images, parts["encoder"], parts["generator"], resolved=resolved, num_prior_images=num_prior_images,
        runtime=runtime, seed=seed,
    )  # fmt: skip
    sampling = {"data": images, "seed": seed, "num_samples": num_samples}
    view = SampleView(**sampling) if probes is None else probes(held_out=partial(data, split="held_out"), **sampling)
    return Training(module=module, data=images, view=view, resolved=resolved, infos=INFOS)


def check_parts(parts: Mapping[str, Any]) -> None:
    """Raise UserError for a model that is not an autoencoder."""
    classes = [getattr(parts.get(role), "func", None) for role in ("encoder", "generator")]
    if classes != [CodeEncoder, Decoder]:
        raise UserError(
            "training=autoencoder trains an encoder with its decoder, which this model is not: choose "
            "model=autoencoder or model=vae, or leave training= out."
        )


def build_autoencoder(
    data: ImageSet,
    encoder: partial[CodeEncoder],
    generator: partial[Decoder],
    *,
    resolved: Resolved,
    num_prior_images: int = 5000,
    runtime: Runtime,
    seed: int = 0,
) -> tuple[AutoencoderModule, Resolved]:
    """Build both networks for `data` and the module that trains them; return it with its resolved values.

    Raises UserError for labels that are not classes, a likelihood unsuitable for the images, or values without effect.
    """
    hparams = autoencoder_hparams(resolved)
    check_divides(hparams.batch_size, runtime.world_size)
    if data.labels is not None and not is_one_hot(data.labels):
        raise UserError("An autoencoder's labels must be classes, one for each image; choose data.labels=none.")
    torch.manual_seed(step_seed(seed, "weights"))
    decoder = generator(resolution=data.resolution, c_dim=data.c_dim, img_channels=data.img_channels)
    reader = encoder(
        w_dim=decoder.w_dim, c_dim=data.c_dim, input_size=data.resolution, img_channels=data.img_channels
    )  # fmt: skip
    check_idle(resolved, variational=reader.variational, code_activation=reader.code_activation, c_dim=data.c_dim)
    check_likelihood(decoder, reader, data)
    set_precision([decoder, reader], runtime)
    module = AutoencoderModule(
        reader, decoder, hparams=hparams, data=data, num_prior_images=num_prior_images, seed=seed
    )  # fmt: skip
    module.run_fingerprint.update(data=data.fingerprint, world_size=runtime.world_size)
    num = reader.num_parameters + decoder.num_parameters
    why = f"{type(reader).__name__} and {type(decoder).__name__}"
    return module, {**resolved, "code_dim": (decoder.code_dim, "of the model"), "num_parameters": (num, why)}


def check_likelihood(decoder: Decoder, encoder: CodeEncoder, data: ImageSet) -> None:
    """Raise UserError for a Bernoulli likelihood with a variational encoder unless images are black and white only."""
    if decoder.likelihood != "bernoulli" or not encoder.variational:
        return
    pixels = data.batch(torch.arange(min(len(data), 64)))[0]
    if not bool(((pixels == 0) | (pixels == 255)).all()):
        raise UserError(
            "likelihood=bernoulli of a variational autoencoder needs images of black and white pixels alone, and these "
            "have greys: choose likelihood=gaussian, or data=digits data.binary=true."
        )
