"""StyleGAN2's networks: their parts against slow implementations, and properties at every resolution."""

import math

import pytest
import torch
import torch.nn.functional as F

from wplus.errors import UserError
from wplus.models.layers import block_resolutions
from wplus.models.ops import blur, downsample
from wplus.models.stylegan2 import Discriminator, DiscriminatorBlock, Generator, ToRGB

SMALL = {"channel_base": 128, "channel_max": 8}


def make_generator(**changes) -> Generator:
    options = {"resolution": 16, "z_dim": 6, "w_dim": 10, "num_mapping_layers": 2, **SMALL, **changes}
    generator = Generator(**options)
    generator.mapping.w_avg.normal_()
    for layer in generator.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.3)
    return generator


@pytest.mark.parametrize(("resolution", "img_channels"), [(8, 1), (64, 3), (128, 1), (1024, 3)])
def test_every_size_has_the_published_shapes(resolution, img_channels):
    size = {"resolution": resolution, "img_channels": img_channels}
    with torch.device("meta"):  # shapes without the sums
        generator, discriminator = Generator(**size), Discriminator(**size)
        images = generator(torch.randn(4, 512))
        assert images.shape == (4, img_channels, resolution, resolution)
        assert discriminator(images).shape == (4, 1)
    assert generator.num_ws == 2 * int(math.log2(resolution)) - 2
    for res in block_resolutions(resolution):
        channels = min(32768 // res, 512)
        assert getattr(generator.synthesis, f"b{res}").conv1.weight.shape == (channels, channels, 3, 3)
    assert discriminator.b4.conv.weight.shape == (512, 513, 3, 3)
    read = getattr(discriminator, f"b{resolution}").fromrgb.weight
    assert read.shape == (min(32768 // resolution, 512), img_channels, 1, 1)


@pytest.mark.parametrize(("changes", "message"), [
    *(({"resolution": size}, f"resolution must be one of 8, 16, .* 1024, got {size}") for size in (0, 4, 7, 24, 2048)),
    ({"channel_base": 15}, "channel_base must be at least 16 and channel_max at least 1, .*, got 15 and 8"),
    ({"channel_max": 0}, "channel_base must be at least 4 and .*, got 128 and 0"),
    ({"channel_base": -5}, "channel_base must be at least 4 and .*, got -5 and 8"),
])  # fmt: skip
@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_sizes_that_no_network_has_are_refused(network, changes, message):
    with pytest.raises(UserError, match=f"^{message}[.]$"):
        network(**{"resolution": 16, **SMALL, **changes})


def test_the_start():
    """Equalised: standard normal weights, scaled in the forward pass, the mapping's divided by its learning rate's
    factor; styles start at one, all else at zero."""
    sizes = {"resolution": 16, "c_dim": 40, "channel_base": 1024, "channel_max": 32}
    for network in (Generator(z_dim=60, w_dim=60, **sizes), Discriminator(**sizes)):
        for name, tensor in network.state_dict().items():
            if name.endswith(("bias", "noise_strength", "w_avg")):
                assert (tensor == name.endswith("affine.bias")).all(), name
            elif tensor.numel() > 200:
                deviation = 100 if name.startswith("mapping.fc") else 1
                assert tensor.std().item() == pytest.approx(deviation, rel=0.15), name
                assert abs(tensor.mean().item()) < 0.25 * deviation, name
        assert network.arguments["num_mapping_layers"] == network.mapping.num_layers == 8


def test_resample_filters_of_a_foreign_checkpoint_are_dropped():
    for net, block in ((make_generator(), "synthesis.b16"), (Discriminator(resolution=16, **SMALL), "b16")):
        state = net.state_dict()
        state.update({f"{block}.resample_filter": torch.ones(4, 4), f"{block}.conv0.resample_filter": torch.ones(4, 4)})
        net.load_state_dict(state)
        with pytest.raises(RuntimeError, match="another_filter"):
            net.load_state_dict({**state, f"{block}.another_filter": torch.ones(4, 4)})


def test_a_logit_depends_on_its_stddev_group_only():
    discriminator = Discriminator(resolution=16, mbstd_group_size=2, **SMALL)
    images = torch.randn(6, 3, 16, 16)  # groups {0, 3}, {1, 4}, {2, 5}
    pairs = [discriminator(images[[i, i + 3]]) for i in range(3)]
    expected = torch.stack(pairs, dim=1).flatten(0, 1)
    torch.testing.assert_close(discriminator(images), expected, rtol=1e-4, atol=1e-5)


# Mapping and styles


def test_the_running_mean_of_w_and_the_length_of_z():
    mapping, z, batch_mean = make_generator().mapping, torch.randn(3, 6), torch.randn(10)
    torch.testing.assert_close(mapping(z), mapping(5 * z))
    before = mapping.w_avg.clone()
    mapping.update_w_avg(batch_mean)
    torch.testing.assert_close(mapping.w_avg, 0.995 * before + 0.005 * batch_mean)


def test_the_generator_passes_truncation_and_noise_on():
    generator, z = make_generator(), torch.randn(2, 6)
    expected = generator.synthesis(generator.mapping(z, truncation_psi=0.5, truncation_cutoff=3), noise_mode="none")
    assert torch.equal(generator(z, truncation_psi=0.5, truncation_cutoff=3, noise_mode="none"), expected)


def test_every_style_reaches_the_layer_that_it_belongs_to():
    """Style i modulates layer i in NVlabs' order; a block's colours take the style of the next block's first layer."""
    synthesis, ws = make_generator().synthesis, torch.randn(1, 6, 10)
    seen: dict[str, torch.Tensor] = {}
    for name, module in synthesis.named_modules():
        if name.endswith("affine"):
            module.register_forward_hook(lambda m, args, output, name=name: seen.update({name: args[0]}))
    synthesis(ws)
    order = ["b4.conv1", "b4.torgb", "b8.conv0", "b8.conv1", "b8.torgb", "b16.conv0", "b16.conv1", "b16.torgb"]
    expected = dict(zip(order, [0, 1, 1, 2, 3, 3, 4, 5], strict=True))
    assert {name.removesuffix(".affine") for name in seen} == set(order)
    for name, index in expected.items():
        assert torch.equal(seen[f"{name}.affine"], ws[:, index]), name


# Noise


def test_random_noise_is_drawn_for_each_image_and_call():
    generator, same = make_generator(), torch.randn(1, 6).repeat(2, 1)
    torch.manual_seed(1)
    images = generator(same, noise_mode="random")
    assert not torch.allclose(images[0], images[1])
    assert not torch.allclose(generator(same, noise_mode="random"), images)
    torch.manual_seed(1)
    assert torch.equal(generator(same, noise_mode="random"), images)


def test_given_noise_replaces_the_mode():
    generator = make_generator()
    synthesis, ws = generator.synthesis, generator.mapping(torch.randn(2, 6))
    assert synthesis.noise_shapes == [(4, 4), (8, 8), (8, 8), (16, 16), (16, 16)]
    assert [tuple(n.shape) for n in synthesis.const_noise()] == [(1, 1, *shape) for shape in synthesis.noise_shapes]
    assert torch.equal(synthesis(ws, noise=synthesis.const_noise(), noise_mode="none"), synthesis(ws))
    silence = [torch.zeros(2, 1, *shape) for shape in synthesis.noise_shapes]
    torch.testing.assert_close(synthesis(ws, noise=silence), synthesis(ws, noise_mode="none"))
    assert not torch.allclose(synthesis(ws, noise=silence), synthesis(ws))
    for noise in (silence[:1], silence * 2, []):
        with pytest.raises(UserError, match=rf"^noise must have 5 maps, one per layer, got {len(noise)}[.]$"):
            synthesis(ws, noise=noise)


def test_noise_enters_before_the_activation_with_its_strength():
    layer = make_generator().synthesis.b8.conv1
    x, w, noise = torch.randn(1, 8, 8, 8), torch.randn(1, 10), torch.randn(1, 1, 8, 8)
    layer.bias.data.normal_()
    styles = layer.affine(w)
    without = layer(x, styles, None)
    before = torch.where(without > 0, without, without / 0.2)
    expected = F.leaky_relu(before + noise * layer.noise_strength * math.sqrt(2), 0.2)
    torch.testing.assert_close(layer(x, styles, noise), expected, rtol=1e-4, atol=1e-5)


# Parts of the networks written out


def test_conv_clamp_limits_every_activation():
    """Before the gain of a residual branch; a large clamp changes nothing."""
    generator, discriminator = make_generator(conv_clamp=0.05), Discriminator(resolution=16, conv_clamp=0.05, **SMALL)
    for weight in discriminator.parameters():
        weight.data.mul_(20)
    largest: dict[str, float] = {}
    for name, module in [*generator.named_modules(), *discriminator.named_modules()]:
        if name.endswith(("conv0", "conv1", "torgb", "fromrgb", "b4.conv")):
            module.register_forward_hook(lambda m, args, y, name=name: largest.update({name: y.abs().max().item()}))
    z = torch.randn(4, 6)
    discriminator(generator(z))
    assert len(largest) == 5 + 3 + 6
    for name, value in largest.items():
        limit = 0.05 * math.sqrt(0.5) if name in ("b16.conv1", "b8.conv1") else 0.05
        assert value == pytest.approx(limit), name
    plain, wide = make_generator(), make_generator(conv_clamp=256)
    wide.load_state_dict(plain.state_dict())
    assert torch.equal(plain(z), wide(z))


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """Randomise all parameters, including biases, which start at a constant."""
    for parameter in module.parameters():
        parameter.data.normal_()
    return module


def test_colours_are_modulated_and_not_demodulated():
    layer = randomised(ToRGB(8, 3, w_dim=5))
    x, w = torch.randn(2, 8, 4, 4), torch.randn(2, 5)
    styles = (w @ layer.affine.weight.t() / math.sqrt(5) + layer.affine.bias) / math.sqrt(8)
    expected = F.conv2d(x * styles[:, :, None, None], layer.weight) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, layer.affine(w)), expected, rtol=1e-4, atol=1e-5)


def test_both_branches_of_a_residual_block_are_divided_by_sqrt_2():
    block = randomised(DiscriminatorBlock(4, 6, resolution=8, img_channels=3, is_residual=True))
    image = torch.randn(2, 3, 8, 8)
    lrelu = lambda x: F.leaky_relu(x, 0.2) * math.sqrt(2)
    x = lrelu(F.conv2d(image, block.fromrgb.weight / math.sqrt(3), block.fromrgb.bias))
    y = lrelu(F.conv2d(x, block.conv0.weight / 6, block.conv0.bias, padding=1))
    y = lrelu(F.conv2d(blur(y, padding=2), block.conv1.weight / 6, block.conv1.bias, stride=2))
    skipped = F.conv2d(downsample(x), block.skip.weight / 2)
    torch.testing.assert_close(block(None, image), (y + skipped) / math.sqrt(2), rtol=1e-4, atol=1e-5)


def test_with_labels_the_logit_is_a_projection():
    """On what the label is mapped to, divided by the root of the dimension (StyleGAN2-ADA's code)."""
    discriminator = Discriminator(resolution=16, c_dim=3, **SMALL)
    images, c = torch.randn(4, 3, 16, 16), torch.eye(3)[[0, 1, 2, 0]]
    features = discriminator.epilogue(discriminator.features(images))
    assert features.shape == (4, 8)
    expected = (features * discriminator.mapping.w(None, c)).sum(dim=1, keepdim=True) / math.sqrt(8)
    torch.testing.assert_close(discriminator(images, c), expected)


def test_without_noise_its_strength_is_zero_and_does_not_learn():
    generator = make_generator(use_noise=True)
    silent = Generator(resolution=16, z_dim=6, w_dim=10, num_mapping_layers=2, use_noise=False, **SMALL)
    assert not [name for name, _ in silent.named_parameters() if "noise" in name]
    assert set(silent.state_dict()) == set(generator.state_dict())
    ws = torch.randn(2, silent.num_ws, 10)
    assert torch.equal(silent.synthesis(ws, noise_mode="random"), silent.synthesis(ws, noise_mode="none"))
    assert not torch.equal(generator.synthesis(ws, noise_mode="random"), generator.synthesis(ws, noise_mode="none"))
    assert silent.arguments["use_noise"] is False
    with pytest.raises(UserError, match="use_noise must be one of True, False, got 'maybe'"):
        make_generator(use_noise="maybe")
