"""The end points: latents, noise and tuned weights, found by an inverter now or read from folders of inversions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wplus.core.distributed import all_agree, is_first
from wplus.errors import UserError
from wplus.inversion.folder import DELTA, output_names
from wplus.inversion.run import FolderInversion
from wplus.latents.latent import LIFTS, Latent, Space, check_space, load_latent
from wplus.latents.weight_delta import WeightDelta, load_delta


@dataclass(frozen=True)
class End:
    """What an inverter found for one image: a latent, with its noise where that was sought, and maybe tuned weights."""

    latent: Latent
    delta_file: Path | None = None
    """The weight delta that the generator was tuned with for it (`inverter=pivotal`)."""

    def delta(self, *, fingerprint: str) -> WeightDelta | None:
        """The weight delta, read anew: those of all images would be too much to hold."""
        if self.delta_file is None:
            return None
        found = load_delta(self.delta_file, fingerprint=fingerprint)
        found.check_latent(self.latent)
        return found


class Ends:
    """End points by space and image name; a space without its own takes those that can be lifted into it."""

    def __init__(self, ends: Mapping[Space, Mapping[str, End]]) -> None:
        self._ends = ends

    def of(self, name: str, space: Space) -> End:
        """The end of one image for a method in this space; `key_points` lifts its latent where that is needed."""
        return self._ends[source_space(space, list(self._ends))][name]


def source_space(space: Space, given: Sequence[Space]) -> Space:
    """The space whose latents serve a method in `space`: itself, else the first that goes there without loss."""
    found = [space] if space in given else [each for each in given if space in LIFTS[each]]
    if not found:
        raise UserError(f"Nothing given as latents goes into {space}: give latents of {space} too, or leave it out.")
    return found[0]


def check_folders(folders: Mapping[str, str | Path]) -> None:
    """UserError for a folder of inversions that does not exist."""
    for space, folder in folders.items():
        if not Path(folder).is_dir():
            raise UserError(f"The folder '{folder}' of latents in {space} does not exist: invert.py writes such ones.")


def read_ends(folders: Mapping[str, str | Path], names: Sequence[str], *, fingerprint: str) -> Ends:
    """End points of the images called `names` from folders by space that `invert.py` wrote (or their latents/ within).

    UserError where one is missing, was made with another generator, is of another space than it is said to be, or was
    tuned and lacks its weight delta, without which it shows another picture.
    """
    return Ends({space: _read(space, Path(folder), names, fingerprint) for space, folder in folders.items()})  # type: ignore[misc]


def _read(space: str, folder: Path, names: Sequence[str], fingerprint: str) -> dict[str, End]:
    check_space(space)
    files = folder / "latents" if (folder / "latents").is_dir() else folder
    found = {}
    for name, file in zip(names, output_names(names), strict=True):
        latent = load_latent(files / f"{file}.safetensors", fingerprint=fingerprint)
        if latent.space != space:
            raise UserError(f"'{files / file}.safetensors' is a latent of {latent.space}, not of {space}.")
        found[name] = End(latent, _delta_file(latent, name, files.parent))
    return found


def _delta_file(latent: Latent, name: str, folder: Path) -> Path | None:
    """Where the latent says that its weight delta is, in the folder of inversions; None where it has none."""
    if DELTA not in latent.metadata:
        return None
    path = folder / latent.metadata[DELTA]
    if not path.is_file():
        raise UserError(f"'{name}' was tuned, but its weight delta '{path}' does not exist: bring it, or invert again.")
    return path


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
