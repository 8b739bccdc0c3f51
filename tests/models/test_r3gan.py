"""R3GAN's published sizes and start."""

from __future__ import annotations

import math

import pytest
import torch

from wplus.models.growing import enlarge, shrink
from wplus.models.ops import downsample, upsample
from wplus.models.progan import blur
from wplus.models.r3gan import Convolution, Discriminator, Generator, ResidualBlock

SMALL = {"resolution": 16, "channel_base": 512, "channel_max": 64}


def test_the_published_sizes():
    """FFHQ-256: width 768 up to 32 px, then half at each doubling; 96 groups of 16 channels at 768."""
    with torch.device("meta"):
        generator, discriminator = Generator(resolution=256), Discriminator(resolution=256)
    widths = [768, 768, 768, 768, 384, 192, 96]
    for stages, expected in ((generator.synthesis.stages, widths), (discriminator.stages, widths[::-1])):
        assert [stage.blocks[0].conv3.weight.shape[0] for stage in stages] == expected
        assert all(len(stage.blocks) == 2 for stage in stages)
        assert [stage.blocks[0].conv2.groups for stage in stages] == [width // 8 for width in expected]


def test_residual_branches_start_at_zero():
    block = ResidualBlock(32, num_blocks=6)
    x = torch.randn(2, 32, 4, 4)
    assert torch.equal(block(x), x)
    expected = math.sqrt(2 / 1.04) * 6 ** (-1 / 4)
    assert block.conv1.weight.std().item() * math.sqrt(32) == pytest.approx(expected, rel=0.05)
    assert block.conv2.weight.std().item() * math.sqrt(16 * 9) == pytest.approx(expected, rel=0.05)


def test_a_block_is_its_formula():
    block = ResidualBlock(32, num_blocks=2)
    for parameter in block.parameters():
        parameter.data.normal_()
    x = torch.randn(2, 32, 4, 4)
    lrelu = torch.nn.LeakyReLU(0.2)
    y = torch.nn.functional.conv2d(x, block.conv1.weight)
    y = lrelu(y + block.act1.bias[:, None, None])
    y = torch.nn.functional.conv2d(y, block.conv2.weight, padding=1, groups=4)
    y = lrelu(y + block.act2.bias[:, None, None])
    torch.testing.assert_close(block(x), x + torch.nn.functional.conv2d(y, block.conv3.weight), rtol=1e-4, atol=1e-3)


def test_signals_keep_their_size_at_the_start():
    images = Generator(**SMALL)(torch.randn(64, 64))
    assert 0.3 < images.std().item() < 1.5  # a product of two normal numbers, smoothed by the upsampling
    assert 0.1 < Discriminator(**SMALL)(torch.randn(64, 3, 16, 16)).std().item() < 3


def test_a_width_that_does_not_change_needs_no_convolution():
    changes = Generator(resolution=32, channel_base=512, channel_max=32).synthesis.transitions
    assert [isinstance(change, Convolution) for change in changes] == [False, False, True]


def test_the_published_filter_between_two_resolutions():
    """[1, 2, 1] on doubled pixels, or before pairs are averaged, is what the networks resample with."""
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(upsample(x), blur(enlarge(x, 2)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(downsample(x), shrink(blur(x), 2), rtol=1e-5, atol=1e-6)


def test_images_are_the_same_in_bfloat16_up_to_rounding():
    from wplus.models.layers import set_bf16_resolutions

    generator, z = Generator(**SMALL), torch.randn(2, 64)
    exact = generator(z)
    set_bf16_resolutions(generator, 2)
    assert generator(z).dtype == torch.float32
    assert not torch.equal(generator(z), exact)
    torch.testing.assert_close(generator(z), exact, rtol=0.1, atol=0.1)
