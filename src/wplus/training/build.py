"""From choices to a training that can start; what cannot be is refused before all work."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch

from wplus.core.metric_result import MetricInfo
from wplus.core.random import step_seed
from wplus.core.runtime import Runtime
from wplus.data import Batches, ImageSet
from wplus.errors import UserError, check_number
from wplus.latents.labels import sample_of
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.layers import set_bf16_resolutions
from wplus.models.network import Network
from wplus.models.projected import Projected
from wplus.training.anchor import Anchor
from wplus.training.augment.control import NoAugment
from wplus.training.gan import DiscriminatorLoss, GanModule, GeneratorLoss
from wplus.training.heads import Heads
from wplus.training.hparams import INFOS, Preset, Resolved, hparams_of, resolve
from wplus.training.module import TrainingModule
from wplus.training.penalties import Penalty, active_penalties
from wplus.training.progressive import growth_of
from wplus.training.snapshot import SampleView, View
from wplus.training.transfer import Transfer, start_from
from wplus.training.transfer_report import Report
from wplus.training.validate import (
    check_anchor,
    check_augment,
    check_effect,
    check_fit,
    check_micro_batches,
    check_no_loss,
    check_options,
    check_preset,
    name_of,
)

Builder = Callable[..., Any]  # builds what was chosen in a group of the configuration, when it is called
BF16_RESOLUTIONS = 4  # the highest ones, as StyleGAN2-ADA's float16
LARGEST = 1024  # resolution: what is refused there is refused everywhere


@dataclass(frozen=True, kw_only=True)
class Training:
    """All that a run needs besides a folder: what configs/training decides, made ready."""

    module: TrainingModule
    data: ImageSet
    view: View
    resolved: Resolved
    """Every number with the reason for its value."""
    infos: Mapping[str, MetricInfo] = field(default_factory=lambda: INFOS)
    """What these numbers are."""
    batches: Callable[..., Iterable[tuple[torch.Tensor, torch.Tensor]]] = Batches
    """Endless batches of the data, as `wplus.data.Batches`."""
    transfer: Report | None = None
    """What came from trained networks, where it starts from such."""


def gan_training(
    *,
    preset: Preset | None,
    hparams: Mapping[str, Any],
    micro_batch_size: int | None,
    posthoc_ema: Sequence[float] = (),
    data: Builder,
    model: Builder | None,
    loss: Builder | None,
    augment: Builder | None = None,
    discriminator: Builder | None = None,
    anchor: Builder | None = None,
    probes: Callable[..., View] | None = None,
    transfer: Transfer | None = None,
    runtime: Runtime,
    seed: int,
    num_samples: int,
    **idle: Any,
) -> Training:
    """A generator against a discriminator; `idle` are the choices that only other trainings use, all None here.

    A model brings its own preset and its own loss; `preset` and `loss` stand over them where they are given. `probes`
    makes the view of the run (`wplus.probes.ProbeRunner`); None: grids of samples alone.
    """
    parts = _parts_of(model, idle)
    networks = {role: parts[role] for role in ("generator", "discriminator")}
    source = None if transfer is None else transfer.read(*(part.func for part in networks.values()))
    presets = [parts["preset"], preset, None if source is None else source.preset]
    losses = parts["loss"] if loss is None else loss()
    around = discriminator() if discriminator is not None else {}
    if "loss" in around:
        check_no_loss(loss)
        losses = around["loss"]
    spec = GanSpec(
        **networks, **losses, presets=[part for part in presets if part is not None], given=hparams,
        around=around.get("network"), heads=around.get("heads"),
    )  # fmt: skip
    spec.check(runtime, micro_batch_size)
    augmentation = augment() if augment is not None else NoAugment()
    check_augment(augmentation, spec.discriminator_loss)
    sooner = augmentation.start_from_trained() if source is not None else {}
    check_anchor(anchor, source)
    images = data(split="train")
    sampling = {"data": images, "seed": seed, "num_samples": num_samples}
    view = SampleView(**sampling) if probes is None else probes(held_out=partial(data, split="held_out"), **sampling)
    module, resolved = build_gan(
        images, spec, runtime=runtime, seed=seed, micro_batch_size=micro_batch_size, augment=augmentation,
        anchor=None if anchor is None else anchor(),
        freeze_discriminator=source.freeze_discriminator if source is not None else 0, posthoc_ema=posthoc_ema,
    )  # fmt: skip
    report = start_from(module, source) if source is not None else None
    return Training(module=module, data=images, view=view, resolved=resolved | sooner, transfer=report)


def _parts_of(model: Builder | None, idle: Mapping[str, Any]) -> dict[str, Any]:
    """What a model brings: generator, discriminator, preset, loss. UserError for choices that make no GAN."""
    if model is None:
        raise UserError("A generator's training needs a choice of model, such as model=stylegan2.")
    for name, choice in idle.items():
        if choice is not None:
            raise UserError(
                f"{name} has no effect on a generator's training: leave it out, or train an encoder, for example with "
                "training=e4e encoder=small checkpoint=model.safetensors."
            )
    parts: dict[str, Any] = model()
    if "discriminator" not in parts or "preset" not in parts:
        trained_by = parts.get("training", "...")
        raise UserError(
            f"This model has no discriminator to train a generator of latents against: training={trained_by} trains it."
        )
    return parts


@dataclass(frozen=True, kw_only=True)
class GanSpec:
    """What defines a GAN's training: networks, loss and numbers.

    Args:
        generator, discriminator: partial constructors, whose None keywords the presets fill.
        generator_loss, discriminator_loss, penalties: see `GanModule`.
        hparams: numbers that the loss was published with; the presets stand over them.
        presets: a later one stands over those before it.
        given: numbers that were given, over all others; None: derive.
        around, heads: a partial constructor of a discriminator that looks through frozen nets
            (`wplus.models.projected`), with that of pixels inside where it has a place for one, and how its heads are
            trained.
    """

    generator: partial
    discriminator: partial
    generator_loss: GeneratorLoss
    discriminator_loss: DiscriminatorLoss
    penalties: Sequence[Penalty] = ()
    hparams: Mapping[str, Any] = field(default_factory=dict)
    presets: Sequence[Preset]
    given: Mapping[str, Any] = field(default_factory=dict)
    around: partial | None = None
    heads: Heads | None = None

    def resolve(self, resolution: int) -> Resolved:
        """Every number with the reason for it."""
        return resolve(
            resolution=resolution,
            presets=self.presets,
            given=self.given,
            loss=self.hparams,
            penalty_weights=[penalty.weight for penalty in self.penalties],
            options={**self.discriminator.keywords, **self.generator.keywords},
        )

    @property
    def has_pixels(self) -> bool:
        """Whether the model's own discriminator is a part of the one around it."""
        return self.around is not None and "pixel" in inspect.signature(self.around.func).parameters

    def discriminator_around(self, pixels: DiscriminatorNetwork, shape: Mapping[str, Any]) -> DiscriminatorNetwork:
        """The discriminator of the training, `pixels` the model's own; `shape` says resolution, labels and channels."""
        if self.around is None:
            return pixels
        made = self.around(**shape, **({"pixel": pixels} if self.has_pixels else {}))
        if isinstance(made, Projected):
            made.bind_nets()
        return made

    def check(self, runtime: Runtime, micro_batch_size: int | None) -> None:
        """Refuse what cannot be, before data is read: what makes sense together does so at every resolution."""
        check_options("generator", self.generator)
        check_options("discriminator", self.discriminator)
        judge = self.discriminator if self.around is None or self.has_pixels else self.around
        generator, discriminator = (cast(type[Network], part.func) for part in (self.generator, judge))
        for preset in self.presets:
            check_preset(preset, generator)
        resolved = self.resolve(resolution=64)
        hparams = hparams_of(resolved)
        penalties = active_penalties(self.penalties, hparams)
        check_fit(generator, discriminator, hparams, penalties)
        check_effect(self.given, hparams, penalties)
        growth_of(generator, LARGEST, hparams)
        check_micro_batches([generator, discriminator], num_micro(resolved, runtime.world_size, micro_batch_size))


