"""R3GAN's published sizes and initialisation."""

import math

import pytest
import torch

from wplus.models.ops import downsample, upsample
from wplus.models.progan import blur
from wplus.models.progressive import downsample_mean, upsample_nearest
from wplus.models.r3gan import Discriminator, Generator, ResidualBlock

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
    """Scaled by the number of all blocks of a network (Fixup): here six blocks in three stages."""
    sizes, x = {"resolution": 16, "channel_base": 2048, "channel_max": 64}, torch.randn(2, 64, 4, 4)
    expected = math.sqrt(2 / 1.04) * 6 ** (-1 / 4)
    for stages in (Generator(**sizes).synthesis.stages, Discriminator(**sizes).stages):
        for block in [block for stage in stages for block in stage.blocks]:
            assert torch.equal(block(x), x)
            assert block.conv1.weight.std().item() * math.sqrt(64) == pytest.approx(expected, rel=0.06)
            assert block.conv2.weight.std().item() * math.sqrt(16 * 9) == pytest.approx(expected, rel=0.06)


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


def test_the_published_filter_between_two_resolutions():
    """The networks resample with [1, 2, 1] on doubled pixels, or before averaging pairs."""
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(upsample(x), blur(upsample_nearest(x, 2)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(downsample(x), downsample_mean(blur(x), 2), rtol=1e-5, atol=1e-6)


def test_the_networks_are_their_formulas():
    """Basis times linear map, stages, filters and changes of width in turn; labels embedded, and projected on."""
    generator, discriminator = Generator(z_dim=5, c_dim=3, **SMALL), Discriminator(c_dim=3, **SMALL)
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            if name.endswith("conv3.weight"):
                parameter.data.normal_(0.0, 0.1)
    z, c, images = torch.randn(2, 5), torch.eye(3)[[2, 0]], torch.randn(2, 3, 16, 16)
    conv2d, paint = torch.nn.functional.conv2d, generator.synthesis
    w = torch.cat([z, c @ paint.embed.weight.t()], dim=1)
    x = paint.stages[0](paint.basis * (w @ paint.linear.weight.t())[:, :, None, None])
    x = paint.stages[1](upsample(x))
    x = paint.stages[2](upsample(conv2d(x, paint.transitions[1].weight)))
    torch.testing.assert_close(generator(z, c), conv2d(x, paint.torgb.weight), rtol=1e-4, atol=1e-4)
    x = discriminator.stages[0](conv2d(images, discriminator.fromrgb.weight))
    x = discriminator.stages[1](conv2d(downsample(x), discriminator.transitions[0].weight))
    x = discriminator.stages[2](downsample(x))
    x = (x * discriminator.basis).sum(dim=(2, 3)) @ discriminator.linear.weight.t()
    expected = (x * (c @ discriminator.embed.weight.t())).sum(dim=1, keepdim=True)
    torch.testing.assert_close(discriminator(images, c), expected, rtol=1e-4, atol=1e-4)


def test_the_weights_that_all_others_are_seen_through_start_with_unit_gain():
    """N(0, 1 / fan-in): for the discriminator's basis that is 16, and its embedding is a mean over the channels."""
    sizes = {"resolution": 16, "channel_base": 2048, "channel_max": 128, "c_dim": 40}
    generator, discriminator = Generator(z_dim=60, **sizes).synthesis, Discriminator(**sizes)
    starts = [
        (generator.basis, 1.0), (generator.linear.weight, 120**-0.5), (generator.embed.weight, 40**-0.5),
        (generator.torgb.weight, 128**-0.5), (discriminator.fromrgb.weight, 3**-0.5), (discriminator.basis, 0.25),
        (discriminator.linear.weight, 128**-0.5), (discriminator.embed.weight, (40 * 128) ** -0.5),
    ]  # fmt: skip
    for weight, deviation in starts:
        assert weight.std().item() == pytest.approx(deviation, rel=0.15)
