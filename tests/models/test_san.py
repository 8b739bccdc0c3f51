"""SAN against the paper's two losses, on every discriminator with a linear last layer; and its file."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import wplus
from wplus.errors import UserError
from wplus.models import dcgan, mlp_gan, progan, r3gan, stylegan1, stylegan2
from wplus.models.san import Direction, San

SIZE: dict[str, Any] = {"resolution": 16, "channel_base": 64, "channel_max": 8}
KINDS = {
    "stylegan2": lambda: stylegan2.Discriminator(mbstd_group_size=2, **SIZE),
    "stylegan1": lambda: stylegan1.Discriminator(mbstd_group_size=2, **SIZE),
    "progan": lambda: progan.Discriminator(mbstd_group_size=2, **SIZE),
    "r3gan": lambda: r3gan.Discriminator(**SIZE),
    "dcgan": lambda: dcgan.Discriminator(**SIZE),
}
IMAGES = torch.linspace(-1, 1, 4 * 3 * 16 * 16).sin().view(4, 3, 16, 16)


def test_two_losses_by_hand():
    """L(<sg w, h>) moves h; -E<w, sg h(x)> + E<w, sg h(G(z))> moves w along the sphere."""
    layer, h = Direction(5), torch.randn(4, 5, requires_grad=True)
    layer.bias.data.normal_()
    layer.teaches = True
    columns = layer(h)
    assert torch.equal(columns[:, 0], columns[:, 1])
    real, fake = columns.chunk(2)
    loss = F.softplus(-real[:, 0]).sum() + F.softplus(fake[:, 0]).sum() + (fake[:, 1] - real[:, 1]).sum()
    loss.backward()
    w = layer.weight.detach()[0]
    unit = w / w.norm()
    shifted = h.detach() + layer.bias.detach()
    slope = torch.cat([-torch.sigmoid(-(shifted[:2] @ unit)), torch.sigmoid(shifted[2:] @ unit)])
    torch.testing.assert_close(h.grad, slope[:, None] * unit)
    pull = shifted[2:].sum(dim=0) - shifted[:2].sum(dim=0)
    torch.testing.assert_close(layer.weight.grad[0], (pull - (pull @ unit) * unit) / w.norm())


@pytest.mark.parametrize("kind", KINDS)
def test_on_every_discriminator(kind):
    net = San(pixel=KINDS[kind](), resolution=16).eval()
    logits = net(IMAGES)
    assert logits.shape == (4, 1)
    columns = net.learned_logits(IMAGES, None)
    torch.testing.assert_close(columns, logits.expand(-1, 2))
    logits.sum().backward()
    assert net.direction.weight.grad is None
    assert net.direction.bias.grad.abs().sum() > 0
    columns = net.learned_logits(IMAGES, None)
    assert torch.autograd.grad(columns[:, 1].sum(), net.direction.weight)[0].abs().sum() > 0
    net.direction.weight.data *= 3  # its length says nothing
    torch.testing.assert_close(net(IMAGES), logits)


def test_a_file_rebuilds_it(tmp_path):
    net = San(pixel=KINDS["stylegan2"](), resolution=16).eval()
    found = wplus.load(wplus.save(tmp_path / "d.safetensors", discriminator=net)).discriminator
    assert isinstance(found, San)
    assert torch.equal(found(IMAGES), net(IMAGES))


def test_refusals():
    with pytest.raises(UserError, match="needs a discriminator without labels .* got 3 classes"):
        San(pixel=stylegan2.Discriminator(c_dim=3, **SIZE), resolution=16, c_dim=3)
    with pytest.raises(UserError, match="a last layer that is not linear"):
        San(pixel=mlp_gan.Discriminator(resolution=16), resolution=16)
