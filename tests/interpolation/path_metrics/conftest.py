"""A known path through a feature space that equals the image space, and the results of metrics."""

import pytest

from tests.fakes import CosinePixels, SquaredPixels, straight, trajectory_of
from wplus.interpolation.trajectory import MetricTools


@pytest.fixture
def tools():
    return MetricTools(perceptual=SquaredPixels(), identity=CosinePixels(), batch_size=8)


@pytest.fixture
def line():
    return trajectory_of(straight, back=lambda t: straight(1 - t))


@pytest.fixture
def scores(tools):
    """What a metric says, by the names of its numbers."""
    return lambda metric, trajectory, tools=tools, **options: {
        number.name: value for number, value in metric(trajectory, tools, **options)
    }
