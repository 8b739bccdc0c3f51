"""Tiny networks, and contexts for metrics."""

from typing import Any

import pytest
import torch

from tests.fakes import RandomConv, RealImages, checking
from wplus.checkpoint import Models
from wplus.evaluation.context import EvalContext
from wplus.models.stylegan2 import Generator

TINY = {"resolution": 16, "z_dim": 8, "w_dim": 8, "channel_base": 128, "channel_max": 8, "num_mapping_layers": 2}


@pytest.fixture
def extractor() -> RandomConv:
    return RandomConv()


@pytest.fixture
def real() -> RealImages:
    return RealImages(torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8))


@pytest.fixture
def models() -> Models:
    net = Generator(**TINY)
    for layer in net.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.3)
    return Models(generator=net.eval().requires_grad_(False), metadata={"weights": "moving average"})


@pytest.fixture
def conditional() -> Models:
    return Models(generator=Generator(**TINY, c_dim=3).eval().requires_grad_(False))


@pytest.fixture
def shared() -> dict[str, Any]:
    """Settings with which the metrics of a context compute."""
    return {"batch_size": 8, "device": "cpu", "seed": 0, "progress": checking}


@pytest.fixture
def context(models: Models, real: RealImages, shared: dict[str, Any]) -> EvalContext:
    """Context of metrics; `dataclasses.replace(context, seed=1)` makes a new one with new passes."""
    return EvalContext(models, real, **shared)
