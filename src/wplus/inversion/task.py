"""The task passed to every inverter.

An inverter is a function `invert(task: InversionTask, *, <its own options>) -> Inversion` with a YAML in
configs/inverter that names it. Inputs shared by all inverters are fields of the task; a field added here reaches them
all.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wplus.core.batching import chunk_rows, resolve_chunk_size
from wplus.errors import UserError
from wplus.inversion.result import Inversion
from wplus.latents.latent import decode, to_ws
from wplus.latents.space import LatentSpace, Space, space_of
from wplus.losses.image_pair import ImageDistance
from wplus.models.encoders.base import Encoder
from wplus.models.generator import GeneratorNetwork, Styles

Inverter = Callable[..., Inversion]


class Progress(NamedTuple):
    """Argument of a callback. Tensors are on the device; reading their values synchronises with it."""

    step: int  # from 1; steps that turn out to be unnecessary are skipped
    num_steps: int
    loss: Tensor  # (N,)
    images: Tensor  # (N, C, R, R)


Callback = Callable[[Progress], object]


@dataclass(frozen=True)
class InversionTask:
    """Images to invert into one latent space, and everything an inverter may use to do so.

    UserError if images, masks or labels do not fit the generator.
    """

    generator: GeneratorNetwork  # never modified
    images: Tensor  # targets (N, C, R, R) in [-1, 1] at the generator's resolution
    space: Space
    perceptual: ImageDistance | None = None  # the loss term `perceptual`; None if its weight is 0
    losses: Mapping[str, ImageDistance] = field(default_factory=dict)  # further image terms of the loss by name
    seed: int = 0  # with an image's name, determines all its randomness: results do not depend on the batch
    names: Sequence[str] = ()  # N names; the images' indices by default
    labels: Tensor | None = None  # (N, c_dim) one-hot, for a conditional generator
    masks: Tensor | None = None  # (N, 1, R, R) in [0, 1], the weight of each pixel; None: all equal
    encoder: Encoder | None = None  # one trained for this generator
    start: Tensor | None = None  # latents (N, ...) of the space to start from, overriding `init`
    # Images computed at once, always exactly this many, so that results do not depend on the batch bit for bit; None:
    # chosen by device and resolution. It determines memory, N does not.
    chunk_size: int | None = None
    callback: Callback | None = None  # called with a `Progress` after every step

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", str(space_of(self.space, self.generator)))  # f/w+ with its block
        names = list(self.names) or [str(index) for index in range(len(self.images))]
        for name, value in (("names", names), ("labels", self.labels), ("masks", self.masks)):
            object.__setattr__(self, name, value.to(self.device) if isinstance(value, Tensor) else value)
        generator, size = self.generator, self.generator.resolution
        image, mask = (generator.img_channels, size, size), (len(self.images), 1, size, size)
        if tuple(self.images.shape[1:]) != image:
            wanted = f"(N, {', '.join(map(str, image))})"
            raise UserError(f"images must have the generator's shape {wanted}, got {tuple(self.images.shape)}.")
        if self.masks is not None and tuple(self.masks.shape) != mask:
            raise UserError(f"masks must have the shape {mask}, got {tuple(self.masks.shape)}.")
        if self.labels is None and generator.c_dim and self.latent_space.is_before_mapping:
            raise UserError(f"labels of {generator.c_dim} classes must be given in {self.space}, got none.")

    @functools.cached_property
    def latent_space(self) -> LatentSpace:
        """The space named `space`."""
        return space_of(self.space, self.generator)

    @property
    def device(self) -> torch.device:
        """The device of the images and of all computations."""
        return self.images.device

    def settings(self) -> dict[str, Any]:
        """The settings that determine the results of all images, as plain values."""
        return {
            "space": self.space,
            "seed": self.seed,
            "perceptual": None if self.perceptual is None else dict(self.perceptual.provenance),
            "losses": {name: dict(loss.provenance) for name, loss in self.losses.items()},
            "masked": self.masks is not None,
            "chunk_size": self.chunk_size,
        }

    def select(self, rows: Tensor) -> InversionTask:
        """The task restricted to the images with these indices."""
        names = [self.names[row] for row in rows.tolist()]
        labels, masks, start = (None if x is None else x[rows] for x in (self.labels, self.masks, self.start))
        return replace(self, images=self.images[rows], names=names, labels=labels, masks=masks, start=start)

    def chunks(self) -> list[tuple[Tensor, InversionTask]]:
        """Row indices and task for each chunk of `chunk_size` images; copies of the last image fill the last chunk. If
        the size is chosen by device, chunks on a GPU never exceed the number of images: its kernels do not guarantee
        bitwise reproducibility anyway."""
        size = resolve_chunk_size(self.chunk_size, self.generator.resolution, self.device)
        if self.chunk_size is None and self.device.type != "cpu":
            size = max(1, min(size, len(self.images)))
        return [(rows, self.select(rows)) for rows in chunk_rows(len(self.images), size, self.device)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Concatenate per-chunk results to (N, ...), dropping the padding."""
        return torch.cat(list(parts))[: len(self.images)]

    def to_ws(self, latents: Tensor) -> Tensor:
        """Latents (N, ...) of the space -> ws (N, num_ws, w_dim), differentiable; UserError if there is no such map."""
        return to_ws(latents, self.space, self.generator, labels=self.labels)

    def decode(self, latents: Tensor) -> Tensor | Styles:
        """Latents (N, ...) of the space -> the input of synthesis, differentiable."""
        return decode(latents, self.space, self.generator, labels=self.labels)

    def to_latents(self, variables: Tensor) -> Tensor:
        """Search variables (N, ...) -> latents: the same, unless the space has a scale."""
        scale = self.latent_space.scale(self.generator)
        return variables if scale is None else variables * scale

    def to_variables(self, latents: Tensor) -> Tensor:
        """Latents (N, ...) -> search variables: latents divided by the space's scale."""
        scale = self.latent_space.scale(self.generator)
        return latents if scale is None else latents / scale


