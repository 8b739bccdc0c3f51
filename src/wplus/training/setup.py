"""From choices to a game that can start: the preset fills what is open, what cannot be is refused before all work."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from typing import Any

import torch

from wplus.devices import keep_freed_memory, resolve_device
from wplus.errors import UserError
from wplus.models.layers import set_bf16_resolutions
from wplus.models.network import Network
from wplus.training.augment import NoAugment
from wplus.training.checks import (
    check_augment,
    check_effect,
    check_fit,
    check_micro_batches,
    check_options,
    check_preset,
    name_of,
)
from wplus.training.game import Game
from wplus.training.gan import DiscriminatorLoss, GanGame, GeneratorLoss
from wplus.training.growth import growth_of
from wplus.training.penalties import PENALTIES, active_penalties
from wplus.training.randomness import step_seed
from wplus.training.recipe import Derived, Recipe, check_number, resolve
from wplus.training.samples import SampleView, View
from wplus.training.transfer import Transfer, start_from
from wplus.training.transfer_report import Report

Builder = Callable[..., Any]  # builds what was chosen in a group of the configuration, when it is called
Preset = Callable[[int, int | None], Derived]  # (resolution, batch size or None) -> numbers
LARGEST = 1024  # resolution: what is refused there is refused everywhere
BF16_RESOLUTIONS = 4  # the highest ones, as StyleGAN2-ADA's float16


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run computes."""

    device: torch.device
    devices: int = 1
    """Processes (and GPUs) per node."""
    num_nodes: int = 1
    precision: str = "auto"
    """auto: bf16 in the four highest resolutions on a GPU, float32 elsewhere; or bf16, float32."""

    def __post_init__(self) -> None:
        for name in ("devices", "num_nodes"):
            check_number(name, getattr(self, name), lowest=1, whole=True)
        if self.precision not in ("auto", "bf16", "float32"):
            raise UserError(f"precision '{self.precision}' is not known; it must be auto, bf16 or float32.")
        if self.precision == "bf16" and self.device.type == "cpu":
            raise UserError(
                "precision=bf16 is refused on a CPU, where it is many times slower than float32; use precision=float32."
            )

    @classmethod
    def prepare(cls, device: str, *, threads: int | None = None, **kwargs: Any) -> Place:
        """Check that the device exists, set the CPU threads (None: torch's choice), keep freed memory."""
        keep_freed_memory()
        if threads:
            torch.set_num_threads(threads)
        return cls(device=resolve_device(device), **kwargs)

    @property
    def world_size(self) -> int:
        """Processes in all."""
        return self.devices * self.num_nodes

    @property
    def rank(self) -> int:
        """This process among all, known from the environment before the processes have met."""
        if self.world_size == 1:
            return 0
        for name in ("RANK", "SLURM_PROCID"):
            if name in os.environ:
                return int(os.environ[name])
        return int(os.environ.get("NODE_RANK", 0)) * self.devices + int(os.environ.get("LOCAL_RANK", 0))


@dataclass(frozen=True, kw_only=True)
class Training:
    """All that a run needs besides a folder: what configs/training decides, made ready."""

    game: Game
    data: Any
    """The wplus.data.ImageSet that it sees."""
    view: View
    numbers: Derived
    """What was derived, for the log."""
    transfer: Report | None = None
    """What came from trained networks, where it starts from such."""


