"""Feature matching against a loop over blocks and positions; the discriminator itself stays unchanged."""

import pytest
import torch

from wplus.errors import UserError
from wplus.losses.discriminator import DiscriminatorFeatures
from wplus.models.stylegan2 import Discriminator


@pytest.fixture
def discriminator() -> Discriminator:
    return Discriminator(resolution=16, channel_base=128, channel_max=16)


def by_hand(discriminator: Discriminator, a: torch.Tensor, b: torch.Tensor, compare: str) -> torch.Tensor:
    """Distance of a pair of single images, computed by hand."""
    total, first = 0.0, [discriminator.b16(None, image) for image in (a, b)]
    for a, b in (first, [discriminator.b8(x) for x in first]):
        pairs = zip(a[0].flatten(1).T, b[0].flatten(1).T, strict=True)
        if compare == "normalised":
            differences = [(p / p.norm() - q / q.norm()).square().sum() for p, q in pairs]
        else:
            differences = [(p - q).abs().mean() for p, q in pairs]
        total += sum(differences) / len(differences)
    return total


@pytest.mark.parametrize("compare", ["normalised", "l1"])
def test_is_a_loop_over_blocks_and_positions(discriminator, pictures, compare):
    a, b = pictures(2, 16)[:, None]
    found = DiscriminatorFeatures(discriminator, compare=compare)(a, b)
    torch.testing.assert_close(found[0], by_hand(discriminator, a, b, compare))


def test_the_discriminator_goes_on_training(discriminator):
    distance = DiscriminatorFeatures(discriminator.train())
    assert discriminator.training
    assert all(parameter.requires_grad for parameter in discriminator.parameters())
    before, images = distance.features(torch.zeros(1, 3, 16, 16)), torch.zeros(1, 3, 16, 16)
    with torch.no_grad():
        discriminator.b16.conv0.weight.zero_()
    assert all(torch.equal(x, y) for x, y in zip(distance.features(images), before, strict=True))


def test_provenance_tells_discriminators_apart(discriminator):
    one, same = DiscriminatorFeatures(discriminator), DiscriminatorFeatures(discriminator)
    other = DiscriminatorFeatures(Discriminator(resolution=16, channel_base=128, channel_max=16))
    assert one.provenance == same.provenance
    assert one.provenance["sha256"] != other.provenance["sha256"]
    assert one.provenance["layers"] == ["block at 16 px", "block at 8 px"]


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 16, 16), (1, 3, 16, 8)])
def test_other_images_are_refused(discriminator, shape):
    with pytest.raises(UserError, match=r"\(N, 3, 16, 16\)"):
        DiscriminatorFeatures(discriminator).features(torch.zeros(shape))
    with pytest.raises(UserError, match="normalised, l1, got 'cosine'"):
        DiscriminatorFeatures(discriminator, compare="cosine")
