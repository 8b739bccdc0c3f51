"""Freeze-D (Mo et al., "Freeze the Discriminator: a Simple Baseline for Fine-Tuning GANs", 2020): the layers of the
discriminator nearest to the image keep what they were loaded with; the others learn."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from wplus.errors import UserError, check_number
from wplus.models.network import Network
from wplus.training.validate import name_of


def frozen_layers(discriminator: Network, num: int) -> list[nn.Module]:
    """The first `num` of its layers from the image on; UserError where it has fewer that can be frozen."""
    check_number("freeze_discriminator", num, lowest=0, whole=True)
    layers = discriminator.layers_from_image()
    if num > len(layers):
        raise UserError(
            f"freeze_discriminator={num} is too large: {name_of(type(discriminator))} has {len(layers)} layers at this "
            "resolution before those that make the logit."
        )
    return layers[:num]


def hold(layers: Iterable[nn.Module]) -> None:
    """No gradient for their parameters, and statistics of batches as they are: used, not moved."""
    for layer in layers:
        layer.requires_grad_(False).eval()
