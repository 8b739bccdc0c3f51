"""DCGAN's published shape and initialisation, and conditioning of both networks on a label."""

import torch
import torch.nn.functional as F
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
    """Section 4: N(0, 0.02) for all weights; N(1, 0.02) for the gains, and no bias."""
    for network in (Generator(resolution=16, channel_base=1024), Discriminator(resolution=16, channel_base=1024)):
        kinds = set()
        for module in network.modules():
            mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
            if not hasattr(module, "weight"):
                continue
            kinds.add(type(module))
            torch.testing.assert_close(module.weight.mean().item(), mean, rtol=0, atol=0.01)
            torch.testing.assert_close(module.weight.std().item(), 0.02, rtol=0.25, atol=0)
            assert module.bias is None or not module.bias.any()
        assert nn.Linear in kinds
        assert nn.BatchNorm2d in kinds


def test_labels_are_maps_beside_the_image():
    discriminator = Discriminator(c_dim=3, **SMALL)
    c = torch.eye(3)[[0, 2]]
    seen: list[torch.Tensor] = []
    discriminator.read.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    discriminator(torch.zeros(2, 3, 16, 16), c)
    assert torch.equal(seen[0], torch.cat([torch.zeros(2, 3, 16, 16), c[:, :, None, None].expand(-1, -1, 16, 16)], 1))


def normalised(x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
    """Normalise by the statistics of this batch."""
    mean, variance = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def larger(network: nn.Module) -> None:
    """Scale weights so that every layer, including its biases, affects the result."""
    for parameter in network.parameters():
        parameter.data.normal_(0.0, 0.3)


def test_the_generator_is_its_formula():
    """Figure 1: batch norm and ReLU after every layer but the last, which has a tanh."""
    generator, z = Generator(z_dim=4, **SMALL), torch.randn(5, 4)
    larger(generator)
    synthesis = generator.train().synthesis
    x = normalised((z @ synthesis.project.weight.t()).view(5, 8, 4, 4), synthesis.norms[0]).clamp(min=0)
    x = F.conv_transpose2d(x, synthesis.ups[0].weight, stride=2, padding=2, output_padding=1)
    x = normalised(x, synthesis.norms[1]).clamp(min=0)
    x = F.conv_transpose2d(x, synthesis.out.weight, synthesis.out.bias, stride=2, padding=2, output_padding=1)
    torch.testing.assert_close(generator(z), x.tanh(), rtol=1e-4, atol=1e-5)


def test_the_discriminator_is_its_formula():
    """Section 3: leaky ReLU of slope 0.2, batch norm everywhere except in the first layer; a logit."""
    discriminator, images = Discriminator(**SMALL).train(), torch.randn(5, 3, 16, 16)
    larger(discriminator)
    x = F.conv2d(images, discriminator.read.weight, discriminator.read.bias, stride=2, padding=2)
    x = F.conv2d(F.leaky_relu(x, 0.2), discriminator.downs[0].weight, stride=2, padding=2)
    x = F.leaky_relu(normalised(x, discriminator.norms[0]), 0.2)
    expected = x.flatten(1) @ discriminator.out.weight.t() + discriminator.out.bias
    torch.testing.assert_close(discriminator(images), expected, rtol=1e-4, atol=1e-4)
