import dataclasses
import importlib

import pytest
import torch

from tests.fakes import trajectory_of
from wplus.errors import UserError
from wplus.interpolation.path_metrics.discriminator_score import DiscriminatorScore, company_of, discriminator_score


def discriminator(family="stylegan2", **options):
    size = {"width": 8} if family == "mlp_gan" else {"channel_base": 64, "channel_max": 8}
    net = importlib.import_module(f"wplus.models.{family}").Discriminator(resolution=8, **size, **options)
    return net.eval().requires_grad_(False)


def test_a_logit_is_that_of_the_image_among_the_references():
    net, images, references = discriminator(), torch.randn(5, 3, 8, 8), torch.randn(6, 3, 8, 8)
    expected = [torch.stack([net(torch.cat([image[None], some]))[0, 0] for some in references.split(3)]).mean()
                for image in images]  # fmt: skip
    found = DiscriminatorScore(net, references).logits(images)
    # The sums of float32 over another batch differ in the last bits, of logits about 1.
    torch.testing.assert_close(found, torch.stack(expected).double(), rtol=1e-5, atol=1e-6)


def test_dip_of_the_middle(tools, scores):
    net = discriminator(mbstd_group_size=1)
    found = trajectory_of(lambda t: (t.view(-1, 1, 1, 1) - 0.5).float().expand(-1, 3, 8, 8), 5)
    score = DiscriminatorScore(net, torch.empty(0, 3, 8, 8))
    values = scores(discriminator_score, found, dataclasses.replace(tools, discriminator=score))
    logits = net(found.images)[:, 0].double()
    torch.testing.assert_close(found.along["logit"], logits)
    dip = float((logits[0] + logits[4]) / 2 - logits[2])
    expected = {"logit_mean": float(logits.mean()), "logit_min": float(logits.min()), "logit_dip": dip}
    assert values == pytest.approx(expected, rel=1e-5)


def test_what_cannot_be_asked(line, scores):
    assert scores(discriminator_score, line) == {}
    with pytest.raises(UserError, match="must be unconditional.*discriminator=none"):
        DiscriminatorScore(discriminator(c_dim=2), torch.randn(3, 3, 8, 8))
    with pytest.raises(UserError, match="multiple of 3.*got 4"):
        DiscriminatorScore(discriminator(), torch.randn(4, 3, 8, 8))


@pytest.mark.parametrize("family", ["dcgan", "progan", "stylegan1", "stylegan2", "r3gan", "mlp_gan"])
def test_the_discriminators_of_all_families(family):
    """An image's logit is the same alone and in a batch."""
    net, images = discriminator(family), torch.randn(3, 3, 8, 8)
    score = DiscriminatorScore(net, torch.randn(6, 3, 8, 8))
    together = score.logits(images)
    assert together.shape == (3,)
    torch.testing.assert_close(torch.cat([score.logits(one[None]) for one in images]), together, rtol=1e-6, atol=0)
    if company_of(net) == 0:
        torch.testing.assert_close(net(images)[:, 0], together.float())