def gan_training(
    *,
    preset: Preset | None,
    recipe: Mapping[str, Any],
    micro_batch_size: int | None,
    data: Builder,
    model: Builder | None,
    loss: Builder | None,
    augment: Builder | None = None,
    watch: Callable[..., View] | None = None,
    transfer: Transfer | None = None,
    place: Place,
    seed: int,
    num_samples: int,
    **idle: Any,
) -> Training:
    """A generator against a discriminator; `idle` are the choices that only other trainings use, all None here.

    A model brings its own preset and its own loss; `preset` and `loss` stand over them where they are given. `watch`
    makes the view of the run (`wplus.watching.Watch`); None: grids of samples alone. `transfer` says which trained
    networks the game starts from.
    """
    if model is None:
        raise UserError("A generator's training needs a choice of model, such as model=stylegan2.")
    _refuse_idle(idle)
    parts = model()
    chosen_loss = loss() if loss is not None else parts["loss"]
    source = transfer.read(parts["generator"].func, parts["discriminator"].func) if transfer is not None else None
    presets = [part for part in (parts["preset"], preset, source and source.preset) if part is not None]
    settings = Settings(
        generator=parts["generator"],
        discriminator=parts["discriminator"],
        presets=presets,
        recipe=recipe,
        **chosen_loss,
    )
    settings.check(place, micro_batch_size)
    augmentation = augment() if augment is not None else NoAugment()
    check_augment(augmentation, settings.discriminator_loss)
    hurried = augmentation.start_from_trained() if source is not None else {}
    images = data(split="train")
    looking = {"data": images, "seed": seed, "num_samples": num_samples}
    view = SampleView(**looking) if watch is None else watch(held_out=partial(data, split="held_out"), **looking)
    game, numbers = make_game(
        images,
        settings,
        place=place,
        seed=seed,
        micro_batch_size=micro_batch_size,
        augment=augmentation,
        freeze_discriminator=source.freeze_discriminator if source is not None else 0,
    )
    report = start_from(game, source) if source is not None else None
    return Training(game=game, data=images, view=view, numbers=numbers | hurried, transfer=report)


