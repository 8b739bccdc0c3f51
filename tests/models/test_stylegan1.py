"""StyleGAN's published sizes, AdaIN, noise, mapping and blur against their formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from wplus.models import progan
from wplus.models.progressive import set_lod
from wplus.models.stylegan1 import Discriminator, Generator, StyledLayer

SMALL = {"resolution": 16, "channel_base": 64, "channel_max": 8}


def make(**changes) -> Generator:
    return Generator(**{"z_dim": 6, "w_dim": 6, "num_mapping_layers": 2, **SMALL, **changes})


def test_the_published_sizes():
    """26.2 million weights at 1024 px (table 2 of the paper's section 3 counts the mapping's), 18 layers."""
    with torch.device("meta"):
        generator = Generator(resolution=1024)
    number = sum(p.numel() for p in generator.parameters())
    number -= sum(p.numel() for p in generator.synthesis.torgb[:-1].parameters())
    assert round(number / 1e6, 1) == 26.2
    assert generator.num_ws == 18
    assert [layer.affine.weight.shape[0] for layer in generator.synthesis.noise_layers[::2]] == [
        2 * width for width in [512] * 4 + [256, 128, 64, 32, 16]
    ]


def test_a_layer_is_its_formula():
    """Convolution, blur, noise by a weight per map, bias, leaky ReLU, normalisation, style: in this order."""
    layer = StyledLayer(5, 4, w_dim=6, resolution=16, up=2)
    for parameter in (layer.noise_strength, layer.bias, layer.affine.bias):
        parameter.data.normal_()
    x, w, noise = torch.randn(3, 5, 8, 8), torch.randn(3, 6), torch.randn(3, 1, 16, 16)
    y = F.conv2d(F.interpolate(x, scale_factor=2), layer.conv.weight * math.sqrt(2 / 45), padding=1)
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    y = F.conv2d(y, kernel.expand(4, 1, 3, 3), padding=1, groups=4)
    y = F.leaky_relu(y + noise * layer.noise_strength[:, None, None] + layer.bias[:, None, None], 0.2)
    y = F.instance_norm(y, eps=1e-8)
    styles = w @ layer.affine.weight.t() / math.sqrt(6) + layer.affine.bias
    scale, shift = styles[:, :, None, None].chunk(2, dim=1)
    torch.testing.assert_close(layer(x, layer.affine(w), noise), y * (scale + 1) + shift, rtol=1e-3, atol=1e-4)


def test_the_start():
    wide = make(z_dim=60, w_dim=60, c_dim=40, channel_base=1024, channel_max=32)
    assert (wide.synthesis.const == 1).all()
    assert not any(layer.noise_strength.any() or layer.affine.bias.any() for layer in wide.synthesis.noise_layers)
    assert wide.mapping.label.std().item() == pytest.approx(1, rel=0.05)
    assert wide.mapping.fc0.weight.std().item() == pytest.approx(100, rel=0.05)  # 1 / lr_mul
    for layer in wide.synthesis.noise_layers[1:]:
        assert layer.conv.weight.std().item() == pytest.approx(1, rel=0.05)
        assert layer.affine.weight.std().item() == pytest.approx(1, rel=0.05)


def test_the_mapping_is_its_formula():
    generator = make(c_dim=3)
    mapping, z, c = generator.mapping, torch.randn(4, 6), torch.eye(3)[[0, 1, 2, 0]]
    x = torch.cat([z, c @ mapping.label], dim=1)
    x = x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
    for layer in (mapping.fc0, mapping.fc1):
        gain = 0.01 * math.sqrt(2 / layer.weight.shape[1])
        x = F.leaky_relu(x @ layer.weight.t() * gain + 0.01 * layer.bias, 0.2)
    torch.testing.assert_close(mapping(z, c), x[:, None].expand(-1, generator.num_ws, -1))
    mapping.update_w_avg(torch.ones(6))
    torch.testing.assert_close(mapping.w_avg, torch.full((6,), 0.005))
    half = mapping(z, c, truncation_psi=0.5, truncation_cutoff=2)
    torch.testing.assert_close(half[:, 0], (x + 0.005) / 2)
    torch.testing.assert_close(half[:, 2:], x[:, None].expand(-1, generator.num_ws - 2, -1))


def test_layers_in_use_while_it_grows():
    generator = make()
    for lod, layers in ((2.0, 2), (1.5, 4), (1.0, 4), (0.5, 6), (0.0, 6)):
        set_lod(generator, lod)
        assert generator.num_active_ws == layers
        ws = torch.randn(1, 6, 6)
        changed = ws.clone()
        changed[:, layers:] += 1
        assert torch.equal(generator.synthesis(changed), generator.synthesis(ws))


def test_the_discriminator_blurs():
    block = Discriminator(**SMALL).blocks[0]
    features = torch.randn(2, block.conv0.weight.shape[0], 8, 8)
    expected = block.conv1(progan.blur(block.conv0(features)))
    torch.testing.assert_close(block(features), expected)


def test_every_layer_takes_its_own_style_and_its_own_noise():
    synthesis, seen = make().synthesis, []
    for layer in synthesis.layers:
        layer.register_forward_pre_hook(lambda module, given: seen.append(given[1:]))
    ws, noise = torch.randn(2, 6, 6), synthesis.random_noise(2)
    synthesis(ws, noise=noise)
    for index, (style, map_) in enumerate(seen):
        assert torch.equal(style, synthesis.layers[index].affine(ws[:, index]))
        assert map_ is noise[index]
    assert len(seen) == 6
