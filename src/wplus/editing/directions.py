"""Directions in latent space and their file: what they mean stands in its header, and they belong to one generator.

A direction has coordinates: where a code lies along it, from an origin, in units. A strength is a number of units, so
that 3 means a lot and 0.1 a little for every direction, whoever found it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.core.safetensors_file import SafetensorsFormat
from wplus.editing.layers import chosen_layers
from wplus.errors import UserError

FILE = SafetensorsFormat(
    noun="directions",
    entry="wplus_directions",
    version=1,
    foreign="The directions '{path}' are those of generator {maker}, not of {fingerprint}",
    source="experiments/directions.py makes one",
)


@dataclass(frozen=True)
class Direction:
    """One direction of a generator's w or w+.

    Attributes
        name    unique in its file: sefa0, pca3, body=3
        vector  (w_dim,), the same in every layer, or (num_ws, w_dim), each of unit length
        layers  of ws that it applies to
        num_ws  layers that the generator has
        unit    length of one unit of strength: the standard deviation of the codes along the direction, those of the
                prior for a vector of w
        origin  projection from which coordinates count: the mean of the codes, or where an attribute's boundary lies
        notes   how it came out, as plain values: explained variance, accuracy, ...
    """

    name: str
    vector: Tensor
    layers: tuple[int, ...]
    num_ws: int
    unit: float
    origin: float
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.unit > 0:
            raise UserError(f"Codes do not differ along '{self.name}', so it has no unit: ask for fewer directions.")

    @property
    def pattern(self) -> Tensor:
        """What is added to ws per unit length, (num_ws, w_dim): zero in the layers that the direction leaves alone."""
        chosen = torch.zeros(self.num_ws, 1, dtype=self.vector.dtype, device=self.vector.device)
        chosen[list(self.layers)] = 1
        return chosen * self.vector

    def shift(self, strength: float) -> Tensor:
        """What an edit of this strength adds to ws, (num_ws, w_dim)."""
        return strength * self.unit * self.pattern

    def coordinates(self, ws: Tensor) -> Tensor:
        """Where codes (N, num_ws, w_dim) lie along the direction, in units from the origin: (N,).

        With one vector for several layers it is the mean over these layers.
        """
        pattern = self.pattern.to(ws)
        projection = (ws * pattern).sum(dim=(1, 2)) / pattern.square().sum()
        return (projection - self.origin) / self.unit

    def __str__(self) -> str:
        numbers = {key: value for key, value in self.notes.items() if isinstance(value, (int, float))}
        listed = [f"{key.replace('_', ' ')} {value:.3f}".removesuffix(".000") for key, value in numbers.items()]
        return f"{self.name}: {', '.join(listed)}"

    def on(self, layers: str | Sequence[int]) -> Direction:
        """The same direction on other layers, as `layers.chosen_layers` names them."""
        if self.vector.ndim == 2:
            raise UserError(f"'{self.name}' has a vector for each layer: its layers are fixed, leave `layers` at null.")
        return replace(self, layers=chosen_layers(layers, self.num_ws))


@dataclass(frozen=True)
class Directions:
    """What a finder returns: directions with different names, all of w or all of w+.

    Attributes
        items      the directions, the most important one first
        generator  fingerprint of their generator (`wplus.checkpoint.fingerprint`)
        found      how, as plain values: the finder's name, its settings, seed and codes
    """

    items: tuple[Direction, ...]
    generator: str
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """In order."""
        return [item.name for item in self.items]

    @property
    def vectors(self) -> Tensor:
        """(K, w_dim) or (K, num_ws, w_dim)."""
        return torch.stack([item.vector for item in self.items])

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Direction]:
        return iter(self.items)

    def __getitem__(self, choice: str | int) -> Direction:
        """By name, or by number from 0; UserError where there is no such direction."""
        if isinstance(choice, int) and 0 <= choice < len(self.items):
            return self.items[choice]
        if choice in self.names:
            return self.items[self.names.index(str(choice))]
        raise UserError(
            f"There is no direction '{choice}'; there are {', '.join(self.names)}, or numbers from 0 "
            f"to {len(self.items) - 1}."
        )

    def choose(self, choice: str | int | Sequence[str | int]) -> list[Direction]:
        """Those that are asked for: "all", one by name or number, or a list of names and numbers."""
        if choice == "all":
            return list(self.items)
        return [self[one] for one in ([choice] if isinstance(choice, (str, int)) else choice)]


# File


def save_directions(path: str | Path, directions: Directions) -> Path:
    """Write directions to a safetensors file, whole or not at all."""
    described = [
        {"name": item.name, "layers": item.layers, "unit": item.unit, "origin": item.origin, "notes": item.notes}
        for item in directions
    ]
    header = {
        "generator": directions.generator,
        "num_ws": directions.items[0].num_ws,
        "found": directions.found,
        "directions": described,
    }
    return FILE.write(path, header, {"vectors": directions.vectors})


def load_directions(path: str | Path, *, fingerprint: str | None) -> Directions:
    """Read directions for the generator with this fingerprint; None reads them for any.

    UserError for a missing, truncated or foreign file, and for one that was made with another generator.
    """
    return FILE.read(path, _assemble, fingerprint=fingerprint)


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> Directions:
    items = [
        Direction(vector=vector, num_ws=header["num_ws"], **{**entry, "layers": tuple(entry["layers"])})
        for vector, entry in zip(tensors["vectors"], header["directions"], strict=True)
    ]
    return Directions(tuple(items), header["generator"], header["found"])
