"""A tiny StyleGAN2, an exactly invertible generator and a direction of it."""

from collections.abc import Callable

import pytest
import torch

from tests.fakes import ExactGenerator
from wplus.checkpoint import Models
from wplus.editing.directions import Direction
from wplus.models.stylegan2 import Generator


@pytest.fixture
def exact() -> Models:
    models = Models(generator=ExactGenerator())
    models.__dict__["fingerprint"] = "e" * 16
    return models


@pytest.fixture
def models() -> Models:
    net = Generator(resolution=16, z_dim=8, w_dim=8, channel_base=128, channel_max=8, num_mapping_layers=2)
    net.mapping.w_avg.normal_()
    return Models(generator=net.eval().requires_grad_(False))


@pytest.fixture
def a_direction() -> Callable[..., Direction]:
    """a_direction(**changes): along the second of four numbers, on layers 0 and 2 of 3; a unit is 2, the origin 0.5."""

    def make(**changes: object) -> Direction:
        fields = {"name": "d", "vector": torch.tensor([0.0, 1, 0, 0]), "layers": (0, 2), "num_ws": 3, "unit": 2.0}
        return Direction(**{**fields, "origin": 0.5, **changes})

    return make
