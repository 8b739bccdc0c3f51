"""A tiny StyleGAN2, a generator whose pictures can be inverted exactly, and distances that are known."""

from __future__ import annotations

from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn

from wplus.checkpoint import Models
from wplus.editing.directions import Direction
from wplus.models.stylegan2 import Generator


class ExactGenerator:
    """w = 2 z + 1 and pictures that are the codes themselves, pixel for pixel: 3 layers of 4 numbers, 12 pixels."""

    z_dim = w_dim = 4
    c_dim, num_ws = 0, 3

    def __init__(self) -> None:
        self.mapping, self.synthesis = self._Mapping(), self._synthesis

    class _Mapping:
        w_avg = torch.ones(4)

        def __call__(self, z: Tensor, c: Tensor | None = None, **truncation: float) -> Tensor:
            return (2 * z + 1)[:, None].repeat(1, 3, 1)

    @staticmethod
    def _synthesis(ws: Tensor, noise_mode: str = "const") -> Tensor:
        assert noise_mode == "const"
        return ws[:, None]

    @staticmethod
    def inverse(images: Tensor) -> Tensor:
        return images[:, 0]


class MeanDifference(nn.Module):
    """|difference of the means|: for a shift of all numbers its size, for ever larger ones ever larger."""

    name = "mean_difference"
    provenance = MappingProxyType({"weights": "none"})

    def features(self, images: Tensor) -> list[Tensor]:
        return [images.flatten(1).mean(dim=1)]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        return (a[0] - b[0]).abs()


@pytest.fixture
def exact() -> Models:
    models = Models(generator=ExactGenerator())
    models.__dict__["fingerprint"] = "e" * 16
    return models


@pytest.fixture
def distance() -> MeanDifference:
    return MeanDifference()


@pytest.fixture
def models() -> Models:
    net = Generator(resolution=16, z_dim=8, w_dim=8, channel_base=128, channel_max=8, num_mapping_layers=2)
    net.mapping.w_avg.normal_()
    return Models(generator=net.eval().requires_grad_(False))


def a_direction(**changes: object) -> Direction:
    """Along the second of four numbers, on layers 0 and 2 of 3; a unit is 2, the origin 0.5."""
    fields = {"name": "d", "vector": torch.tensor([0.0, 1, 0, 0]), "layers": (0, 2), "num_ws": 3, "unit": 2.0}
    return Direction(**{**fields, "origin": 0.5, **changes})


@pytest.fixture(name="a_direction")
def _a_direction() -> object:
    return a_direction
