from __future__ import annotations

import dataclasses
import importlib

import pytest
import torch

from wplus.errors import UserError
from wplus.interpolation.path_metrics.critic import Critic, company_of, logit
from wplus.models.stylegan2 import Discriminator


def discriminator(**options: object) -> Discriminator:
    net = Discriminator(resolution=8, channel_base=64, channel_max=8, num_mapping_layers=2, **options)
    return net.eval().requires_grad_(False)


def test_a_logit_is_that_of_the_image_among_the_references():
    net, images, references = discriminator(), torch.randn(5, 3, 8, 8), torch.randn(6, 3, 8, 8)
    found = Critic(net, references).logits(images)
    expected = [
        torch.stack([net(torch.cat([image[None], some]))[0, 0] for some in references.split(3)]).mean()
        for image in images
    ]
    torch.testing.assert_close(found, torch.stack(expected).double())


def test_neighbours_change_nothing():
    critic, images = Critic(discriminator(), torch.randn(6, 3, 8, 8)), torch.randn(7, 3, 8, 8)
    whole = critic.logits(images)
    torch.testing.assert_close(critic.logits(images, batch_size=2), whole)
    torch.testing.assert_close(critic.logits(torch.cat([images[:1], 9 * images[3:]]))[0], whole[0])


def test_dip_of_the_middle(make_walk, judges):
    net = discriminator(mbstd_group_size=1)
    critic = Critic(net, torch.empty(0, 3, 8, 8))
    walk = make_walk(lambda t: (t.view(-1, 1, 1, 1) - 0.5).float().expand(-1, 3, 8, 8), 5)
    values = logit(walk, dataclasses.replace(judges, critic=critic))
    logits = net(walk.images)[:, 0].double()
    torch.testing.assert_close(walk.along["logit"], logits)
    assert values["logit_dip"] == pytest.approx(float((logits[0] + logits[4]) / 2 - logits[2]), rel=1e-5)
    assert values["logit_min"] == pytest.approx(float(logits.min()))
    assert values["logit_mean"] == pytest.approx(float(logits.mean()))


def test_what_cannot_be_asked(ways, judges):
    assert logit(ways["straight"], judges) == {}
    with pytest.raises(UserError, match="conditional.*discriminator=none"):
        Critic(discriminator(c_dim=2), torch.randn(3, 3, 8, 8))
    with pytest.raises(UserError, match="multiple"):
        Critic(discriminator(), torch.randn(4, 3, 8, 8))


@pytest.mark.parametrize("family", ["dcgan", "progan", "stylegan1", "r3gan", "mlp_gan"])
def test_the_discriminators_of_all_families(family):
    """An image's logit is the same alone and in a batch."""
    module = importlib.import_module(f"wplus.models.{family}")
    size = {"width": 8} if family == "mlp_gan" else {"channel_base": 64, "channel_max": 8}
    net = module.Discriminator(resolution=8, **size).eval()
    critic = Critic(net, torch.randn(6, 3, 8, 8))
    images = torch.randn(3, 3, 8, 8)
    together = critic.logits(images)
    assert together.shape == (3,)
    torch.testing.assert_close(torch.cat([critic.logits(one[None]) for one in images]), together, rtol=1e-6, atol=0)
    if company_of(net) == 0:
        torch.testing.assert_close(net(images)[:, 0], together.float())
