"""StyleGAN2's networks: their parts against slow forms, and what every resolution must keep to."""

import math

import pytest
import torch
import torch.nn.functional as F

from wplus.errors import UserError
from wplus.models.layers import block_resolutions, num_channels
from wplus.models.ops import blur, downsample, minibatch_stddev
from wplus.models.stylegan2 import Discriminator, DiscriminatorBlock, Generator, ToRGB

SMALL = {"channel_base": 128, "channel_max": 8}


def make_generator(resolution: int = 16, **changes) -> Generator:
    options = {"z_dim": 6, "w_dim": 10, "num_mapping_layers": 2, **SMALL, **changes}
    generator = Generator(resolution=resolution, **options)
    generator.mapping.w_avg.normal_()
    for layer in generator.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.3)
    return generator


def make_discriminator(resolution: int = 16, **changes) -> Discriminator:
    return Discriminator(resolution=resolution, **{"mbstd_group_size": 2, "num_mapping_layers": 1, **SMALL, **changes})


def one_hot(num: int, c_dim: int) -> torch.Tensor:
    return torch.eye(c_dim)[torch.arange(num) % c_dim] if c_dim else torch.zeros(num, 0)


# Every size and kind of network


@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("img_channels", [1, 3])
@pytest.mark.parametrize("resolution", [8, 16, 32, 64])
def test_shapes_and_gradients_of_every_network(resolution, img_channels, c_dim):
    """Finite images of the right shape, and a gradient for every parameter of both networks."""
    kind = {"img_channels": img_channels, "c_dim": c_dim}
    generator, discriminator = make_generator(resolution, **kind), make_discriminator(resolution, **kind)
    z, c = torch.randn(4, 6), one_hot(4, c_dim)
    assert generator.num_ws == 2 * int(math.log2(resolution)) - 2
    assert generator.mapping(z, c).shape == (4, generator.num_ws, 10)
    images = generator(z, c, noise_mode="random")
    assert images.shape == (4, img_channels, resolution, resolution)
    logits = discriminator(images, c)
    assert logits.shape == (4, 1)
    logits.sin().sum().backward()
    for net in (generator, discriminator):
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("resolution", [128, 1024])
def test_large_networks_have_the_published_shapes(resolution):
    generator, discriminator = Generator(resolution=resolution), Discriminator(resolution=resolution)
    assert generator.num_ws == 2 * int(math.log2(resolution)) - 2
    for res in block_resolutions(resolution):
        channels = min(32768 // res, 512)
        assert getattr(generator.synthesis, f"b{res}").conv1.weight.shape == (channels, channels, 3, 3)
    assert discriminator.b4.conv.weight.shape == (512, 513, 3, 3)
    assert getattr(discriminator, f"b{resolution}").fromrgb.weight.shape == (32768 // resolution, 3, 1, 1)


@pytest.mark.parametrize("resolution", [0, 4, 7, 24, 100, 2048])
@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_other_resolutions_are_refused(network, resolution):
    with pytest.raises(UserError, match=rf"^resolution must be one of 8, 16, .* 1024, got {resolution}$"):
        network(resolution=resolution)


def test_num_channels():
    assert [num_channels(r, 16384, 512) for r in (4, 32, 64, 256)] == [512, 512, 256, 64]


@pytest.mark.parametrize(("base", "largest"), [(15, 8), (128, 0), (-5, 8)])
@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_networks_without_feature_maps_are_refused(network, base, largest):
    with pytest.raises(UserError, match=rf"^channel_base must be at least (4|16) and .*, got {base} and {largest}$"):
        network(resolution=16, channel_base=base, channel_max=largest)


def test_parameter_names_are_nvlabs():
    layer = {"affine.weight", "affine.bias", "weight", "bias", "noise_strength", "noise_const"}
    colours = {"affine.weight", "affine.bias", "weight", "bias"}
    expected = {"mapping.w_avg", "mapping.embed.weight", "mapping.embed.bias", "synthesis.b4.const"}
    expected |= {f"mapping.fc{i}.{name}" for i in (0, 1) for name in ("weight", "bias")}
    expected |= {f"synthesis.b4.conv1.{name}" for name in layer} | {f"synthesis.b4.torgb.{name}" for name in colours}
    expected |= {f"synthesis.b8.conv{i}.{name}" for i in (0, 1) for name in layer}
    expected |= {f"synthesis.b8.torgb.{name}" for name in colours}
    assert set(make_generator(8, c_dim=3).state_dict()) == expected
    expected = {f"b8.{name}.{kind}" for name in ("fromrgb", "conv0", "conv1") for kind in ("weight", "bias")}
    expected |= {"b8.skip.weight"} | {
        f"b4.{name}.{kind}" for name in ("conv", "fc", "out") for kind in ("weight", "bias")
    }
    assert set(make_discriminator(8).state_dict()) == expected
    assert set(make_discriminator(8, c_dim=3).state_dict()) - expected == {
        f"mapping.{name}.{kind}" for name in ("embed", "fc0") for kind in ("weight", "bias")
    }


def test_published_initial_values():
    generator = Generator(resolution=16, z_dim=64, w_dim=64, **SMALL)
    state = generator.state_dict()
    assert all((value == 1).all() for name, value in state.items() if name.endswith("affine.bias"))
    zeros = ("noise_strength", "conv0.bias", "conv1.bias", "torgb.bias", "w_avg")
    assert all((value == 0).all() for name, value in state.items() if name.endswith(zeros))
    assert state["mapping.fc0.weight"].std().item() == pytest.approx(100, rel=0.1)
    assert not generator.arguments["c_dim"]
    assert generator.arguments["num_mapping_layers"] == 8


def test_resample_filters_of_a_foreign_checkpoint_are_dropped():
    for net in (make_generator(), make_discriminator()):
        state = net.state_dict()
        block = "synthesis.b16" if isinstance(net, Generator) else "b16"
        state.update({f"{block}.resample_filter": torch.ones(4, 4), f"{block}.conv0.resample_filter": torch.ones(4, 4)})
        net.load_state_dict(state)
        with pytest.raises(RuntimeError, match="another_filter"):
            net.load_state_dict({**state, f"{block}.another_filter": torch.ones(4, 4)})


# One image does not depend on its neighbours


@pytest.mark.parametrize("noise_mode", ["const", "none"])
def test_an_image_does_not_depend_on_its_batch(noise_mode):
    generator = make_generator(c_dim=3)
    z, c = torch.randn(5, 6), one_hot(5, 3)
    together = generator(z, c, noise_mode=noise_mode)
    alone = torch.cat([generator(z[i : i + 1], c[i : i + 1], noise_mode=noise_mode) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6 * together.abs().max().item())


def test_a_logit_depends_on_its_stddev_group_only():
    discriminator = make_discriminator(mbstd_group_size=2)
    images = torch.randn(6, 3, 16, 16)  # groups {0, 3}, {1, 4}, {2, 5}
    logits = discriminator(images)
    pairs = [discriminator(images[[i, i + 3]]) for i in range(3)]
    torch.testing.assert_close(logits, torch.stack(pairs, dim=1).flatten(0, 1), rtol=1e-4, atol=1e-5)
    changed = images.clone()
    changed[3] += 1
    difference = (discriminator(changed) - logits).abs().flatten()
    assert difference[[0, 3]].min() > 1e-6
    assert difference[[1, 2, 4, 5]].max() < 1e-6


@pytest.mark.parametrize(("num", "group_size", "group"), [(8, 4, 4), (6, 2, 2), (4, 1, 1), (3, 4, 3)])
def test_minibatch_stddev_against_loops(num, group_size, group):
    x = torch.randn(num, 3, 4, 4, dtype=torch.float64)
    y = minibatch_stddev(x, group_size)
    assert y.shape == (num, 4, 4, 4)
    assert torch.equal(y[:, :3], x)
    for n in range(num):
        members = [m for m in range(num) if m % (num // group) == n % (num // group)]
        assert len(members) == group
        total = 0.0
        for channel in range(3):
            for row in range(4):
                for column in range(4):
                    values = [x[m, channel, row, column].item() for m in members]
                    mean = sum(values) / group
                    total += math.sqrt(sum((value - mean) ** 2 for value in values) / group + 1e-8)
        torch.testing.assert_close(y[n, 3], torch.full((4, 4), total / 48, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_minibatch_stddev_refuses_a_batch_that_it_cannot_group():
    with pytest.raises(UserError, match=r"^the batch must be a multiple of mbstd_group_size=4, got 6 images$"):
        minibatch_stddev(torch.zeros(6, 1, 4, 4), 4)


# Mapping, truncation, style mixing


def test_truncation_pulls_towards_the_mean():
    mapping = make_generator().mapping
    z = torch.randn(3, 6)
    ws = mapping(z)
    assert (ws == ws[:, :1]).all()
    torch.testing.assert_close(mapping(z, truncation_psi=0.3), mapping.w_avg + 0.3 * (ws - mapping.w_avg))
    torch.testing.assert_close(mapping(z, truncation_psi=0.0), mapping.w_avg.expand_as(ws))
    assert torch.equal(mapping(z, truncation_psi=1.0, truncation_cutoff=2), ws)


@pytest.mark.parametrize("cutoff", [0, 1, 4, 6])
def test_truncation_cutoff(cutoff):
    mapping = make_generator().mapping
    z = torch.randn(3, 6)
    ws, truncated = mapping(z), mapping(z, truncation_psi=0.5, truncation_cutoff=cutoff)
    assert truncated.shape == ws.shape
    torch.testing.assert_close(truncated[:, :cutoff], mapping(z, truncation_psi=0.5)[:, :cutoff])
    assert torch.equal(truncated[:, cutoff:], ws[:, cutoff:])


def test_the_generator_passes_truncation_and_noise_on():
    generator = make_generator()
    z = torch.randn(2, 6)
    ws = generator.mapping(z, truncation_psi=0.5, truncation_cutoff=3)
    expected = generator.synthesis(ws, noise_mode="none")
    assert torch.equal(generator(z, truncation_psi=0.5, truncation_cutoff=3, noise_mode="none"), expected)


def test_mapping_ignores_the_length_of_z():
    mapping = make_generator().mapping
    z = torch.randn(3, 6)
    torch.testing.assert_close(mapping(z), mapping(5 * z))


def test_labels_matter_in_both_networks():
    generator, discriminator = make_generator(c_dim=3), make_discriminator(c_dim=3)
    z, images = torch.randn(2, 6), torch.randn(2, 3, 16, 16)
    a, b = torch.eye(3)[[0, 0]], torch.eye(3)[[1, 1]]
    assert not torch.allclose(generator(z, a), generator(z, b))
    assert not torch.allclose(discriminator(images, a), discriminator(images, b))


def test_the_running_mean_of_w():
    mapping = make_generator().mapping
    before, batch_mean = mapping.w_avg.clone(), torch.randn(10)
    mapping.update_w_avg(batch_mean)
    torch.testing.assert_close(mapping.w_avg, 0.995 * before + 0.005 * batch_mean)


def test_style_mixing_changes_what_its_layers_can_change():
    """Layers below the crossover see the first style only: the 4 px block's output stays."""
    generator = make_generator()
    first, second = generator.mapping(torch.randn(1, 6)), generator.mapping(torch.randn(1, 6))
    seen: list[torch.Tensor] = []
    generator.synthesis.b4.register_forward_hook(lambda module, args, output: seen.append(output[0].detach()))
    images = [generator.synthesis(torch.cat([first[:, :k], second[:, k:]], dim=1)) for k in (6, 3, 0)]
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert len({round(image.std().item(), 6) for image in images}) == 3
    torch.testing.assert_close(images[0], generator.synthesis(first))


def test_every_style_reaches_the_layer_that_it_belongs_to():
    """Style i moves layer i of NVlabs' order; a block's colours take the style of the next block's first layer."""
    synthesis = make_generator().synthesis
    ws = torch.randn(1, 6, 10)
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


def test_noise_modes():
    generator = make_generator()
    ws = generator.mapping(torch.randn(2, 6))
    const, none = generator.synthesis(ws), generator.synthesis(ws, noise_mode="none")
    assert torch.equal(const, generator.synthesis(ws, noise_mode="const"))
    assert not torch.allclose(const, none)
    torch.manual_seed(1)
    random = generator.synthesis(ws, noise_mode="random")
    assert not torch.allclose(random, generator.synthesis(ws, noise_mode="random"))
    torch.manual_seed(1)
    assert torch.equal(random, generator.synthesis(ws, noise_mode="random"))
    with pytest.raises(UserError, match=r"^noise_mode must be one of const, random, none, got 'loud'$"):
        generator.synthesis(ws, noise_mode="loud")


@pytest.mark.parametrize("change", [lambda noise: noise[:1], lambda noise: noise * 2, lambda noise: []])
def test_one_map_of_noise_per_layer(change):
    generator = make_generator()
    ws, noise = generator.mapping(torch.randn(2, 6)), generator.synthesis.const_noise()
    assert torch.equal(generator.synthesis(ws, noise=noise), generator.synthesis(ws))
    num = len(change(noise))
    with pytest.raises(UserError, match=rf"^noise must have {len(noise)} maps, one per layer, got {num}$"):
        generator.synthesis(ws, noise=change(noise))


def test_random_noise_differs_between_the_images_of_a_batch():
    generator = make_generator()
    images = generator(torch.randn(1, 6).repeat(2, 1), noise_mode="random")
    assert not torch.allclose(images[0], images[1])


def test_given_noise_replaces_the_mode():
    generator = make_generator()
    synthesis, ws = generator.synthesis, generator.mapping(torch.randn(2, 6))
    assert synthesis.noise_shapes == [(4, 4), (8, 8), (8, 8), (16, 16), (16, 16)]
    assert [tuple(n.shape) for n in synthesis.const_noise()] == [(1, 1, *shape) for shape in synthesis.noise_shapes]
    assert torch.equal(synthesis(ws, noise=synthesis.const_noise(), noise_mode="none"), synthesis(ws))
    silence = [torch.zeros(2, 1, *shape) for shape in synthesis.noise_shapes]
    torch.testing.assert_close(synthesis(ws, noise=silence), synthesis(ws, noise_mode="none"))


def test_noise_enters_before_the_activation_with_its_strength():
    layer = make_generator().synthesis.b8.conv1
    x, w, noise = torch.randn(1, 8, 8, 8), torch.randn(1, 10), torch.randn(1, 1, 8, 8)
    layer.bias.data.normal_()
    without = layer(x, w, None)
    before = torch.where(without > 0, without, without / 0.2)
    expected = torch.nn.functional.leaky_relu(before + noise * layer.noise_strength * math.sqrt(2), 0.2)
    torch.testing.assert_close(layer(x, w, noise), expected, rtol=1e-4, atol=1e-5)


# Clamps


def test_conv_clamp_limits_every_activation():
    generator, discriminator = make_generator(conv_clamp=0.05), make_discriminator(conv_clamp=0.05)
    for weight in discriminator.parameters():
        weight.data.mul_(20)
    largest: dict[str, float] = {}

    def watch(name: str):
        return lambda module, args, output: largest.update({name: output.abs().max().item()})

    for name, module in [*generator.named_modules(), *discriminator.named_modules()]:
        if name.endswith(("conv0", "conv1", "torgb", "fromrgb", "b4.conv")):
            module.register_forward_hook(watch(name))
    discriminator(generator(torch.randn(4, 6)))
    assert len(largest) == 5 + 3 + 6
    for name, value in largest.items():
        limit = 0.05 * math.sqrt(0.5) if name in ("b16.conv1", "b8.conv1") else 0.05
        assert value == pytest.approx(limit), name


def test_a_wide_clamp_changes_nothing():
    plain, clamped = make_generator(), make_generator(conv_clamp=256)
    clamped.load_state_dict(plain.state_dict())
    z = torch.randn(2, 6)
    assert torch.equal(plain(z), clamped(z))


# Inputs that do not fit


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g, d: g.mapping(torch.zeros(2, 5), one_hot(2, 3)), r"^z must be \(N, 6\), got \(2, 5\)$"),
        (lambda g, d: g.mapping(torch.zeros(2, 6)), r"^labels must be \(N, 3\), got None$"),
        (lambda g, d: g.mapping(torch.zeros(2, 6), one_hot(2, 4)), r"^labels must be \(N, 3\), got \(2, 4\)$"),
        (lambda g, d: g.synthesis(torch.zeros(2, 4, 10)), r"^ws must be \(N, 6, 10\), got \(2, 4, 10\)$"),
        (lambda g, d: g.synthesis(torch.zeros(2, 10)), r"^ws must be \(N, 6, 10\), got \(2, 10\)$"),
        (
            lambda g, d: d(torch.zeros(2, 3, 8, 8), one_hot(2, 3)),
            r"^images must be \(N, 3, 16, 16\), got \(2, 3, 8, 8\)$",
        ),
        (
            lambda g, d: d(torch.zeros(2, 1, 16, 16), one_hot(2, 3)),
            r"^images must be \(N, 3, 16, 16\), got \(2, 1, 16, 16\)$",
        ),
        (lambda g, d: d(torch.zeros(2, 3, 16, 16)), r"^labels must be \(N, 3\), got None$"),
    ],
)
def test_inputs_that_do_not_fit(call, message):
    with pytest.raises(UserError, match=message):
        call(make_generator(c_dim=3), make_discriminator(c_dim=3))


# Parts of the networks written out


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """Biases among them, which start at one number."""
    for parameter in module.parameters():
        parameter.data.normal_()
    return module


def activated(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def test_colours_are_modulated_and_not_demodulated():
    layer = randomised(ToRGB(8, 3, w_dim=5))
    x, w = torch.randn(2, 8, 4, 4), torch.randn(2, 5)
    styles = (w @ layer.affine.weight.t() / math.sqrt(5) + layer.affine.bias) / math.sqrt(8)
    expected = F.conv2d(x * styles[:, :, None, None], layer.weight) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, w), expected, rtol=1e-4, atol=1e-5)


def test_both_branches_of_a_residual_block_are_divided_by_sqrt_2():
    block = randomised(DiscriminatorBlock(4, 6, resolution=8, img_channels=3, is_residual=True))
    image = torch.randn(2, 3, 8, 8)
    x = activated(F.conv2d(image, block.fromrgb.weight / math.sqrt(3), block.fromrgb.bias))
    y = activated(F.conv2d(x, block.conv0.weight / 6, block.conv0.bias, padding=1))
    y = activated(F.conv2d(blur(y, padding=2), block.conv1.weight / 6, block.conv1.bias, stride=2))
    skipped = F.conv2d(downsample(x), block.skip.weight / 2)
    torch.testing.assert_close(block(None, image), (y + skipped) / math.sqrt(2), rtol=1e-4, atol=1e-5)


def test_with_labels_the_logit_is_a_projection():
    """On what the label is mapped to, divided by the root of the dimension (StyleGAN2-ADA's code)."""
    discriminator = Discriminator(resolution=16, c_dim=3, channel_base=128, channel_max=8, mbstd_group_size=2)
    images, c = torch.randn(4, 3, 16, 16), torch.eye(3)[[0, 1, 2, 0]]
    features = discriminator.epilogue(discriminator.features(images))
    assert features.shape == (4, 8)
    assert discriminator.mapping.num_layers == 8
    expected = (features * discriminator.mapping.w(None, c)).sum(dim=1, keepdim=True) / math.sqrt(8)
    torch.testing.assert_close(discriminator(images, c), expected)


def test_all_weights_start_from_a_standard_normal():
    """Equalised: what scales them is in the forward pass. The mapping's are divided by its learning rate's factor."""
    sizes = {"resolution": 16, "c_dim": 40, "channel_base": 1024, "channel_max": 32}
    for network in (Generator(z_dim=60, w_dim=60, **sizes), Discriminator(**sizes)):
        for name, tensor in network.state_dict().items():
            if tensor.numel() > 200 and not name.endswith("bias"):
                deviation = 100 if name.startswith("mapping.fc") else 1
                assert tensor.std().item() == pytest.approx(deviation, rel=0.15), name
                assert abs(tensor.mean().item()) < 0.25 * deviation, name
