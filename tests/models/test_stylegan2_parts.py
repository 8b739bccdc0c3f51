"""Parts of StyleGAN2's networks written out: colours, residual block, projection on a label; how all weights start."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from wplus.models.ops import blur, downsample
from wplus.models.stylegan2 import Discriminator, DiscriminatorBlock, Generator, ToRGB


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
