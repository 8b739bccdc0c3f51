"""One plugin of each kind as a user would write it, outside of the package: nothing is registered."""

import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.data import ImageSet
from wplus.inversion.result import Inversion
from wplus.inversion.task import InversionTask
from wplus.losses.pixel import L2
from wplus.models import mlp_gan
from wplus.pretrained.extractor import Extractor
from wplus.training.penalties import R1
from wplus.training.snapshot import ProbeResult

MEANING = "Mean brightness, by a plugin."
BRIGHTNESS = MetricInfo(meaning=MEANING, unit="levels", direction="higher")


def noise_images(split: str = "train", *, resolution: int = 8, num_images: int = 24) -> ImageSet:
    """A data source."""
    pixels = torch.randint(256, (num_images, 3, resolution, resolution), dtype=torch.uint8)
    return ImageSet(pixels, None, [f"{split}{index}.png" for index in range(num_images)])


class Generator(mlp_gan.Generator):
    """A generator."""


def shifted_loss(fake: Tensor, *, shift: float = 1.0) -> Tensor:
    """A generator's loss."""
    return shift - fake


class Penalty(R1):
    """A penalty."""


def brightness_probe(context, *, num_images: int = 4) -> ProbeResult:
    """A probe."""
    value = float(context.images("generated", num_images).float().mean())
    return ProbeResult(values={"probe/brightness": (value, BRIGHTNESS)})


class Darkness(L2):
    """An image loss."""

    name = "darkness"
    info = MetricInfo(meaning=MEANING, direction="lower")


def guess(task: InversionTask, *, scale: float = 0.5) -> Inversion:
    """An inverter."""
    latents = torch.full((len(task.images), task.generator.z_dim), scale)
    with torch.no_grad():
        images = task.generator.synthesis(task.to_ws(latents))
    return Inversion(latents, images, None, {"loss": torch.zeros(1, len(latents))}, torch.zeros(len(latents)))


class MeanColour(Extractor):
    """An extractor."""

    name, dim, layer = "mean_colour", 3, "mean"

    def __init__(self) -> None:
        super().__init__(weights="none", sha256="", preparation={})

    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3))


def darkest(context, *, num_samples: int = 3):
    """A metric."""
    yield MetricResult.of(BRIGHTNESS, "brightness", float(num_samples), protocol={"num_samples": num_samples})