def build_gan(
    data: ImageSet,
    spec: GanSpec,
    *,
    runtime: Runtime,
    seed: int = 0,
    micro_batch_size: int | None = None,
    augment: NoAugment | None = None,
    anchor: Anchor | None = None,
    freeze_discriminator: int = 0,
    posthoc_ema: Sequence[float] = (),
) -> tuple[GanModule, Resolved]:
    """Build the networks for `data` and the module that trains them; also its numbers, each with the reason for it.

    `micro_batch_size` is the images per backward pass and process (None: all). UserError for a batch that cannot be
    divided.
    """
    resolved = spec.resolve(data.resolution)
    parts = num_micro(resolved, runtime.world_size, micro_batch_size)
    torch.manual_seed(step_seed(seed, "weights"))
    shape = {"resolution": data.resolution, "c_dim": data.c_dim, "img_channels": data.img_channels}
    networks = []
    for part in (spec.generator, spec.discriminator):
        derived = [name for name, value in part.keywords.items() if value is None and name in resolved]
        networks.append(part(**shape, **{name: resolved[name][0] for name in derived}))
    networks[1] = spec.discriminator_around(networks[1], shape)
    networks[0].data_labels = sample_of(data.labels)
    set_precision(networks, runtime)
    if anchor is not None:
        anchor.bind(data, networks[0], seed=seed)
    module = GanModule(
        *networks,
        generator_loss=spec.generator_loss,
        discriminator_loss=spec.discriminator_loss,
        penalties=spec.penalties,
        seed=seed,
        num_micro=parts,
        hparams=hparams_of(resolved),
        labels=data.labels,
        augment=augment,
        heads=spec.heads,
        anchor=anchor,
        freeze_discriminator=freeze_discriminator,
        posthoc_ema=posthoc_ema,
    )
    module.run_fingerprint.update(data=data.fingerprint, world_size=runtime.world_size)
    return module, resolved


