"""A tiny generator, a perceptual distance that is known exactly, and moving pictures."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from torch import Tensor, nn

from wplus.models.stylegan2 import Generator


class MeanColour(nn.Module):
    """Distance = |difference of the mean values|; on flat pictures a metric with closed forms."""

    name = "mean_colour"
    provenance = MappingProxyType({"weights": "none"})

    def features(self, images: Tensor) -> list[Tensor]:
        return [images.mean(dim=(1, 2, 3))]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        return (a[0] - b[0]).abs()


@pytest.fixture
def perceptual() -> MeanColour:
    return MeanColour()


@pytest.fixture
def generator() -> Generator:
    net = Generator(resolution=16, z_dim=8, w_dim=8, channel_base=128, channel_max=8, num_mapping_layers=2)
    for layer in net.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.3)
    net.mapping.w_avg.normal_()
    return net.eval().requires_grad_(False)


def flat_pictures(values: Tensor, size: int = 16) -> Tensor:
    return values.float().view(-1, 1, 1, 1).expand(-1, 3, size, size)


@pytest.fixture(name="flat_pictures")
def _flat_pictures() -> object:
    return flat_pictures
