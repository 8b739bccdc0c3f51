"""The first GAN against its formulas: maxout, the sigmoid in our range, dropout."""

import torch
from torch import nn

from wplus.models.mlp_gan import Discriminator, Generator, Maxout, dropped


def test_maxout_is_the_largest_of_its_pieces():
    layer = Maxout(5, 3, num_pieces=4)
    x = torch.randn(7, 5)
    weight, bias = layer.linear.weight.view(3, 4, 5), layer.linear.bias.view(3, 4)
    expected = torch.stack([(weight[:, j] @ x.t() + bias[:, j, None]).t() for j in range(4)]).max(dim=0).values
    torch.testing.assert_close(layer(x), expected)


def test_the_generator_is_its_formula():
    generator = Generator(resolution=4, z_dim=5, width=6, img_channels=1)
    z = torch.randn(3, 5)
    first, second = generator.synthesis.hidden
    x = torch.relu(torch.relu(z @ first.weight.t() + first.bias) @ second.weight.t() + second.bias)
    logits = x @ generator.synthesis.out.weight.t() + generator.synthesis.out.bias
    torch.testing.assert_close(generator(z), (2 * torch.sigmoid(logits) - 1).view(3, 1, 4, 4))


def test_labels_are_inputs_of_both():
    generator = Generator(resolution=4, z_dim=5, width=6, c_dim=2)
    z, c = torch.randn(2, 5), torch.eye(2)
    assert torch.equal(generator.mapping(z, c)[:, 0], torch.cat([z, c], dim=1))
    assert torch.equal(generator.mapping(z, c, truncation_psi=0.5)[:, 0], torch.cat([z / 2, c], dim=1))
    assert not torch.equal(generator(z, c), generator(z, c.flip(1)))


def test_the_authors_settings_for_mnist():
    """1200 units twice; 240 maxout units of 5 pieces twice; dropout of a fifth of the pixels and half of the units."""
    generator, discriminator = Generator(resolution=8), Discriminator(resolution=8)
    assert [layer.weight.shape for layer in generator.synthesis.hidden] == [(1200, 100), (1200, 1200)]
    kinds = [type(layer) for layer in discriminator.layers]
    assert kinds == [nn.Dropout, Maxout, nn.Dropout, Maxout, nn.Dropout, nn.Linear]
    assert [layer.p for layer in discriminator.layers if isinstance(layer, nn.Dropout)] == [0.2, 0.5, 0.5]
    maxouts = [layer for layer in discriminator.layers if isinstance(layer, Maxout)]
    assert [layer.linear.weight.shape for layer in maxouts] == [(1200, 3 * 64), (1200, 240)]
    assert [layer.num_pieces for layer in maxouts] == [5, 5]


def test_dropout_is_torchs_on_one_process():
    discriminator = Discriminator(resolution=8, width=6)
    images = torch.randn(5, 3, 8, 8)
    for training in (True, False):
        discriminator.train(training)
        torch.manual_seed(3)
        expected = discriminator.layers(images.flatten(1))
        torch.manual_seed(3)
        assert torch.equal(discriminator(images, None), expected)


def test_processes_take_their_own_rows_of_one_mask(monkeypatch):
    x, parts = torch.randn(6, 4), []
    torch.manual_seed(3)
    whole = dropped(x, 0.5)
    for rank in range(2):
        monkeypatch.setattr("wplus.models.layers.rank_and_world", lambda rank=rank: (rank, 2))
        torch.manual_seed(3)
        parts.append(dropped(x[rank::2], 0.5))
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)
