"""The edits of the study: every method's codes are moved along the same directions, and the pictures inverted again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import wplus
from experiments.studies.inversion.study import GENERATOR, folder_name
from wplus.core.files import write_json
from wplus.core.images import save_png, to_float
from wplus.data.cats import cat_images
from wplus.editing.directions import Direction, load_directions
from wplus.latents.latent import Latent, load_latent, ws_of
from wplus.latents.weight_delta import load_delta
from wplus.losses.identity import EffNetLite0Identity

DIRECTIONS = 3  # the first principal components of W, in turn from image to image
STRENGTHS = (2.0, -2.0)  # in standard deviations of the prior
NUM_REAL, NUM_SAMPLES = 4000, 256


def edit_all(output: Path, methods: Sequence[str], *, num: int) -> None:
    """Pictures of the edited codes of the first `num` images, edited/METHOD/NAME.png."""
    models = wplus.load(GENERATOR, needs=["generator"])
    for method in methods:
        for name, shift in edits(output, method, num=num, fingerprint=models.fingerprint):
            latent, generator = read(output / folder_name(method), name, models)
            save_png(output / "edited" / folder_name(method) / f"{name}.png", picture(generator, latent, shift))


def measure_edits(output: Path, methods: Sequence[str], *, num: int) -> None:
    """edited/METHOD.json: for every edited image its LEC and how unlike any real cat it has become.

    lec         || w - (w' - edit) || over (num_ws, w_dim), w' the code that the same method finds for the edited
                picture; over the norm of the edit, so that 1 is a method that ignores edits (Tov et al. 2021)
    edit_novelty  how far the edited picture is from the nearest of 4,000 real cats (1 - cosine of EfficientNet-Lite0's
                pooled features), over the mean of that for pictures of random z: 1 is as good as the generator gets
    """
    models = wplus.load(GENERATOR, needs=["generator"])
    nearest = Nearest(models)
    for method in methods:
        found = {}
        for name, shift in edits(output, method, num=num, fingerprint=models.fingerprint):
            latent, generator = read(output / folder_name(method), name, models)
            again, _ = read(output / "again" / folder_name(method), name, models)
            error = ws_of(latent, models.generator) - (ws_of(again, models.generator) - shift)
            novelty = nearest(picture(generator, latent, shift)[None]).item()
            found[name] = {"lec": float(error.norm() / shift.norm()), "edit_novelty": novelty}
        write_json(output / "edited" / f"{folder_name(method)}.json", found)


def edits(output: Path, method: str, *, num: int, fingerprint: str) -> list[tuple[str, Tensor]]:
    """Names of the images that are edited, each with what is added to its ws (num_ws, w_dim)."""
    found = load_directions(output / "directions" / "directions.safetensors", fingerprint=fingerprint)
    directions: list[Direction] = list(found)[:DIRECTIONS]
    names = sorted(path.stem for path in (output / folder_name(method) / "latents").glob("*.safetensors"))[:num]
    kinds = [direction.shift(strength) for strength in STRENGTHS for direction in directions]
    return [(name, kinds[index % len(kinds)]) for index, name in enumerate(names)]


def read(folder: Path, name: str, models: Any) -> tuple[Latent, Any]:
    """A latent, and the generator that shows it: with its weight delta, where pivotal tuning left one."""
    latent = load_latent(folder / "latents" / f"{name}.safetensors", fingerprint=models.fingerprint)
    delta = folder / "deltas" / f"{name}.safetensors"
    if not delta.is_file():
        return latent, models.generator
    return latent, load_delta(delta, fingerprint=models.fingerprint).applied(models.generator)


@torch.no_grad()
def picture(generator: Any, latent: Latent, shift: Tensor) -> Tensor:
    """The picture (C, R, R) of an edited latent."""
    return generator.synthesis((ws_of(latent, generator) + shift)[None], noise_mode="const")[0]


class Nearest:
    """Images (N, C, R, R) -> distance to the nearest real cat, (N,), in units of that of the generator's own."""

    def __init__(self, models: Any) -> None:
        self.net = EffNetLite0Identity()
        real = cat_images(resolution=models.generator.resolution, split="train")
        self.real = self._descriptors(to_float(real.batch(torch.arange(NUM_REAL))[0]))
        z = torch.randn(NUM_SAMPLES, models.generator.z_dim, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            self.usual = self._distances(models.generator(z)).mean()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The distances."""
        return self._distances(images) / self.usual

    def _distances(self, images: Tensor) -> Tensor:
        return 1 - (self._descriptors(images) @ self.real.T).amax(dim=1)

    @torch.no_grad()
    def _descriptors(self, images: Tensor) -> Tensor:
        return torch.cat([self.net.features(part)[0].flatten(1) for part in images.split(64)])
