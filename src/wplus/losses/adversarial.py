"""Losses of the adversarial game, as functions of logits (N, 1) -> loss per image (N, 1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def nonsaturating_generator(fake: Tensor) -> Tensor:
    """-log sigmoid(D(G(z))), the non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake)


def logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))) for pairs of real and generated images."""
    return F.softplus(-real) + F.softplus(fake)
