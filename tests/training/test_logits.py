"""What the discriminator says of both kinds of images in one pass is what it says in two."""

import torch

from wplus.training.penalties import joined_logits


def test_the_joined_pass_equals_two_passes(make_tiny):
    for group in (1, 2, 4):
        game = make_tiny(mbstd_group_size=group, c_dim=3)
        real, fake = torch.randn(2, 8, 3, 8, 8)
        labels, fake_labels = torch.eye(3)[torch.randint(3, (2, 8))]
        joined = joined_logits(game.discriminator, real, labels, fake, fake_labels)
        separate = game.discriminator(real, labels), game.discriminator(fake, fake_labels)
        for a, b in zip(joined, separate, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
