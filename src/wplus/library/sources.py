"""Convert anything that represents an image into the files that the commands read.

Paths are kept; an image in memory is written as a PNG with the same pixels, a latent as its file.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wplus.core.files import at_home
from wplus.core.images import as_uint8, save_png, to_pil
from wplus.data.names import clean_name
from wplus.editing.directions import AnyDirection, Direction, Directions, StyleDirection, load_directions
from wplus.errors import UserError
from wplus.inversion.folder import DELTA
from wplus.latents.inputs import names_of_images
from wplus.latents.latent import Latent, save_latent
from wplus.latents.weight_delta import WeightDelta
from wplus.library.pictures import Pictures

AnyImage: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor
"""A path; a Pillow image; uint8 arrays (H, W), (H, W, C) or (N, H, W, C); tensors (C, H, W) or (N, C, H, W), uint8 or
float in [-1, 1]."""
AnyImages: TypeAlias = AnyImage | Pictures | Sequence[AnyImage]
AnyLatents: TypeAlias = Latent | AnyImages | Sequence[Latent | Pictures | AnyImage]
"""Latents, images (inverted first), the results of `generate`, `invert` and `edit`, "seed:N", or several of these."""
AnyDirections: TypeAlias = str | Path | AnyDirection | Directions | Sequence[AnyDirection]
"""A file of directions, what `Model.directions` returns, or one or several of these directions."""
_BRIGHTEST = 8  # outputs of generators slightly beyond 1 are clipped; values meant as 0 to 255, and NaNs, are refused
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def image_source(images: AnyImages, folder: Path) -> tuple[str, list[str] | None]:
    """The `input` argument of a command for these images, and their names in the given order.

    A single path is returned as it is, without names (None); otherwise copies are written to `folder`.
    """
    items = list(_items(images))
    if not items:
        raise UserError("There are no images: give a path, a Pillow image, an array or a tensor, or several of them.")
    if len(items) == 1 and isinstance(items[0], str):
        return items[0], None
    paths = [item for item in items if isinstance(item, str)]
    for path in paths:
        if not at_home(path).is_file():
            raise UserError(f"Of several images each must be a file or an image in memory, got '{path}'.")
    given = iter(names_of_images(paths))
    digits = max(4, len(str(len(items))))
    names = [next(given) if isinstance(item, str) else f"{row:0{digits}d}.png" for row, item in enumerate(items)]
    for item, name in zip(items, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(item, str):
            shutil.copyfile(at_home(item), folder / name)
        else:
            save_png(folder / name, item)
    return (str(folder / names[0]) if len(items) == 1 else str(folder)), names


def latent_sources(given: object, folder: Path, *, deltas: Path) -> tuple[list[str], dict[str, str]]:
    """The `inputs` argument of a command for one or several `AnyLatents`; weight deltas are written to `deltas`.

    Also returns a mapping from the names that the command sees to the names in the results of other methods.
    """
    sources: list[str] = []
    called: dict[str, str] = {}
    for item in _flat(given):
        name = f"{len(sources)}-latent.safetensors"
        if isinstance(item, str):
            sources.append(item)
        elif isinstance(item, Image.Image):
            sources.append(str(save_png(folder / f"{len(sources)}-image.png", item)))
        elif isinstance(item, Latent):
            notes = {key: value for key, value in item.metadata.items() if key != DELTA}
            sources.append(str(save_latent(folder / name, replace(item, metadata=notes))))
        else:
            latent, shown, delta = item
            name = f"{len(sources)}-{clean_name(shown).replace('/', '-').replace(':', '')}.safetensors"
            if delta is not None:
                latent = replace(latent, metadata={**latent.metadata, DELTA: f"deltas/{name}"})
                delta.save(deltas / name)
            called[Path(name).stem] = shown
            sources.append(str(save_latent(folder / name, latent)))
    return sources, called


def _flat(given: object) -> Iterator[str | Image.Image | Latent | tuple[Latent, str, WeightDelta | None]]:
    """Flatten into paths, images, latents, and latents of results with their names and weight deltas."""
    if isinstance(given, Pictures) and given.latents:
        yield from zip(given.latents, given.names, given.deltas, strict=True)
    elif isinstance(given, Latent):
        yield given
    elif isinstance(given, Sequence) and not isinstance(given, str):
        for item in given:
            yield from _flat(item)
    else:
        yield from _items(given)


def directions_of(given: AnyDirections, fingerprint: str) -> list[AnyDirection]:
    """Return the directions; UserError if they record a generator with a different fingerprint."""
    if isinstance(given, str | Path):
        given = load_directions(given, fingerprint=fingerprint)
    if isinstance(given, Directions):
        if given.generator != fingerprint:
            raise UserError(f"The directions are those of generator {given.generator}, not of {fingerprint}.")
        return given.choose("all")
    several: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    if not all(isinstance(each, Direction | StyleDirection) for each in several):
        kinds = sorted({type(each).__name__ for each in several})
        raise UserError(f"A direction must be one of model.directions(...) or a file of them, got {', '.join(kinds)}.")
    return several


def as_data(source: str) -> dict[str, object]:
    """The key `data` of a command for real images, all of which are used."""
    kind = "zip" if source.lower().endswith(".zip") else "folder"
    return {"data": kind, "data.path": source, "split": "all"}


def _items(images: object) -> Iterator[str | Image.Image]:
    """Yield paths and Pillow images from any container of images."""
    if isinstance(images, str | Path):
        yield str(images)
    elif isinstance(images, Image.Image):
        yield images if images.mode in _PNG_MODES else images.convert("RGB")
    elif isinstance(images, np.ndarray):
        yield from _of_array(images)
    elif isinstance(images, Tensor):
        yield from _of_tensor(images)
    elif isinstance(images, Pictures):
        yield from images.pil
    elif isinstance(images, Sequence):
        for item in images:
            yield from _items(item)
    else:
        raise UserError(f"An image must be a path, a Pillow image, an array or a tensor, got {type(images).__name__}.")


def _of_array(array: np.ndarray) -> Iterator[Image.Image]:
    wanted = "uint8 of the shape (H, W), (H, W, C) or (N, H, W, C), C of 1, 3 or 4"
    array = array[None, ..., None] if array.ndim == 2 else array[None] if array.ndim == 3 else array
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3, 4):
        raise UserError(f"An array of images must be {wanted}, got {array.dtype} of the shape {array.shape}.")
    yield from map(to_pil, torch.from_numpy(np.array(array)).permute(0, 3, 1, 2))


def _of_tensor(images: Tensor) -> Iterator[Image.Image]:
    found = images[None] if images.ndim == 3 else images
    is_kind = found.dtype == torch.uint8 or found.is_floating_point()
    if not is_kind or found.ndim != 4 or found.shape[1] not in (1, 3, 4):
        wanted = "uint8, or float in [-1, 1], of the shape (C, H, W) or (N, C, H, W), C of 1, 3 or 4"
        raise UserError(f"A tensor of images must be {wanted}, got {images.dtype} of the shape {tuple(images.shape)}.")
    most = float(found.abs().max()) if found.is_floating_point() and found.numel() else 0.0
    if not most <= _BRIGHTEST:
        raise UserError(f"Float images must lie in [-1, 1], these reach {most:g}: give uint8 for 0 to 255.")
    yield from map(to_pil, as_uint8(found))
