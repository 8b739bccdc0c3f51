"""A generator whose picture is a function of w that a test chooses, and a distance that is a squared length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from wplus.interpolation.curve import PathContext
from wplus.interpolation.keyframes import Keyframes


class Pixels(nn.Module):
    """Distance = squared Euclidean distance of the pictures."""

    name = "pixels"
    provenance = MappingProxyType({"weights": "none"})

    def features(self, images: Tensor) -> list[Tensor]:
        return [images.flatten(1)]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        return (a[0] - b[0]).square().sum(dim=1)


class Drawn:
    """Draws `picture` (N, w_dim) -> (N, D) of w, that of the first layer, as pictures (N, 1, 1, D)."""

    num_ws = 2

    def __init__(self, picture: Callable[[Tensor], Tensor], w_dim: int) -> None:
        self.picture, self.w_dim = picture, w_dim

    def synthesis(self, ws: Tensor, noise_mode: str, noise: list[Tensor] | None) -> Tensor:
        return self.picture(ws[:, 0])[:, None, None]


def quiet(items: Iterable[Any], description: str) -> Iterator[Any]:
    return iter(items)


def scene_of(picture: Callable[[Tensor], Tensor], w_dim: int, **options: Any) -> PathContext:
    return PathContext(Drawn(picture, w_dim), Pixels(), progress=quiet, **options)


def points_of(*codes: list[float], closed: bool = False) -> Keyframes:
    keys = torch.tensor(codes, dtype=torch.float32)
    return Keyframes(keys, "w", tuple("abcdefgh"[: len(keys)]), closed=closed)
