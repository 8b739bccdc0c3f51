"""Equalised layers and the modulated convolution against the formulas written out."""

import contextlib
import functools
import math
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from wplus.losses.regularisers import r1_penalty
from wplus.models import layers, ops, r3gan, stylegan2
from wplus.models.convolution import no_weight_gradients
from wplus.models.ops import blur, downsample
from wplus.models.stylegan2 import modulated_conv2d


def published_leaky_relu(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def published_modulated_conv(x, weight, styles, *, up: int = 1) -> torch.Tensor:
    """StyleGAN2 as published: one normalised weight per sample, all samples in one grouped convolution."""
    num, ins = styles.shape
    weights = weight[None] * styles[:, None, :, None, None]  # (N, O, I, k, k)
    weights = weights * (weights.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, num * ins, *x.shape[2:])
    if up == 1:
        y = F.conv2d(x, weights.flatten(0, 1), padding=weight.shape[2] // 2, groups=num)
        return y.view(num, -1, *y.shape[2:])
    y = F.conv_transpose2d(x, weights.transpose(1, 2).flatten(0, 1), stride=2, groups=num)
    return blur(y.view(num, -1, *y.shape[2:]), padding=1, gain=4.0)


def form(per_sample: bool):
    """Force one of the two forms of the modulated convolution."""

    @functools.wraps(modulated_conv2d)
    def convolve(*args, **options):
        with mock.patch("wplus.models.ops.prefers_per_sample_weights", return_value=per_sample):
            return modulated_conv2d(*args, **options)

    return convolve


FORMS = [pytest.param(form(False), id="maps"), pytest.param(form(True), id="weights")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("up", "kernel"), [(1, 1), (1, 3), (2, 3)])
def test_modulated_conv_equals_the_published_form(form, up, kernel):
    x, weight = torch.randn(3, 4, 6, 6, dtype=torch.float64), torch.randn(5, 4, kernel, kernel, dtype=torch.float64)
    styles, noise = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 1, 6 * up, 6 * up, dtype=torch.float64)
    expected = published_modulated_conv(x, weight, styles, up=up)
    y = form(x, weight, styles, gain=1.0, up=up, offset=None)
    assert y.shape == (3, 5, 6 * up, 6 * up)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(form(x, weight, styles, gain=3.0, up=up, offset=noise), 3 * expected + noise)
    torch.testing.assert_close(form(x, weight, styles, gain=3.0, up=up, offset=noise[:1]), 3 * expected + noise[:1])


@pytest.mark.parametrize("skip_weights", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_modulated_conv_has_the_published_forms_second_derivatives(form, skip_weights):
    """Also where the first pass skips the gradients of parameters: a modulated weight carries those of the styles."""
    x, weight = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(3, 3, 3, 3, dtype=torch.float64)
    styles = torch.randn(2, 3, dtype=torch.float64)

    def penalty_gradients(convolve, around) -> list[torch.Tensor]:
        leaves = [t.clone().requires_grad_() for t in (x, weight, styles)]
        y = convolve(*leaves).sin().sum()
        with around:
            (by_style,) = torch.autograd.grad(y, leaves[2], create_graph=True)
        return torch.autograd.grad(by_style.square().sum(), leaves)

    around = no_weight_gradients() if skip_weights else contextlib.nullcontext()
    ours = penalty_gradients(functools.partial(form, gain=1.0, up=2, offset=None), around)
    expected = penalty_gradients(functools.partial(published_modulated_conv, up=2), contextlib.nullcontext())
    torch.testing.assert_close(ours, expected)


def test_the_form_follows_the_sizes():
    """Many pixels and few weights: scale the weights. The result does not depend on the choice."""
    few, many = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 32, 32)
    weight, styles = torch.randn(4, 4, 3, 3), torch.randn(2, 4)
    for x, per_sample in ((few, False), (many, True)):
        assert ops.prefers_per_sample_weights(x, weight, 1) == per_sample
        y = modulated_conv2d(x, weight, styles, gain=2.0)
        assert torch.equal(y, form(per_sample)(x, weight, styles, gain=2.0))
        torch.testing.assert_close(y, 2 * published_modulated_conv(x, weight, styles), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activate", [False, True])
@pytest.mark.parametrize("lr_mul", [1.0, 0.01])
def test_equalized_linear(activate, lr_mul):
    layer = layers.EqualizedLinear(7, 5, activate=activate, lr_mul=lr_mul, bias_init=1.0).double()
    x = torch.randn(3, 7, dtype=torch.float64)
    expected = F.linear(x, layer.weight * lr_mul / math.sqrt(7), layer.bias * lr_mul)
    torch.testing.assert_close(layer(x), published_leaky_relu(expected) if activate else expected)
    assert torch.equal(layer.bias, torch.ones(5, dtype=torch.float64))
    assert layers.EqualizedLinear(512, 512, lr_mul=lr_mul).weight.std().item() == pytest.approx(1 / lr_mul, rel=0.05)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_equalized_conv_against_the_published_order(kernel, down, bias):
    """Filter, convolve, bias, activate, gain; the code drops samples before a 1x1 and folds gains into the weights."""
    layer = layers.EqualizedConv2d(3, 4, kernel, bias=bias, activate=bias, down=down, gain=math.sqrt(0.5)).double()
    if bias:
        torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    weight = layer.weight / math.sqrt(3 * kernel**2)
    if down == 1:
        y = F.conv2d(x, weight, padding=kernel // 2)
    elif kernel == 1:
        y = F.conv2d(downsample(x), weight)
    else:
        y = F.conv2d(blur(x, padding=2), weight, stride=2)
    expected = published_leaky_relu(y + layer.bias.view(1, -1, 1, 1)) if bias else y
    torch.testing.assert_close(layer(x), expected * math.sqrt(0.5))


def test_conv_clamp_limits_before_the_gain():
    plain, clamped = (layers.EqualizedConv2d(3, 4, 3, activate=True, gain=0.5, conv_clamp=x) for x in (None, 2.0))
    clamped.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 6, 6) * 10
    torch.testing.assert_close(clamped(x), plain(x).clamp(-1, 1))
    assert plain(x).abs().max() > 1


SMALL = {"resolution": 16, "channel_base": 128, "channel_max": 8}


@pytest.mark.parametrize("family", [stylegan2, r3gan])
def test_bf16_is_a_way_to_run_not_a_property_of_the_weights(family):
    generator, discriminator, z = family.Generator(z_dim=64, **SMALL), family.Discriminator(**SMALL), torch.randn(4, 64)
    exact, before = generator(z), {name: value.clone() for name, value in generator.state_dict().items()}
    for net in (generator, discriminator):
        layers.set_bf16_resolutions(net, 2)
        blocks = [block for block in net.modules() if isinstance(block, layers.ResolutionBlock)]
        assert {b.resolution for b in blocks if b.compute_dtype == torch.bfloat16} == {8, 16}
        assert {p.dtype for p in net.parameters()} == {torch.float32}
    images = generator(z)
    assert images.dtype == discriminator(images).dtype == torch.float32
    assert not torch.equal(images, exact)
    assert (images - exact).abs().max() < 0.05 * exact.std()
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    layers.set_bf16_resolutions(generator, 0)
    assert torch.equal(generator(z), exact)


@pytest.mark.parametrize("family", [stylegan2, r3gan])
def test_four_pixels_are_never_in_bf16(family):
    for net in (family.Generator(z_dim=64, **SMALL), family.Discriminator(**SMALL)):
        layers.set_bf16_resolutions(net, 4)  # there are three
        blocks = [block for block in net.modules() if isinstance(block, layers.ResolutionBlock)]
        assert {b.resolution for b in blocks if b.compute_dtype == torch.bfloat16} == {8, 16}


def test_colours_of_bf16_maps_are_summed_in_float32():
    """A colour is the sum over resolutions: each term is rounded once, their sum never."""
    generator = stylegan2.Generator(z_dim=64, **SMALL)
    layers.set_bf16_resolutions(generator, 4)
    seen: list[torch.Tensor] = []
    for block in generator.synthesis.blocks:
        block.register_forward_hook(lambda _, __, found: seen.append(found[1]))
        block.torgb.register_forward_hook(lambda _, __, found: seen.append(found))
    image = generator(torch.randn(4, 64))
    assert {each.dtype for each in seen} == {torch.float32}
    assert torch.equal(image, ops.upsample(seen[-3]) + seen[-2])
    assert not torch.equal(image, image.to(torch.bfloat16).float())


def test_a_penalty_moves_all_parameters_of_a_layer_or_none():
    """Zero is a gradient, too: biases of the last layers, on which a slope does not depend, have one."""
    net = stylegan2.Discriminator(**SMALL)
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    r1_penalty(net(images), images).sum().backward()
    assert {name for name, p in net.named_parameters() if p.grad is None} == {"b4.out.bias"}
