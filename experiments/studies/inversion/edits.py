"""The edits of the study: every method's codes are moved along the same directions, and the pictures inverted again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import wplus
from experiments.studies.inversion.study import GENERATOR, folder_name
from wplus.editing.directions import Direction, load_directions
from wplus.files import write_json
from wplus.images import save_png
from wplus.inversion.weight_delta import load_delta
from wplus.latents import Latent, load_latent, ws_of

DIRECTIONS = 3  # the first principal components of W, in turn from image to image
STRENGTHS = (2.0, -2.0)  # in standard deviations of the prior


def edit_all(output: Path, methods: Sequence[str], *, num: int) -> None:
    """Pictures of the edited codes of the first `num` images, edited/METHOD/NAME.png."""
    models = wplus.load(GENERATOR, needs=["generator"])
    for method in methods:
        for name, shift in edits(output, method, num=num, fingerprint=models.fingerprint):
            latent, generator = read(output / folder_name(method), name, models)
            save_png(output / "edited" / folder_name(method) / f"{name}.png", picture(generator, latent, shift))


def measure_edits(output: Path, methods: Sequence[str], *, num: int) -> None:
    """edited/METHOD.json: for every edited image its LEC and the realism of its edited picture.

    lec           || w - (w' - edit) || over (num_ws, w_dim), w' the code that the same method finds for the edited
                  picture; over the norm of the edit, so that 1 is a method that ignores edits (Tov et al. 2021)
    edit_realism  the discriminator's logit of the edited picture, minus its mean over pictures of random z: 0 is as
                  good as the generator gets
    """
    models = wplus.load(GENERATOR, needs=["generator", "discriminator"])
    usual = typical_logit(models)
    for method in methods:
        found = {}
        for name, shift in edits(output, method, num=num, fingerprint=models.fingerprint):
            latent, generator = read(output / folder_name(method), name, models)
            again, _ = read(output / "again" / folder_name(method), name, models)
            error = ws_of(latent, models.generator) - (ws_of(again, models.generator) - shift)
            logit = models.discriminator(picture(generator, latent, shift)[None]).item()
            found[name] = {"lec": float(error.norm() / shift.norm()), "edit_realism": logit - usual}
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


@torch.no_grad()
def typical_logit(models: Any, num: int = 256) -> float:
    """Mean logit of pictures of random z; image by image, as the edited ones are judged."""
    z = torch.randn(num, models.generator.z_dim, generator=torch.Generator().manual_seed(0))
    images = torch.cat([models.generator(part) for part in z.split(16)])
    return torch.cat([models.discriminator(image[None]) for image in images]).mean().item()
