"""Small training states to probe: modules of every family, numbered images, an extractor that returns pixels."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.fakes import random_images
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.models import dcgan, mlp_gan, progan, r3gan, stylegan1, stylegan2
from wplus.probes import ProbeContext, ProbeData
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams
from wplus.training.snapshot import ProbeResult

RECIPE = {
    "batch_size": 8, "gamma": 0.0, "lr_generator": 0.002, "lr_discriminator": 0.002, "ema_kimg": 0.02,
    "ema_rampup": None, "pl_weight": 0.0, "style_mixing_prob": 0.0,
}  # fmt: skip
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


def make_module(family: str = "stylegan2", *, resolution: int = 16, labels: Tensor | None = None) -> GanModule:
    """Random networks, the same for the same arguments."""
    torch.manual_seed(0)
    module, generator, discriminator, numbers = FAMILIES[family]
    shape = {"resolution": resolution, "c_dim": 0 if labels is None else labels.shape[1]}
    made = GanModule(
        module.Generator(**shape, **generator), module.Discriminator(**shape, **discriminator),
        generator_loss=nonsaturating_generator, discriminator_loss=logistic_discriminator,
        hparams=Hparams(**RECIPE, **numbers), penalties=(), labels=labels,
    )  # fmt: skip
    for name, parameter in made.ema.named_parameters():
        if "noise_strength" in name:
            parameter.data.fill_(0.1)
    return made


def make_images(num: int = 40, *, resolution: int = 16, c_dim: int = 0) -> ImageSet:
    """Random images; the first pixel of each encodes its number."""
    return random_images(num, resolution=resolution, c_dim=c_dim, numbered=True)


class Pixels(nn.Module):
    """An extractor whose features are the pixels themselves, in [0, 1]; counts the images that it sees."""

    name = "raw"
    protocol: ClassVar[dict[str, str]] = {"extractor": "raw"}
    seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.flatten(1).double() / 255


def nothing_held_out() -> ImageSet:
    raise UserError("The held_out split of 'x' is empty.")


def numbers(result: ProbeResult) -> dict[str, float]:
    """Values of a result without their meanings."""
    return {name: value for name, (value, _) in result.values.items()}


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., ProbeContext]:
    """context(family, data=..., held_out=...): the state of a fresh run; `module` replaces its module.

    `images(number)` makes batch `number` of the generated images, in place of the generator.
    """

    def make(
        family: str = "stylegan2", *, data: ImageSet | None = None, held_out: ImageSet | None = None,
        module: Any = None, extractor: Any = None, images: Callable[[int], Tensor] | None = None,
    ) -> ProbeContext:  # fmt: skip
        data = data or make_images()
        module = module or make_module(family, resolution=data.resolution, labels=data.labels)
        read = nothing_held_out if held_out is None else partial(lambda found: found, held_out)
        shared = ProbeData(data, read, seed=3, extractor=lambda: extractor or Pixels())
        here = ProbeContext(module, shared, tmp_path)
        if images is not None:
            here._generated = images
        return here

    return make
