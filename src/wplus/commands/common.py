"""What several commands do alike: the one place where data sets and tasks meet outside the entry points."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.images import to_uint8
from wplus.data import ImageSet, read_image
from wplus.inversion.folder import DELTA, output_names, pixel_digest
from wplus.inversion.run import invert_folder
from wplus.inversion.task import InversionTask, Inverter
from wplus.latents.latent import Latent, Space
from wplus.latents.weight_delta import load_delta


def invert_files(
    files: Sequence[str], names: Sequence[str], *, models: Any, output_dir: Path, fit: str = "crop", **inverting: Any
) -> list[Path]:
    """Latent files of image files, in a folder of inversions that the same command again finds and continues.

    `fit` is that of `wplus.data.read_image`, a warning says which images fit=crop cuts; `inverting` are the arguments
    of `FolderInversion`.
    """
    size = {"resolution": models.generator.resolution, "channels": models.generator.img_channels}
    pixels = torch.stack([read_image(file, fit=fit, **size) for file in files])
    if fit == "crop":
        _warn_of_cropping(files)
    invert_folder(ImageSet(pixels, None, list(names)), models=models, output_dir=output_dir, **inverting)
    return [output_dir / "latents" / f"{name}.safetensors" for name in output_names(names)]


def _warn_of_cropping(files: Sequence[str]) -> None:
    cut = [file for file in files if not _is_square(file)]
    if cut:
        warnings.warn(
            f"{len(cut)} of {len(files)} image(s) are not square and are cropped to their centre ({', '.join(cut)}): "
            "fit=pad keeps all of them, with white beside it.",
            stacklevel=3,
        )


def _is_square(file: str) -> bool:
    with Image.open(file) as image:
        return image.width == image.height


def codes_of(models: Models, invert: Inverter, *, space: Space, **shared: Any) -> Callable[[Tensor], Tensor]:
    """An inverter as a function from images (N, C, R, R), about [-1, 1], to codes (N, num_ws, w_dim).

    Its randomness comes from the pictures, so that the batch they travel in changes nothing. `shared` are further
    fields of `InversionTask`: perceptual, seed, losses, labels.
    """
    encoder = models.networks.get("encoder")

    def codes(images: Tensor) -> Tensor:
        names = [pixel_digest(image) for image in to_uint8(images)]
        task = InversionTask(models.generator, images, space, names=names, encoder=encoder, **shared)
        return task.to_ws(invert(task).latents)

    return codes


def weight_deltas(latents: Sequence[Latent], names: Sequence[str], folder: Path, *, fingerprint: str) -> list[Any]:
    """For each latent that has one its weight delta, read from a folder of them; None for the others.

    A latent whose delta is not in the folder warns: its pictures will be those of the generator untuned.
    """
    return [_delta(latent, name, folder, fingerprint) for latent, name in zip(latents, names, strict=True)]


def _delta(latent: Latent, name: str, folder: Path, fingerprint: str) -> Any:
    if DELTA not in latent.metadata:
        return None
    path = folder / Path(latent.metadata[DELTA]).relative_to("deltas")
    if not path.is_file():
        warnings.warn(f"'{name}' was tuned, but its weight delta is not in '{folder}': it is left out.", stacklevel=3)
        return None
    delta = load_delta(path, fingerprint=fingerprint)
    delta.check_latent(latent)
    return delta
