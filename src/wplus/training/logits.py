"""What the discriminator says of real images beside generated ones."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.models.network import Network
from wplus.training.penalties import Pairs


def group_size(discriminator: Network) -> int:
    """Images that the discriminator looks at together (minibatch standard deviation)."""
    return discriminator.arguments.get("mbstd_group_size", 1)


def both_logits(discriminator: Network, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Logits (N, 1) of real and of generated images.

    In one pass over both; with batch norm in two, as published (Radford et al. 2016): each has its own statistics.
    """
    real, fake = pairs.real_view(pairs.real), pairs.fake_view(pairs.fake)
    if discriminator.batch_norm:
        return discriminator(real, pairs.labels), discriminator(fake, pairs.fake_labels)
    return joined_logits(discriminator, real, pairs.labels, fake, pairs.fake_labels)


def joined_logits(
    discriminator: Network, real: Tensor, labels: Tensor, fake: Tensor, fake_labels: Tensor
) -> tuple[Tensor, Tensor]:
    """One pass over real and generated images, interleaved so that no stddev group mixes the two."""
    num = len(real)
    group = min(group_size(discriminator), num)

    def join(a: Tensor, b: Tensor) -> Tensor:
        columns = [x.reshape(group, num // group, *x.shape[1:]) for x in (a, b)]
        return torch.cat(columns, dim=1).flatten(0, 1)

    logits = discriminator(join(real, fake), join(labels, fake_labels))
    real_logits, fake_logits = logits.view(group, 2 * num // group, -1).chunk(2, dim=1)
    return real_logits.reshape(num, -1), fake_logits.reshape(num, -1)


def logit_statistics(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Mean, standard deviation and mean sign of the logits of both kinds, by name."""
    values = {}
    for name, logits in (("real", real), ("fake", fake)):
        values[name] = logits.mean()
        values[f"{name}_std"] = logits.std(correction=0)
        values[f"{name}_sign"] = logits.sign().mean()
    return values
