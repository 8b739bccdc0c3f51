"""ProGAN's published sizes, its layers against their formulas, and how a resolution fades in."""

import math

import pytest
import torch
import torch.nn.functional as F

from wplus.models.ops import minibatch_stddev
from wplus.models.progan import Conv, Dense, Discriminator, Epilogue, FirstBlock, Generator
from wplus.models.progressive import downsample_mean, set_lod

SMALL = {"resolution": 16, "channel_base": 64, "channel_max": 8}


def test_the_published_sizes():
    """Table 2: 512 maps up to 32 px, then half at each doubling, 16 at 1024; 23.1 million weights in either network."""
    with torch.device("meta"):
        generator, discriminator = Generator(resolution=1024), Discriminator(resolution=1024)
    assert [layer.weight.shape[1] for layer in generator.synthesis.torgb] == [512] * 4 + [256, 128, 64, 32, 16]
    for network, unused in ((generator, generator.synthesis.torgb[:-1]), (discriminator, discriminator.fromrgb[:-1])):
        number = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in unused.parameters())
        assert round(number / 1e6, 1) == 23.1


def test_equalised_layers_are_their_formulas():
    x = torch.randn(3, 5, 4, 4)
    conv = Conv(5, 6, 3)
    conv.bias.data.normal_()
    y = F.conv2d(x, conv.weight * math.sqrt(2 / (5 * 9)), conv.bias, padding=1)
    torch.testing.assert_close(conv(x), F.leaky_relu(y, 0.2))
    dense = Dense(7, 2, lr_mul=0.01, activate=True)
    assert dense.weight.std().item() == pytest.approx(100, rel=0.6)
    dense.bias.data.normal_(0, 100)
    y = torch.randn(4, 7)
    expected = F.leaky_relu(y @ dense.weight.t() * (0.01 * math.sqrt(2 / 7)) + 0.01 * dense.bias, 0.2)
    torch.testing.assert_close(dense(y), expected)


def on_a_sphere(x: torch.Tensor) -> torch.Tensor:
    """Pixel norm."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def test_the_first_block_is_its_formula():
    """Its gain, a quarter of the others', matters only relative to the bias: normalisation follows."""
    block, z = FirstBlock(6, 5), torch.randn(2, 6)
    block.bias.data.normal_()
    x = (z @ block.weight.t() * (math.sqrt(2 / 6) / 4)).view(2, 5, 4, 4) + block.bias[:, None, None]
    x = block.conv(on_a_sphere(F.leaky_relu(x, 0.2)))
    torch.testing.assert_close(block(z), on_a_sphere(x))


