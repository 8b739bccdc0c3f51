"""Small moments to look at: games of every family, images that tell their number, an extractor that takes pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.models import dcgan, mlp_gan, progan, r3gan, stylegan1, stylegan2
from wplus.probes import ProbeContext, ProbeData
from wplus.training import GanModule, Hparams

RECIPE = {
    "batch_size": 8,
    "gamma": 0.0,
    "lr_generator": 0.002,
    "lr_discriminator": 0.002,
    "ema_kimg": 0.02,
    "ema_rampup": None,
    "pl_weight": 0.0,
    "style_mixing_prob": 0.0,
}
SMALL = {"channel_base": 64, "channel_max": 8}
MAPPED = {"z_dim": 6, "w_dim": 6, "num_mapping_layers": 1}
GROWING = {"start_resolution": 8, "stable_kimg": 0.01, "fade_kimg": 0.05}
FAMILIES: dict[str, tuple[Any, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "stylegan2": (stylegan2, {**SMALL, **MAPPED}, {**SMALL, "mbstd_group_size": 4, "num_mapping_layers": 1}, {}),
    "stylegan1": (stylegan1, {**SMALL, **MAPPED}, {**SMALL, "mbstd_group_size": 4}, GROWING),
    "progan": (progan, {**SMALL, "z_dim": 6}, {**SMALL, "mbstd_group_size": 4}, GROWING),
    "dcgan": (dcgan, {**SMALL, "z_dim": 6}, SMALL, {}),
    "mlp_gan": (mlp_gan, {"z_dim": 6, "width": 16}, {"width": 8, "num_pieces": 2}, {}),
    "r3gan": (r3gan, {**SMALL, "z_dim": 6}, SMALL, {}),
}


def make_game(family: str = "stylegan2", *, resolution: int = 16, labels: Tensor | None = None) -> GanModule:
    """A game of random networks, the same for the same arguments."""
    torch.manual_seed(0)
    module, generator, discriminator, numbers = FAMILIES[family]
    shape = {"resolution": resolution, "c_dim": 0 if labels is None else labels.shape[1]}
    game = GanModule(
        module.Generator(**shape, **generator),
        module.Discriminator(**shape, **discriminator),
        generator_loss=nonsaturating_generator,
        discriminator_loss=logistic_discriminator,
        recipe=Hparams(**RECIPE, **numbers),
        penalties=(),
        labels=labels,
    )
    for name, parameter in game.ema.named_parameters():
        if "noise_strength" in name:
            parameter.data.fill_(0.1)
    return game


def make_images(num: int = 40, *, resolution: int = 16, c_dim: int = 0) -> ImageSet:
    """Random images; the first pixel of each tells its number."""
    source = torch.Generator().manual_seed(num)
    images = torch.randint(0, 256, (num, 3, resolution, resolution), generator=source, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(num)
    labels = torch.eye(c_dim)[torch.arange(num) % c_dim] if c_dim else None
    return ImageSet(images, labels, [f"{index}.png" for index in range(num)])


class Pixels(nn.Module):
    """An extractor whose features are the pixels themselves, in [0, 1]; counts the images that it sees."""

    name = "raw"
    seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.flatten(1).double() / 255


def nothing_held_out() -> ImageSet:
    raise UserError("The held_out split of 'x' is empty.")


@pytest.fixture
def scene(tmp_path: Path) -> Callable[..., ProbeContext]:
    """scene(family, data=..., held_out=...): a moment of a fresh game; `game` stands in for it."""

    def make(
        family: str = "stylegan2",
        *,
        data: ImageSet | None = None,
        held_out: ImageSet | None = None,
        game: Any = None,
        extractor: Any = None,
    ) -> ProbeContext:
        data = data or make_images()
        game = game or make_game(family, resolution=data.resolution, labels=data.labels)
        read = nothing_held_out if held_out is None else partial(lambda images: images, held_out)
        return ProbeContext(game, ProbeData(data, read, seed=3, extractor=extractor or Pixels()), tmp_path)

    return make
