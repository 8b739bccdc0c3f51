import pytest

from tests.fakes import MeanColour, path_generator
from wplus.models.stylegan2 import Generator


@pytest.fixture
def perceptual() -> MeanColour:
    return MeanColour()


@pytest.fixture
def generator() -> Generator:
    return path_generator()
