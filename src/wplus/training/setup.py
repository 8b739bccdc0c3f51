"""From choices to a game that can start: the preset fills what is open, what cannot be is refused before all work."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import nn

from wplus.devices import keep_freed_memory, resolve_device
from wplus.errors import UserError
from wplus.models.layers import set_bf16_resolutions
from wplus.training.game import Game
from wplus.training.gan import DiscriminatorLoss, GanGame, GeneratorLoss
from wplus.training.randomness import step_seed
from wplus.training.recipe import Derived, Recipe, check_number, resolve
from wplus.training.samples import SampleView, View

Builder = Callable[..., Any]  # builds what was chosen in a group of the configuration, when it is called
DEFAULTS = {"model": "model=stylegan2", "loss": "loss=nonsaturating"}
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


def gan_training(
    *,
    preset: Callable[[int, int | None], Derived],
    recipe: Mapping[str, Any],
    micro_batch_size: int | None,
    data: Builder,
    model: Builder | None,
    loss: Builder | None,
    place: Place,
    seed: int,
    num_samples: int,
    **idle: Any,
) -> Training:
    """A generator against a discriminator; `idle` are the choices that only other trainings use, all None here."""
    lacking = [name for name, choice in (("model", model), ("loss", loss)) if choice is None]
    if lacking:
        raise UserError(f"A generator's training needs a choice of {lacking[0]}, such as {DEFAULTS[lacking[0]]}.")
    for name, choice in idle.items():
        if choice is not None:
            raise UserError(
                f"{name} has no effect on a generator's training: leave it out, or train an encoder, for example with "
                "training=e4e encoder=small generator=model.safetensors."
            )
    images = data(split="train")
    view = SampleView(images, seed=seed, num_samples=num_samples)
    parts = {**model(), **loss(), "preset": preset, "recipe": recipe, "micro_batch_size": micro_batch_size}
    game, numbers = make_game(images, **parts, place=place, seed=seed)
    return Training(game=game, data=images, view=view, numbers=numbers)


def make_game(
    data: Any,
    *,
    generator: partial,
    discriminator: partial,
    generator_loss: GeneratorLoss,
    discriminator_loss: DiscriminatorLoss,
    preset: Callable[[int, int | None], Derived],
    recipe: Mapping[str, Any],
    place: Place,
    seed: int = 0,
    micro_batch_size: int | None = None,
) -> tuple[GanGame, Derived]:
    """Build the networks for `data` (a wplus.data.ImageSet) and the game between them.

    `generator` and `discriminator` are partial constructors whose None keywords the preset fills; `recipe` overrides
    the preset where it is not None. `micro_batch_size` is the images per backward pass and process (None: all).
    Returns the game and its numbers, each with the reason for it. UserError for a batch that cannot be divided.
    """
    open_keys = {name: value for part in (generator, discriminator) for name, value in part.keywords.items()}
    if recipe.get("batch_size") is not None:
        check_number("batch_size", recipe["batch_size"], lowest=1, whole=True)
    derived = preset(data.resolution, recipe.get("batch_size"))
    given = {**recipe, **{name: value for name, value in open_keys.items() if name in derived}}
    numbers = resolve({**_defaults(), **derived}, given)
    values = {name: value for name, (value, _) in numbers.items()}
    num_micro = _num_micro(values["batch_size"], place.world_size, micro_batch_size, values["mbstd_group_size"])
    torch.manual_seed(step_seed(seed, "weights"))
    shape = {"resolution": data.resolution, "c_dim": data.c_dim, "img_channels": data.img_channels}
    networks = [_fill(part, values)(**shape) for part in (generator, discriminator)]
    set_precision(networks, place)
    game = GanGame(
        *networks,
        generator_loss=generator_loss,
        discriminator_loss=discriminator_loss,
        seed=seed,
        num_micro=num_micro,
        recipe=Recipe(**{field.name: values[field.name] for field in fields(Recipe)}),
        labels=data.labels,
    )
    game.identity.update(data=data.fingerprint, world_size=place.world_size)
    return game, numbers


def _defaults() -> Derived:
    """The recipe's own defaults, for the numbers that no preset derives."""
    return {field.name: (field.default, "as published") for field in fields(Recipe) if field.default is not MISSING}


def _fill(part: partial, values: Mapping[str, Any]) -> partial:
    filled = {name: values[name] for name, value in part.keywords.items() if value is None and name in values}
    return partial(part, **filled)


def _num_micro(batch: int, world: int, micro: int | None, group: int) -> int:
    """Micro-batches per step and process; every one holds whole minibatch-stddev groups."""
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


def set_precision(networks: list[nn.Module], place: Place) -> None:
    """bfloat16 in the highest resolutions of StyleGAN2's networks, where `place` says so."""
    if place.precision == "bf16" or (place.precision == "auto" and place.device.type == "cuda"):
        for network in networks:
            set_bf16_resolutions(network, BF16_RESOLUTIONS)
