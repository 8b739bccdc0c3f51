"""DCGAN's published shape and start, and that a label reaches both networks."""

from __future__ import annotations

import torch
from torch import nn

from wplus.models.dcgan import Discriminator, Generator

SMALL = {"resolution": 16, "channel_base": 64, "channel_max": 8}


def test_the_published_sizes():
    """Figure 1: 1024, 512, 256 and 128 feature maps from 4 to 32 px for an image of 64."""
    with torch.device("meta"):
        generator, discriminator = Generator(resolution=64), Discriminator(resolution=64)
    assert [norm.num_features for norm in generator.synthesis.norms] == [1024, 512, 256, 128]
    convolutions = [*generator.synthesis.ups, generator.synthesis.out, discriminator.read, *discriminator.downs]
    assert all((layer.kernel_size, layer.stride) == ((5, 5), (2, 2)) for layer in convolutions)
    assert [layer.out_channels for layer in [discriminator.read, *discriminator.downs]] == [128, 256, 512, 1024]
    assert len(discriminator.norms) == 3  # none where the image is read


def test_the_start():
    for network in (Generator(resolution=16, channel_base=512), Discriminator(resolution=16, channel_base=512)):
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                torch.testing.assert_close(module.weight.std().item(), 0.02, rtol=0.1, atol=0)
            if isinstance(module, nn.BatchNorm2d):
                torch.testing.assert_close(module.weight.mean().item(), 1.0, rtol=0.02, atol=0)


def test_normalised_over_the_batch_in_training_only():
    generator = Generator(z_dim=4, **SMALL)
    z = torch.randn(8, 4)
    features: list[torch.Tensor] = []
    generator.synthesis.norms[1].register_forward_hook(lambda module, inputs, output: features.append(output))
    generator.train()(z)
    norm = generator.synthesis.norms[1]
    mean, deviation = features[0].mean(dim=(0, 2, 3)), features[0].std(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, norm.bias.detach(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(deviation, norm.weight.detach(), rtol=1e-2, atol=1e-2)
    generator.eval()(z)
    assert not torch.allclose(features[1], features[0], atol=1e-2)


def test_labels_are_maps_beside_the_image():
    discriminator = Discriminator(c_dim=3, **SMALL)
    c = torch.eye(3)[[0, 2]]
    shown = discriminator._with_label(torch.zeros(2, 3, 16, 16), c)
    assert shown.shape == (2, 6, 16, 16)
    assert torch.equal(shown[:, 3:].mean(dim=(2, 3)), c)


def test_images_are_between_minus_one_and_one():
    images = Generator(z_dim=4, **SMALL)(10 * torch.randn(4, 4))
    assert images.abs().max() <= 1