def needs_encoder(invert: Inverter) -> Inverter:
    """Mark an inverter that requires an encoder."""
    invert.needs_encoder = True  # type: ignore[attr-defined]
    return invert


def for_spaces(check: Callable[[LatentSpace, Mapping[str, Any]], object]) -> Callable[[Inverter], Inverter]:
    """Mark an inverter that does not support every space: `check(space, options)` raises a UserError for unsupported
    ones."""

    def mark(invert: Inverter) -> Inverter:
        invert.check_space = check  # type: ignore[attr-defined]
        return invert

    return mark


def check_inverter(invert: Callable[..., Any], space: LatentSpace) -> None:
    """UserError if an inverter does not support a space; costs nothing."""
    function, options = unwrapped(invert)
    if hasattr(function, "check_space"):
        function.check_space(space, options)


def uses_encoder(invert: Inverter) -> bool:
    """Whether an inverter, or one among its options, starts from an encoder or requires one."""
    function, options = unwrapped(invert)
    inner = [each for each in options.values() if callable(each)]
    marked = getattr(function, "needs_encoder", False) or options.get("init") == "encoder"
    return marked or any(map(uses_encoder, inner))


def describe(invert: Callable[..., Any]) -> dict[str, Any]:
    """The function behind an inverter, path or metric and the values of its options, defaults included; UserError for
    an unknown option. Options that are functions are described recursively."""
    function, options = unwrapped(invert)
    name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    parameters = inspect.signature(function).parameters
    allowed = {each.name: each.default for each in parameters.values() if each.default is not inspect.Parameter.empty}
    unknown = sorted(set(options) - set(parameters))
    if unknown:
        raise UserError(f"Options of {name} must be of {', '.join(allowed)}, got '{unknown[0]}'.")
    values = {**allowed, **options}
    return {"function": name, **{key: describe(each) if callable(each) else each for key, each in values.items()}}


def unwrapped(invert: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function behind nested partials, and the keywords they bind."""
    options: dict[str, Any] = {}
    while isinstance(invert, functools.partial):
        options = {**invert.keywords, **options}
        invert = invert.func
    return invert, options
