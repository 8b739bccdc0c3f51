"""Directions in latent space, edits along them, and their file, which belongs to one generator.

A direction defines a coordinate: the position of a latent along it, relative to an origin, in units. Strengths are
numbers of units, so that 3 is large and 0.1 small for any direction, whichever method found it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from wplus.core.safetensors_file import SafetensorsFormat
from wplus.errors import UserError, check_choice
from wplus.latents.latent import Latent, lifted, ws_of
from wplus.latents.space import space_of
from wplus.models.generator import GeneratorNetwork

FILE = SafetensorsFormat(
    noun="directions",
    entry="wplus_directions",
    version=1,
    foreign="The directions '{path}' are those of generator {maker}, not of {fingerprint}",
    source="`wplus directions` makes one",
)
THIRDS = ("coarse", "middle", "fine")
Mode = Literal["add", "set"]
MODES: tuple[Mode, ...] = ("add", "set")


def select_layers(layers: str | Sequence[int], num_ws: int) -> tuple[int, ...]:
    """The selected layers out of 0 to num_ws - 1, ascending.

    `layers` is "all", a list of indices, or "coarse", "middle" or "fine": thirds, for pose and shape, features, and
    colours, with any remainder assigned to the coarser ones.
    """
    if layers == "all":
        return tuple(range(num_ws))
    if isinstance(layers, str):
        if layers not in THIRDS:
            raise UserError(f"layers must be all, {', '.join(THIRDS)} or a list of numbers, got {layers!r}.")
        bounds = [-(-num_ws * part // 3) for part in range(4)]  # rounded up: any remainder goes to the coarser thirds
        third = THIRDS.index(layers)
        return tuple(range(bounds[third], bounds[third + 1]))
    if not layers or not all(0 <= layer < num_ws for layer in layers):
        raise UserError(f"layers must be some of 0 to {num_ws - 1}, those of this generator, got {list(layers)}.")
    return tuple(sorted(set(layers)))


@dataclass(frozen=True)
class Direction:
    """One direction of a generator's w or w+."""

    name: str  # unique in its file: sefa0, pca3, body=3
    vector: Tensor  # (w_dim,), the same in every layer, or (num_ws, w_dim), of unit length
    layers: tuple[int, ...]  # layers of ws it applies to
    num_ws: int  # number of layers of the generator
    unit: float  # length of one unit of strength: standard deviation along it of w, or of the latents it was found from
    origin: float  # projection at coordinate 0: the mean of the latents, or an attribute's boundary
    notes: dict[str, Any] = field(default_factory=dict)  # results: explained variance, accuracy, ...

    def __post_init__(self) -> None:
        if not self.unit > 0:
            raise UserError(f"Latents do not differ along '{self.name}', so it has no unit: ask for fewer directions.")

    @property
    def pattern(self) -> Tensor:
        """The shift of ws per unit length, (num_ws, w_dim): zero in layers the direction does not apply to."""
        mask = torch.zeros(self.num_ws, 1, dtype=self.vector.dtype, device=self.vector.device)
        mask[list(self.layers)] = 1
        return mask * self.vector

    def shift(self, strength: float) -> Tensor:
        """The shift of ws for an edit of this strength, (num_ws, w_dim)."""
        return strength * self.unit * self.pattern

    def coordinates(self, ws: Tensor) -> Tensor:
        """Coordinates (N,) of ws (N, num_ws, w_dim) along the direction, in units from the origin.

        If one vector applies to several layers, the mean over these layers.
        """
        pattern = self.pattern.to(ws)
        projection = (ws * pattern).sum(dim=(1, 2)) / pattern.square().sum()
        return (projection - self.origin) / self.unit

    def on(self, layers: str | Sequence[int]) -> Direction:
        """The same direction on other layers, see `select_layers`."""
        if self.vector.ndim == 2:
            raise UserError(f"'{self.name}' has a vector for each layer: its layers are fixed, leave `layers` at null.")
        return replace(self, layers=select_layers(layers, self.num_ws))

    @property
    def where(self) -> str:
        """What of a latent it changes, in words."""
        first, last = self.layers[0], self.layers[-1]
        whole = len(self.layers) == last - first + 1
        return f"layers {f'{first} to {last}' if whole else ', '.join(map(str, self.layers))}"

    def __str__(self) -> str:
        return _with_notes(self.name, self.notes)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


