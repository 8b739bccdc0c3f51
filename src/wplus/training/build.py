"""Builds a GAN training from its configuration, rejecting invalid combinations before any work is done."""

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

Builder = Callable[..., Any]  # when called, builds the choice made in a configuration group
BF16_RESOLUTIONS = 4  # number of highest resolutions in bfloat16, as for float16 in StyleGAN2-ADA
LARGEST = 1024  # resolution used for early checks: what fails there fails at every resolution


@dataclass(frozen=True, kw_only=True)
class Training:
    """Everything a run needs besides a folder, as built from configs/training."""

    module: TrainingModule
    data: ImageSet
    view: View
    resolved: Resolved
    """Every hyper-parameter with the reason for its value."""
    infos: Mapping[str, MetricInfo] = field(default_factory=lambda: INFOS)
    """Descriptions of the resolved values."""
    batches: Callable[..., Iterable[tuple[torch.Tensor, torch.Tensor]]] = Batches
    """Endless batches of the data, like `wplus.data.Batches`."""
    transfer: Report | None = None
    """What was loaded from trained networks, if training starts from any."""


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
    """Build a GAN training; `idle` holds choices that only other kinds of training use and must all be None.

    A model has its own preset and loss, which `preset` and `loss` override if given. `probes` creates the view of the
    run (`wplus.probes.ProbeRunner`); None means sample grids only.
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
    """Return a model's generator, discriminator, preset and loss. UserError for choices that do not form a GAN."""
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
    """Specification of a GAN training: networks, loss and hyper-parameters.

    Args:
        generator, discriminator: partial constructors; keywords that are None are filled from the presets.
        generator_loss, discriminator_loss, penalties: see `GanModule`.
        hparams: values that the loss was published with; overridden by the presets.
        presets: presets in order; later ones override earlier ones.
        given: user-given values that override all others; None means derive.
        around, heads: a partial constructor of a discriminator on frozen features (`wplus.models.projected`), which
            contains the pixel discriminator if it has a parameter for one, and the training of its heads.
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
        """Resolve every hyper-parameter, with the reason for its value."""
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
        """Whether the discriminator in use contains the model's own one for pixels."""
        return self.around is not None and "pixel" in inspect.signature(self.around.func).parameters

    def discriminator_around(self, pixels: DiscriminatorNetwork, shape: Mapping[str, Any]) -> DiscriminatorNetwork:
        """Build the discriminator to train around `pixels`, the model's own; `shape`: resolution, labels, channels."""
        if self.around is None:
            return pixels
        made = self.around(**shape, **({"pixel": pixels} if self.has_pixels else {}))
        if isinstance(made, Projected):
            made.bind_nets()
        return made

    def check(self, runtime: Runtime, micro_batch_size: int | None) -> None:
        """Reject invalid combinations before data is read; these checks do not depend on the resolution."""
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
    """Build the networks for `data` and the module that trains them; return it with its resolved hyper-parameters.

    `micro_batch_size` is the number of images per backward pass and process (None: all). Raises UserError for a batch
    that cannot be divided.
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
    """Return the micro-batches per step and process; each contains whole minibatch-stddev groups, if there are any.

    Raises UserError for a batch that cannot be divided in this way.
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
    """Raise UserError if the batch cannot be divided equally among the processes."""
    if batch % world:
        raise UserError(f"batch_size must be a multiple of {world}, the number of processes, got {batch}.")


def set_precision(networks: Sequence[Network], runtime: Runtime) -> None:
    """Enable bfloat16 at the highest resolutions if `runtime` asks for it; UserError if no network supports it."""
    modules = [part for network in networks for part in network.modules()]
    if runtime.precision == "bf16" and not any(hasattr(part, "compute_dtype") for part in modules):
        raise UserError(
            f"precision=bf16 is refused with {name_of(type(networks[0]))}: it computes in float32 only; "
            "use trainer.precision=auto."
        )
    if runtime.precision == "bf16" or (runtime.precision == "auto" and runtime.device.type == "cuda"):
        for network in networks:
            set_bf16_resolutions(network, BF16_RESOLUTIONS)
