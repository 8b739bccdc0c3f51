"""Known ways through a feature space that is the images themselves, and what every metric must do."""

import pytest

from tests.fakes import CosinePixels, SquaredPixels, dissolve, half_circle, moving_square, straight, trajectory_of
from wplus.interpolation.trajectory import MetricTools


@pytest.fixture
def tools():
    return MetricTools(perceptual=SquaredPixels(), identity=CosinePixels(), batch_size=8)


@pytest.fixture
def ways():
    made = {"half circle": half_circle, "straight": straight, "dissolve": dissolve, "morph": moving_square}
    return {name: trajectory_of(at, back=lambda t, at=at: at(1 - t)) for name, at in made.items()}


@pytest.fixture
def scores(tools):
    """What a metric says, by the names of its numbers."""

    def scores(metric, trajectory, tools=tools, **options):
        return {number.name: value for number, value in metric(trajectory, tools, **options)}

    return scores
