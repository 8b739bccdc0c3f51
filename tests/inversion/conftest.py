"""Fixtures of the shared stand-ins."""

from __future__ import annotations

import pytest

from tests.fakes import LinearEncoder, LinearGenerator, PooledDistance, read_pixels, tiny_encoder, tiny_generator  # noqa: F401


@pytest.fixture
def linear():
    return LinearGenerator()


@pytest.fixture
def pooled():
    return PooledDistance().eval()


@pytest.fixture
def stylegan():
    return tiny_generator()


@pytest.fixture
def conditional():
    return tiny_generator(c_dim=3)