def _with_notes(name: str, notes: Mapping[str, Any]) -> str:
    numbers = {key: value for key, value in notes.items() if isinstance(value, (int, float))}
    listed = [f"{key.replace('_', ' ')} {value:.3f}".removesuffix(".000") for key, value in numbers.items()]
    return f"{name}: {', '.join(listed)}"


@dataclass(frozen=True)
class StyleDirection:
    """One channel of a generator's styles, S (Wu et al. 2021, arXiv:2011.12799); an edit changes only this channel."""

    name: str  # unique in its file: accessory=3.b16.conv1.45
    channel: int  # index into s
    layer: str  # layer and channel within it: b16.conv1.45
    unit: float  # one unit of strength: the channel's standard deviation over samples of the prior
    origin: float  # the channel's mean, which is coordinate 0
    notes: dict[str, Any] = field(default_factory=dict)  # results

    @property
    def where(self) -> str:
        """What of a latent it changes, in words."""
        return f"channel {self.layer}"

    def on(self, layers: str | Sequence[int]) -> StyleDirection:
        """UserError: a channel belongs to a single layer."""
        raise UserError(f"'{self.name}' is a channel of one layer: leave `layers` at null, got {layers!r}.")

    def shift(self, strength: float) -> Tensor:
        """UserError: its edits are not shifts of ws."""
        raise UserError(f"direction must be one of w here, got '{self.name}', a channel of s.")

    def edited(self, latent: Latent, generator: GeneratorNetwork, strength: float, mode: Mode) -> Latent:
        """The latent in s, its channel shifted by `strength` units, or in mode "set" placed there from the mean."""
        code = lifted(latent, "s", generator).clone()
        code[self.channel] = strength * self.unit + (self.origin if mode == "set" else code[self.channel])
        notes = _notes(self.name, strength, mode)
        return Latent(code.cpu(), "s", latent.generator, noise=latent.noise, metadata=notes)

    def __str__(self) -> str:
        return _with_notes(self.name, self.notes)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


AnyDirection = Direction | StyleDirection


@dataclass(frozen=True)
class Directions:
    """Result of a finder: directions with distinct names, all of w, all of w+ or all of s, most important first."""

    items: tuple[AnyDirection, ...]
    generator: str  # fingerprint of their generator (`wplus.checkpoint.fingerprint`)
    found: dict[str, Any] = field(default_factory=dict)  # the finder's name, settings, seed and data

    @property
    def names(self) -> list[str]:
        """Names of the directions, in order."""
        return [item.name for item in self.items]

    @property
    def vectors(self) -> Tensor:
        """(K, w_dim) or (K, num_ws, w_dim) for directions of w; (0,) for those of s."""
        found = [item.vector for item in self.items if isinstance(item, Direction)]
        return torch.stack(found) if found else torch.empty(0)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[AnyDirection]:
        return iter(self.items)

    def __getitem__(self, choice: str | int) -> AnyDirection:
        """Look up by name, or by index from 0; UserError if there is no such direction."""
        if isinstance(choice, int) and 0 <= choice < len(self.items):
            return self.items[choice]
        if choice in self.names:
            return self.items[self.names.index(str(choice))]
        allowed = f"one of {', '.join(self.names)}, or a number from 0 to {len(self.items) - 1}"
        raise UserError(f"direction must be {allowed}, got {choice!r}.")

    def choose(self, choice: str | int | Sequence[str | int]) -> list[AnyDirection]:
        """Selected directions: "all", one by name or index, or a list of names and indices."""
        if choice == "all":
            return list(self.items)
        return [self[one] for one in ([choice] if isinstance(choice, (str, int)) else choice)]


