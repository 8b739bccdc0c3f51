"""What the discriminator says of both kinds of images in one pass is what it says in two."""

import pytest
import torch

from wplus.training.penalties import DiscriminatorBatch, both_logits


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_the_joined_pass_equals_two_passes(make_tiny, group):
    discriminator = make_tiny(mbstd_group_size=group, c_dim=3).discriminator
    real, fake = torch.randn(2, 8, 3, 8, 8)
    labels, fake_labels = torch.eye(3)[torch.randint(3, (2, 8))]
    joined = both_logits(discriminator, DiscriminatorBatch(real, labels, fake, fake_labels, torch.zeros(8)))
    separate = discriminator(real, labels), discriminator(fake, fake_labels)
    for a, b in zip(joined, separate, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
