"""From choices to a game that can start: the preset fills what is open, what cannot be is refused before all work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from wplus.core.random import step_seed
from wplus.core.runtime import Runtime
from wplus.errors import UserError
from wplus.models.layers import set_bf16_resolutions
from wplus.models.network import Network
from wplus.training.augment import NoAugment
from wplus.training.gan import GanModule
from wplus.training.hparams import Resolved
from wplus.training.module import TrainingModule
from wplus.training.settings import GanSpec, Preset, num_micro
from wplus.training.snapshot import SampleView, View
from wplus.training.transfer import Transfer, start_from
from wplus.training.transfer_report import Report
from wplus.training.validate import check_augment, name_of

Builder = Callable[..., Any]  # builds what was chosen in a group of the configuration, when it is called
BF16_RESOLUTIONS = 4  # the highest ones, as StyleGAN2-ADA's float16


@dataclass(frozen=True, kw_only=True)
class Training:
    """All that a run needs besides a folder: what configs/training decides, made ready."""

    module: TrainingModule
    data: Any
    """The wplus.data.ImageSet that it sees."""
    view: View
    resolved: Resolved
    """Every hyper-parameter with the reason for its value, for the log."""
    transfer: Report | None = None
    """What came from trained networks, where it starts from such."""


def gan_training(
    *,
    preset: Preset | None,
    hparams: Mapping[str, Any],
    micro_batch_size: int | None,
    data: Builder,
    model: Builder | None,
    loss: Builder | None,
    augment: Builder | None = None,
    probes: Callable[..., View] | None = None,
    transfer: Transfer | None = None,
    runtime: Runtime,
    seed: int,
    num_samples: int,
    **idle: Any,
) -> Training:
    """A generator against a discriminator; `idle` are the choices that only other trainings use, all None here.

    A model brings its own preset and its own loss; `preset` and `loss` stand over them where they are given. `probes`
    makes the view of the run (`wplus.probes.ProbeRunner`); None: grids of samples alone. `transfer` says which trained
    networks the game starts from.
    """
    if model is None:
        raise UserError("A generator's training needs a choice of model, such as model=stylegan2.")
    _refuse_idle(idle)
    parts = model()
    source = transfer.read(parts["generator"].func, parts["discriminator"].func) if transfer is not None else None
    presets = [part for part in (parts["preset"], preset, source and source.preset) if part is not None]
    networks = {role: parts[role] for role in ("generator", "discriminator")}
    settings = GanSpec(**networks, **(parts["loss"] if loss is None else loss()), presets=presets, hparams=hparams)
    settings.check(runtime, micro_batch_size)
    augmentation = augment() if augment is not None else NoAugment()
    check_augment(augmentation, settings.discriminator_loss)
    hurried = augmentation.start_from_trained() if source is not None else {}
    images = data(split="train")
    looking = {"data": images, "seed": seed, "num_samples": num_samples}
    view = SampleView(**looking) if probes is None else probes(held_out=partial(data, split="held_out"), **looking)
    playing = {"runtime": runtime, "seed": seed, "micro_batch_size": micro_batch_size, "augment": augmentation}
    frozen = {"freeze_discriminator": source.freeze_discriminator} if source is not None else {}
    module, numbers = build_gan(images, settings, **playing, **frozen)
    report = start_from(module, source) if source is not None else None
    return Training(module=module, data=images, view=view, resolved=numbers | hurried, transfer=report)


def _refuse_idle(idle: Mapping[str, Any]) -> None:
    for name, choice in idle.items():
        if choice is not None:
            raise UserError(
                f"{name} has no effect on a generator's training: leave it out, or train an encoder, for example with "
                "training=e4e encoder=small checkpoint=model.safetensors."
            )


def build_gan(
    data: Any,
    settings: GanSpec,
    *,
    runtime: Runtime,
    seed: int = 0,
    micro_batch_size: int | None = None,
    augment: NoAugment | None = None,
    freeze_discriminator: int = 0,
) -> tuple[GanModule, Resolved]:
    """Build the networks for `data` (a wplus.data.ImageSet) and the game between them.

    `micro_batch_size` is the images per backward pass and process (None: all). Returns the game and its numbers, each
    with the reason for it. UserError for a batch that cannot be divided.
    """
    numbers = settings.resolve(data.resolution)
    parts = num_micro(numbers, runtime.world_size, micro_batch_size)
    torch.manual_seed(step_seed(seed, "weights"))
    shape = {"resolution": data.resolution, "c_dim": data.c_dim, "img_channels": data.img_channels}
    networks = [_fill(part, numbers)(**shape) for part in (settings.generator, settings.discriminator)]
    set_precision(networks, runtime)
    module = GanModule(
        *networks,
        generator_loss=settings.generator_loss,
        discriminator_loss=settings.discriminator_loss,
        penalties=settings.penalties,
        seed=seed,
        num_micro=parts,
        hparams=settings.hparams_of(numbers),
        labels=data.labels,
        augment=augment,
        freeze_discriminator=freeze_discriminator,
    )
    module.identity.update(data=data.fingerprint, world_size=runtime.world_size)
    return module, numbers


def _fill(part: partial, numbers: Resolved) -> partial:
    filled = {name: numbers[name][0] for name, value in part.keywords.items() if value is None and name in numbers}
    return partial(part, **filled)


def set_precision(networks: Sequence[Network], runtime: Runtime) -> None:
    """bfloat16 in the highest resolutions, where `runtime` says so and the networks have blocks for it.

    UserError where it was asked for and none of them has.
    """
    if runtime.precision == "bf16" and not any(
        hasattr(part, "compute_dtype") for n in networks for part in n.modules()
    ):
        raise UserError(
            f"precision=bf16 is refused with {name_of(type(networks[0]))}: it computes in float32 only; "
            "use trainer.precision=auto."
        )
    if runtime.precision == "bf16" or (runtime.precision == "auto" and runtime.device.type == "cuda"):
        for network in networks:
            set_bf16_resolutions(network, BF16_RESOLUTIONS)