def _refuse_idle(idle: Mapping[str, Any]) -> None:
    for name, choice in idle.items():
        if choice is not None:
            raise UserError(
                f"{name} has no effect on a generator's training: leave it out, or train an encoder, for example with "
                "training=e4e encoder=small generator=model.safetensors."
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The choices that make a game: networks, loss and numbers.

    generator, discriminator   partial constructors, whose None keywords the presets fill
    generator_loss, ...        see `GanGame`
    numbers                    of the recipe, as the loss was published; the presets stand over them
    presets                    (resolution, batch size or None) -> numbers; a later one stands over those before it
    recipe                     numbers that were given; None: derive
    """

    generator: partial
    discriminator: partial
    generator_loss: GeneratorLoss
    discriminator_loss: DiscriminatorLoss
    penalties: Sequence[str] = ("r1",)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    presets: Sequence[Preset]
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self, resolution: int) -> Derived:
        """Every number with the reason for it: the recipe's defaults, the loss, the presets, what was given."""
        batch = self.recipe.get("batch_size")
        if batch is not None:
            check_number("batch_size", batch, lowest=1, whole=True)
        derived = {**_defaults(), **{name: (value, "the loss's") for name, value in self.numbers.items()}}
        batch = batch or self._presets_batch(resolution)
        for preset in self.presets:
            derived |= preset(resolution, batch)
        keywords = {name: value for part in self._networks for name, value in part.keywords.items()}
        given = {**self.recipe, **{name: value for name, value in keywords.items() if name in derived}}
        return self._without_idle(resolve(derived, given))

    def _presets_batch(self, resolution: int) -> int:
        """Of the last preset that has one."""
        batches = [preset(resolution, None).get("batch_size") for preset in self.presets]
        return next(batch[0] for batch in reversed(batches) if batch is not None)

    def _without_idle(self, numbers: Derived) -> Derived:
        """Weights of penalties that the loss does not bring are 0, and the log says so."""
        used = {PENALTIES[name].weight for name in self.penalties if name in PENALTIES}
        for name in sorted({penalty.weight for penalty in PENALTIES.values()} - used):
            value, why = numbers[name]
            ignored = f"given as {value:g}, but " if why == "given" and value else ""
            numbers[name] = (0.0, f"{ignored}this loss brings no penalty of this weight")
        return numbers

    def recipe_of(self, numbers: Derived) -> Recipe:
        """The part of the numbers that belongs to the game."""
        return Recipe(**{item.name: numbers[item.name][0] for item in fields(Recipe)})

    def check(self, place: Place, micro_batch_size: int | None) -> None:
        """Refuse what cannot be, before data is read: what makes sense together does so at every resolution."""
        for role in ("generator", "discriminator"):
            check_options(role, getattr(self, role))
        for preset in self.presets:
            check_preset(preset, self.generator.func)
        numbers = self.resolve(resolution=64)
        recipe = self.recipe_of(numbers)
        classes = [part.func for part in self._networks]
        penalties = active_penalties(self.penalties, recipe)
        check_fit(*classes, recipe, penalties)
        check_effect(self.recipe, recipe, penalties)
        growth_of(classes[0], LARGEST, recipe)
        check_micro_batches(classes, num_micro(numbers, place.world_size, micro_batch_size))

    @property
    def _networks(self) -> tuple[partial, partial]:
        return self.generator, self.discriminator


def make_game(
    data: Any,
    settings: Settings,
    *,
    place: Place,
    seed: int = 0,
    micro_batch_size: int | None = None,
    augment: NoAugment | None = None,
    freeze_discriminator: int = 0,
) -> tuple[GanGame, Derived]:
    """Build the networks for `data` (a wplus.data.ImageSet) and the game between them.

    `micro_batch_size` is the images per backward pass and process (None: all). Returns the game and its numbers, each
    with the reason for it. UserError for a batch that cannot be divided.
    """
    numbers = settings.resolve(data.resolution)
    parts = num_micro(numbers, place.world_size, micro_batch_size)
    torch.manual_seed(step_seed(seed, "weights"))
    shape = {"resolution": data.resolution, "c_dim": data.c_dim, "img_channels": data.img_channels}
    networks = [_fill(part, numbers)(**shape) for part in (settings.generator, settings.discriminator)]
    set_precision(networks, place)
    game = GanGame(
        *networks,
        generator_loss=settings.generator_loss,
        discriminator_loss=settings.discriminator_loss,
        penalties=settings.penalties,
        seed=seed,
        num_micro=parts,
        recipe=settings.recipe_of(numbers),
        labels=data.labels,
        augment=augment,
        freeze_discriminator=freeze_discriminator,
    )
    game.identity.update(data=data.fingerprint, world_size=place.world_size)
    return game, numbers


def _defaults() -> Derived:
    """The recipe's own defaults, for the numbers that no preset derives."""
    return {item.name: (item.default, "as published") for item in fields(Recipe) if item.default is not MISSING}


def _fill(part: partial, numbers: Derived) -> partial:
    filled = {name: numbers[name][0] for name, value in part.keywords.items() if value is None and name in numbers}
    return partial(part, **filled)


def num_micro(numbers: Derived, world: int, micro: int | None) -> int:
    """Micro-batches per step and process; every one holds whole minibatch-stddev groups, where the numbers have them.

    UserError for a batch that cannot be divided so.
    """
    batch, group = numbers["batch_size"][0], numbers.get("mbstd_group_size", (1, ""))[0]
    if batch % world:
        raise UserError(f"batch_size {batch} cannot be shared by {world} processes; it must be a multiple of {world}.")
    local = batch // world
    if micro is not None:
        check_number("micro_batch_size", micro, lowest=1, whole=True)
    micro = micro or local
    if local % micro:
        raise UserError(f"micro_batch_size {micro} does not divide the {local} images of each process.")
    if micro % min(group, local):
        raise UserError(
            f"mbstd_group_size {group} does not divide the {micro} images that pass the discriminator together; "
            f"choose a divisor of {micro}."
        )
    return local // micro


def set_precision(networks: Sequence[Network], place: Place) -> None:
    """bfloat16 in the highest resolutions, where `place` says so and the networks have blocks for it.

    UserError where it was asked for and none of them has.
    """
    if place.precision == "bf16" and not any(hasattr(part, "compute_dtype") for n in networks for part in n.modules()):
        raise UserError(
            f"precision=bf16 is refused with {name_of(type(networks[0]))}: it computes in float32 only; "
            "use trainer.precision=auto."
        )
    if place.precision == "bf16" or (place.precision == "auto" and place.device.type == "cuda"):
        for network in networks:
            set_bf16_resolutions(network, BF16_RESOLUTIONS)