def test_the_authors_merged_layers_are_the_same():
    """From 128 px on they upsample by a transposed convolution with a summed kernel, and average by a strided one."""
    options, x = {"gain": math.sqrt(2), "activate": False}, torch.randn(2, 5, 8, 8)
    conv = {1: Conv(5, 6, 3, up=2, **options), 2: Conv(5, 6, 3, down=2, **options)}
    conv[2].load_state_dict(conv[1].state_dict())
    weight = F.pad(conv[1].weight * math.sqrt(2 / (5 * 9)), (1, 1, 1, 1))
    summed = weight[:, :, 1:, 1:] + weight[:, :, :-1, 1:] + weight[:, :, 1:, :-1] + weight[:, :, :-1, :-1]
    up = F.conv_transpose2d(x, summed.flip(2, 3).transpose(0, 1), stride=2, padding=1)
    torch.testing.assert_close(conv[1](x), up, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(conv[2](x), F.conv2d(x, summed / 4, stride=2, padding=1), rtol=1e-4, atol=1e-5)


def test_features_lie_on_a_sphere():
    """Pixel norm: every pixel's feature vector has a mean square of 1; the length of z makes no difference."""
    generator, z, seen = Generator(z_dim=6, **SMALL), torch.randn(2, 6), []
    for block in generator.synthesis.blocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = generator(z)
    assert [x.shape[2] for x in seen] == [4, 8, 16]
    for x in seen:
        torch.testing.assert_close(x, on_a_sphere(x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(generator(3 * z), images, rtol=1e-4, atol=1e-5)


def test_a_resolution_fades_in():
    """Figure 2b, for both networks: a fade starts at the old function and ends at the new one."""
    generator, discriminator = Generator(z_dim=6, **SMALL), Discriminator(mbstd_group_size=1, **SMALL)
    z, real = torch.randn(2, 6), torch.randn(2, 3, 16, 16)
    images, logits = {}, {}
    for lod in (1.0, 0.999999, 0.25, 0.0):
        set_lod(generator, lod), set_lod(discriminator, lod)
        images[lod], logits[lod] = generator(z), discriminator(real)
    torch.testing.assert_close(images[0.999999], images[1.0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits[0.999999], logits[1.0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(images[0.25], 0.75 * images[0.0] + 0.25 * images[1.0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(images[1.0], images[0.0], atol=1e-2)
    set_lod(discriminator, 0.25)
    x = discriminator.blocks[1](discriminator.fromrgb[2](real))
    x = 0.75 * x + 0.25 * discriminator.fromrgb[1](downsample_mean(real, 2))
    expected = discriminator.epilogue(discriminator.blocks[0](x))
    torch.testing.assert_close(logits[0.25], expected, rtol=1e-4, atol=1e-5)


def test_the_logit_of_the_label_is_chosen():
    discriminator = Discriminator(c_dim=3, mbstd_group_size=1, **SMALL)
    images = torch.randn(1, 3, 16, 16).expand(3, -1, -1, -1)
    logits = discriminator.epilogue(discriminator.features(images))[0]
    torch.testing.assert_close(discriminator(images, torch.eye(3))[:, 0], logits)


def test_the_epilogue_is_its_formula():
    """Of the two dense layers the hidden one has the gain sqrt(2), the last one 1."""
    epilogue, x = Epilogue(5, 7, num_logits=3, mbstd_group_size=2), torch.randn(4, 5, 4, 4)
    for parameter in epilogue.parameters():
        parameter.data.normal_()
    conv, dense, out = epilogue.conv, epilogue.dense, epilogue.out
    y = F.conv2d(minibatch_stddev(x, 2), conv.weight * math.sqrt(2 / (6 * 9)), conv.bias, padding=1)
    y = F.leaky_relu(y, 0.2).flatten(1)
    y = F.leaky_relu(y @ dense.weight.t() * math.sqrt(2 / (5 * 16)) + dense.bias, 0.2)
    expected = y @ out.weight.t() / math.sqrt(7) + out.bias
    torch.testing.assert_close(epilogue(x), expected, rtol=1e-4, atol=1e-5)


def test_colours_are_linear_where_they_are_painted_and_activated_where_they_are_read():
    torgb, fromrgb = Generator(z_dim=6, **SMALL).synthesis.torgb[2], Discriminator(**SMALL).fromrgb[2]
    for layer in (torgb, fromrgb):
        layer.bias.data.normal_()
    features, images = torch.randn(2, 4, 16, 16), torch.randn(2, 3, 16, 16)
    painted = F.conv2d(features, torgb.weight / math.sqrt(4), torgb.bias)
    torch.testing.assert_close(torgb(features), painted, rtol=1e-4, atol=1e-5)
    read = F.leaky_relu(F.conv2d(images, fromrgb.weight * math.sqrt(2 / 3), fromrgb.bias), 0.2)
    torch.testing.assert_close(fromrgb(images), read, rtol=1e-4, atol=1e-5)


def test_a_label_is_normalised_together_with_z():
    generator, seen = Generator(z_dim=6, c_dim=3, **SMALL), []
    generator.synthesis.blocks[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    z, c = torch.randn(3, 6), torch.eye(3)
    generator(z, c)
    torch.testing.assert_close(seen[0], on_a_sphere(torch.cat([z, c], dim=1)), rtol=1e-4, atol=1e-5)
