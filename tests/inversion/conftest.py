"""Fixtures of the shared stand-ins."""

import pytest

from tests.fakes import LinearGenerator, PooledDistance, tiny_generator
from wplus.inversion import report


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


@pytest.fixture
def without_curves(monkeypatch):
    """Drawing them takes longer than a few steps of inversion; test_report does it."""
    monkeypatch.setattr(report, "plot_convergence", lambda histories, path: path)
