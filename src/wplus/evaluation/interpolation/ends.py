"""The latents of the end points: found by an inverter now, or read from folders of inversions that exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from wplus.errors import UserError
from wplus.inversion.run import FolderInversion
from wplus.inversion.store import output_names
from wplus.latents import LIFTS, Latent, Space, check_space, load_latent
from wplus.processes import all_agree, is_first


class Ends:
    """Latents of the images by space and name; a space without its own takes those that can be lifted into it."""

    def __init__(self, latents: Mapping[Space, Mapping[str, Latent]]) -> None:
        self._latents = latents

    def of(self, name: str, space: Space) -> Latent:
        """The latent of one image for a method in this space; `key_points` lifts it where that is needed."""
        return self._latents[source_space(space, list(self._latents))][name]


def source_space(space: Space, given: Sequence[Space]) -> Space:
    """The space whose latents serve a method in `space`: itself, else the first that goes there without loss."""
    found = [space] if space in given else [each for each in given if space in LIFTS[each]]
    if not found:
        raise UserError(f"Nothing given as latents goes into {space}: give latents of {space} too, or leave it out.")
    return found[0]


def read_ends(folders: Mapping[str, str | Path], names: Sequence[str], *, fingerprint: str) -> Ends:
    """Latents of the images called `names` from folders by space, which `invert.py` wrote (or their latents/ within).

    UserError where one is missing, was made with another generator, or is of another space than it is said to be.
    """
    return Ends({space: _read(space, Path(folder), names, fingerprint) for space, folder in folders.items()})  # type: ignore[misc]


def _read(space: str, folder: Path, names: Sequence[str], fingerprint: str) -> dict[str, Latent]:
    check_space(space)
    files = folder / "latents" if (folder / "latents").is_dir() else folder
    found = {}
    for name, file in zip(names, output_names(names), strict=True):
        latent = load_latent(files / f"{file}.safetensors", fingerprint=fingerprint)
        if latent.space != space:
            raise UserError(f"'{files / file}.safetensors' is a latent of {latent.space}, not of {space}.")
        found[name] = latent
    return found


def invert_ends(images: Any, spaces: Sequence[Space], *, folder: Path, models: Any, invert: Callable[..., Any],
                **inverting: Any) -> Ends:  # fmt: skip
    """Invert the images into each space, into `folder`/<space>; what is there already is not done again.

    Of several processes the first does it and the others wait. `inverting` are further arguments of `FolderInversion`.
    """
    shared = {"models": models, "invert": invert, **inverting}
    folders = {space: folder / space for space in spaces}
    if is_first():
        made = [FolderInversion(images, space=space, output_dir=each, **shared) for space, each in folders.items()]
        for inversion in made:  # all were checked before the first starts
            inversion.run()
    all_agree(True)
    return read_ends(folders, images.names, fingerprint=models.fingerprint)


def subset(images: Any, names: Sequence[str]) -> Any:
    """The images with these names, as a set of its own (`wplus.data.ImageSet`)."""
    numbers = {name: index for index, name in enumerate(images.names)}
    return images.subset(torch.tensor([numbers[name] for name in names]))
