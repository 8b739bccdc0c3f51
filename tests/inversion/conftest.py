"""Fixtures of the shared stand-ins."""

import pytest

from tests.fakes import LinearGenerator, PooledDistance, tiny_generator


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
