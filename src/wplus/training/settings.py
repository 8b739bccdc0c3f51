"""The choices that make a game between two networks, the numbers they end in, and what of them cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from typing import Any

from wplus.core.runtime import Runtime
from wplus.errors import UserError, check_number
from wplus.training.gan import DiscriminatorLoss, GeneratorLoss
from wplus.training.hparams import AS_PUBLISHED, Hparams, Resolved, resolve
from wplus.training.penalties import PENALTIES, active_penalties
from wplus.training.progressive import growth_of
from wplus.training.validate import check_effect, check_fit, check_micro_batches, check_options, check_preset

Preset = Callable[[int, int | None], Resolved]  # (resolution, batch size or None) -> numbers
LARGEST = 1024  # resolution: what is refused there is refused everywhere


@dataclass(frozen=True, kw_only=True)
class GanSpec:
    """The choices that make a game: networks, loss and numbers.

    generator, discriminator   partial constructors, whose None keywords the presets fill
    generator_loss, ...        see `GanModule`
    numbers                    of the hparams, as the loss was published; the presets stand over them
    presets                    (resolution, batch size or None) -> numbers; a later one stands over those before it
    hparams                     numbers that were given; None: derive
    """

    generator: partial
    discriminator: partial
    generator_loss: GeneratorLoss
    discriminator_loss: DiscriminatorLoss
    penalties: Sequence[str] = ("r1",)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    presets: Sequence[Preset]
    hparams: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self, resolution: int) -> Resolved:
        """Every number with the reason for it: the hparams's defaults, the loss, the presets, what was given."""
        batch = self.hparams.get("batch_size")
        if batch is not None:
            check_number("batch_size", batch, lowest=1, whole=True)
        derived = {**_defaults(), **{name: (value, "the loss's") for name, value in self.numbers.items()}}
        batch = batch or self._presets_batch(resolution)
        for preset in self.presets:
            derived |= preset(resolution, batch)
        keywords = {name: value for part in self._networks for name, value in part.keywords.items()}
        given = {**self.hparams, **{name: value for name, value in keywords.items() if name in derived}}
        return self._without_idle(resolve(derived, given))

    def _presets_batch(self, resolution: int) -> int:
        """Of the last preset that has one."""
        batches = [preset(resolution, None).get("batch_size") for preset in self.presets]
        return next(batch[0] for batch in reversed(batches) if batch is not None)

    def _without_idle(self, numbers: Resolved) -> Resolved:
        """Weights of penalties that the loss does not bring are 0, and the log says so."""
        used = {PENALTIES[name].weight for name in self.penalties if name in PENALTIES}
        for name in sorted({penalty.weight for penalty in PENALTIES.values()} - used):
            value, why = numbers[name]
            ignored = f"given as {value:g}, but " if why == "given" and value else ""
            numbers[name] = (0.0, f"{ignored}this loss brings no penalty of this weight")
        return numbers

    def hparams_of(self, numbers: Resolved) -> Hparams:
        """The part of the numbers that belongs to the game."""
        return Hparams(**{item.name: numbers[item.name][0] for item in fields(Hparams)})

    def check(self, runtime: Runtime, micro_batch_size: int | None) -> None:
        """Refuse what cannot be, before data is read: what makes sense together does so at every resolution."""
        for role in ("generator", "discriminator"):
            check_options(role, getattr(self, role))
        for preset in self.presets:
            check_preset(preset, self.generator.func)
        numbers = self.resolve(resolution=64)
        hparams = self.hparams_of(numbers)
        classes = [part.func for part in self._networks]
        penalties = active_penalties(self.penalties, hparams)
        check_fit(*classes, hparams, penalties)
        check_effect(self.hparams, hparams, penalties)
        growth_of(classes[0], LARGEST, hparams)
        check_micro_batches(classes, num_micro(numbers, runtime.world_size, micro_batch_size))

    @property
    def _networks(self) -> tuple[partial, partial]:
        return self.generator, self.discriminator


def _defaults() -> Resolved:
    """The hparams's own defaults, for the numbers that no preset derives."""
    return {item.name: (item.default, AS_PUBLISHED) for item in fields(Hparams) if item.default is not MISSING}


def num_micro(numbers: Resolved, world: int, micro: int | None) -> int:
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
