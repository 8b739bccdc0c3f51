import pytest

from tests.fakes import Brightness
from wplus.models.stylegan2 import Generator


@pytest.fixture
def perceptual() -> Brightness:
    return Brightness()


@pytest.fixture
def generator() -> Generator:
    """A StyleGAN2 with six styles, whose noise matters and whose mean is somewhere."""
    net = Generator(resolution=16, z_dim=8, w_dim=8, channel_base=128, channel_max=8, num_mapping_layers=2)
    for layer in net.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.3)
    net.mapping.w_avg.normal_()
    return net.eval().requires_grad_(False)