def num_micro(resolved: Resolved, world: int, micro: int | None) -> int:
    """Micro-batches per step and process; every one holds whole minibatch-stddev groups, where the numbers have them.

    UserError for a batch that cannot be divided so.
    """
    batch, group = resolved["batch_size"][0], resolved.get("mbstd_group_size", (1, ""))[0]
    check_divides(batch, world)
    local = batch // world
    micro = local if micro is None else micro
    check_number("micro_batch_size", micro, lowest=1, whole=True)
    if local % micro:
        raise UserError(f"micro_batch_size must divide the {local} images of each process, got {micro}.")
    if micro % group:
        raise UserError(
            f"mbstd_group_size must divide the {micro} images that pass the discriminator together, got {group}."
        )
    return local // micro


def check_divides(batch: int, world: int) -> None:
    """UserError for a batch of which the processes cannot all have as many images."""
    if batch % world:
        raise UserError(f"batch_size must be a multiple of {world}, the number of processes, got {batch}.")


def set_precision(networks: Sequence[Network], runtime: Runtime) -> None:
    """bfloat16 in the highest resolutions, where `runtime` says so; UserError where no network has blocks for it."""
    modules = [part for network in networks for part in network.modules()]
    if runtime.precision == "bf16" and not any(hasattr(part, "compute_dtype") for part in modules):
        raise UserError(
            f"precision=bf16 is refused with {name_of(type(networks[0]))}: it computes in float32 only; "
            "use trainer.precision=auto."
        )
    if runtime.precision == "bf16" or (runtime.precision == "auto" and runtime.device.type == "cuda"):
        for network in networks:
            set_bf16_resolutions(network, BF16_RESOLUTIONS)
