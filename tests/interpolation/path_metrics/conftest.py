"""Ways through a feature space that is the images themselves, so that lengths, angles and speeds are known."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn

from wplus.interpolation.walk import MetricTools, Trajectory, even_positions


class Squared(nn.Module):
    """|x - y|^2 of the pixels: of the LPIPS family, with features that can be chosen. In float64."""

    name = "squared"
    provenance = MappingProxyType({"weights": "none"})

    def features(self, images: Tensor) -> list[Tensor]:
        return [images.double().flatten(1)]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        return (a[0] - b[0]).square().sum(dim=1)


class Cosine(Squared):
    """1 - cosine of the pixels."""

    name = "cosine"

    def features(self, images: Tensor) -> list[Tensor]:
        return [nn.functional.normalize(images.double().flatten(1), dim=1)]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        return super().distance(a, b) / 2


@pytest.fixture
def judges() -> MetricTools:
    return MetricTools(perceptual=Squared(), identity=Cosine(), batch_size=8)


def plane(points: Tensor) -> Tensor:
    """Points (N, 2) as images (N, 1, 4, 4), lengths kept."""
    images = torch.zeros(len(points), 1, 4, 4, dtype=torch.float64)
    images[:, 0, 1, 1], images[:, 0, 2, 2] = points[:, 0], points[:, 1]
    return images


def make_walk(at: Callable[[Tensor], Tensor], num_frames: int = 33, **further: object) -> Trajectory:
    """The walk of a function from positions to images."""
    t = even_positions(num_frames)
    images = at(t)
    return Trajectory("a to b", t, images, Squared().features(images), at, **further)


def half_circle(t: Tensor) -> Tensor:
    return plane(torch.stack([torch.cos(torch.pi * t), torch.sin(torch.pi * t)], dim=1))


def straight(t: Tensor) -> Tensor:
    return plane(torch.stack([2 * t, t], dim=1))


def dissolve(t: Tensor) -> Tensor:
    """Between two unrelated pictures of noise."""
    a, b = torch.randn(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    return a + t.view(-1, 1, 1, 1) * (b - a)


def moving_square(t: Tensor) -> Tensor:
    """A white square that moves from left to right over black: a true morph."""
    images = -torch.ones(len(t), 1, 32, 32, dtype=torch.float64)
    for image, position in zip(images, (2 + (t * 20).round()).long().tolist(), strict=True):
        image[0, 12:20, position : position + 8] = 1
    return images


@pytest.fixture
def ways() -> dict[str, Trajectory]:
    """Known walks by name."""
    made = {"half circle": half_circle, "straight": straight, "dissolve": dissolve, "morph": moving_square}
    return {name: make_walk(at, back=lambda t, at=at: at(1 - t)) for name, at in made.items()}


@pytest.fixture(name="make_walk")
def _make_walk() -> Callable[..., Trajectory]:
    return make_walk