def edit_ws(ws: Tensor, direction: Direction, strength: float, *, mode: Mode = "add") -> Tensor:
    """Edited ws, (N, num_ws, w_dim) -> the same shape.

    mode "add": w + strength * unit * n, which moves every latent by the same distance (InterFaceGAN). mode "set": w +
    (strength - coordinate) * unit * n, which moves every latent to the same coordinate along n and leaves orthogonal
    components unchanged (GANSpace).
    """
    check_choice("mode", mode, MODES)
    step = direction.unit * direction.pattern.to(ws)
    if mode == "add":
        return ws + strength * step
    return ws + (strength - direction.coordinates(ws)).view(-1, 1, 1) * step


@torch.no_grad()
def edit_latent(
    latent: Latent, generator: GeneratorNetwork, direction: AnyDirection, strength: float, *, mode: Mode = "add"
) -> Latent:
    """An edited latent: in w if its layers are all equal, otherwise in w+, or in f/w+; its noise is kept.

    z and z+ are mapped to w first, and truncation is applied, so the result has no truncation left. A direction of s
    converts any latent to s.
    """
    check_choice("mode", mode, MODES)
    if isinstance(direction, StyleDirection):
        return direction.edited(latent, generator, strength, mode)
    if not space_of(latent.space, generator).has_ws:
        return _edited_map(latent, generator, direction, strength, mode)
    ws, notes = ws_of(latent, generator)[None], _notes(direction.name, strength, mode)
    ws = edit_ws(ws, direction, strength, mode=mode)[0].cpu()
    edited = replace(latent, code=ws, space="w+", truncation_psi=1.0, truncation_cutoff=None, metadata=notes)
    return replace(edited, code=ws[0], space="w") if (ws == ws[:1]).all() else edited


def check_edits(
    latents: Sequence[Latent], generator: GeneratorNetwork, directions: Sequence[AnyDirection], *, mode: Mode
) -> None:
    """UserError if a direction cannot edit latents of a space; tested on one latent of each space."""
    for latent in {latent.space: latent for latent in latents}.values():
        for direction in directions:
            edit_latent(latent, generator, direction, 0.0, mode=mode)


def _edited_map(
    latent: Latent, generator: GeneratorNetwork, direction: Direction, strength: float, mode: Mode
) -> Latent:
    """Edit a latent of a space without ws by the direction's shift of w+."""
    if mode == "set":
        raise UserError(f"mode must be add in {latent.space}, whose coordinate along a direction is unknown, got set.")
    shift, device = direction.shift(strength), generator.mapping.w_avg.device
    code = space_of(latent.space, generator).edited(latent.code[None].to(device), shift.to(device), generator)[0].cpu()
    return replace(latent, code=code, metadata=_notes(direction.name, strength, mode))


def _notes(direction: str, strength: float, mode: Mode) -> dict[str, str]:
    return {"direction": direction, "strength": f"{strength:g}", "mode": mode}


def save_directions(path: str | Path, directions: Directions) -> Path:
    """Write directions to a safetensors file, atomically."""
    items = directions.items
    header: dict[str, Any] = {"generator": directions.generator, "found": directions.found}
    keys: tuple[str, ...] = ("name", "channel", "layer", "unit", "origin", "notes")
    if isinstance(items[0], Direction):
        keys, header["num_ws"] = ("name", "layers", "unit", "origin", "notes"), items[0].num_ws
    described = [{key: getattr(item, key) for key in keys} for item in items]
    return FILE.write(path, {**header, "directions": described}, {"vectors": directions.vectors})


def load_directions(path: str | Path, *, fingerprint: str | None) -> Directions:
    """Read directions for the generator with this fingerprint, None for any; UserError for any other file."""

    def assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> Directions:
        entries = header["directions"]
        items: list[AnyDirection] = [StyleDirection(**entry) for entry in entries if "channel" in entry] or [
            Direction(vector=vector, num_ws=header["num_ws"], **{**entry, "layers": tuple(entry["layers"])})
            for vector, entry in zip(tensors["vectors"], entries, strict=True)
        ]
        return Directions(tuple(items), header["generator"], header["found"])

    return FILE.read(path, assemble, fingerprint=fingerprint)
