"""Tiny stand-ins: a generator, a random extractor, a set of real images, a progress bar that checks, and a bench."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wplus.checkpoint import Models
from wplus.core.images import to_float
from wplus.evaluation.bench import EvalContext
from wplus.models.stylegan2 import Generator


class RandomConv(nn.Module):
    """An untrained convolution, in float64 so that what is tested is not the rounding of the extractor."""

    name = "random_conv"
    dim = 6

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(3, self.dim, 3, stride=2).double().requires_grad_(False)

    @property
    def protocol(self) -> dict[str, Any]:
        return {"extractor": self.name, "extractor_sha256": f"{self.scale}"}

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.conv(to_float(images).double()).relu().mean(dim=(2, 3))


@dataclass
class RealImages:
    images: Tensor
    labels: Tensor | None = None
    fingerprint: str = "0123456789abcdef"
    policies: dict[str, Any] = field(default_factory=dict)
    num_read: int = 0

    @property
    def resolution(self) -> int:
        return self.images.shape[3]

    @property
    def img_channels(self) -> int:
        return self.images.shape[1]

    @property
    def digests(self) -> np.ndarray:
        content = b"".join(hashlib.sha256(image.numpy().tobytes()).digest() for image in self.images)
        return np.frombuffer(content, dtype=np.uint8).reshape(len(self), 32)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        self.num_read += len(indices)
        labels = torch.empty(len(indices), 0) if self.labels is None else self.labels[indices]
        return self.images[indices], labels


def checking(
    items: Iterable[Any], description: str, *, total: float, advance: Callable[[Any], float] = lambda _: 1
) -> Iterator[Any]:
    """Shows nothing, but checks what a bar relies on: that the announced number is right."""
    done = 0.0
    for item in items:
        done += advance(item)
        yield item
    assert done == total, description


@pytest.fixture
def extractor() -> RandomConv:
    return RandomConv()


@pytest.fixture
def real() -> RealImages:
    return RealImages(torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8))


@pytest.fixture
def models() -> Models:
    net = Generator(resolution=16, z_dim=8, w_dim=8, channel_base=128, channel_max=8, num_mapping_layers=2)
    for layer in net.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.3)
    return Models(generator=net.eval().requires_grad_(False), metadata={"weights": "moving average"})


@pytest.fixture
def conditional() -> Models:
    net = Generator(resolution=16, z_dim=8, w_dim=8, c_dim=3, channel_base=128, channel_max=8, num_mapping_layers=2)
    return Models(generator=net.eval().requires_grad_(False))


@pytest.fixture
def shared() -> dict[str, Any]:
    """How the metrics of a bench compute."""
    return {"batch_size": 8, "device": "cpu", "seed": 0, "progress": checking}


@pytest.fixture
def bench(models: Models, real: RealImages, shared: dict[str, Any]) -> EvalContext:
    """What metrics are given; `dataclasses.replace(bench, seed=1)` is a new one with new passes."""
    return EvalContext(models, real, **shared)
