"""The images that a command was pointed at: held-out ones of the data set, a file, a folder, a zip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from wplus.data.decode import read_image
from wplus.data.folder import folder_images
from wplus.data.image_set import ImageSet
from wplus.data.nvlabs_zip import zip_images
from wplus.errors import UserError

HELD_OUT = "held_out"
NUM_HELD_OUT = 16


def chosen_images(
    source: str | Path,
    *,
    held_out: Callable[[], ImageSet],
    resolution: int,
    channels: int,
    num_images: int | None = None,
    labels: str = "none",
    fit: str = "crop",
    resize: str = "lanczos",
    bad_files: str = "refuse",
) -> ImageSet:
    """Images at the given resolution from `source`: "held_out", or the path of an image file, a folder or a zip.

    Args:
        source: "held_out" calls `held_out`, which makes that split of a data set; anything else is a path.
        num_images: the first so many; None: all, but 16 of "held_out".
        labels, fit, resize, bad_files: for folders and zips, see `assemble`; a single file uses `fit` and `resize`.

    Raises:
        UserError: what the sources raise, and a `num_images` below 1.
    """
    if num_images is not None and num_images < 1:
        raise UserError(f"num_images={num_images} is not allowed: it must be 1 or more, or null.")
    path, policies = Path(source), {"resolution": resolution, "channels": channels, "fit": fit, "resize": resize}
    if str(source) == HELD_OUT:
        images, num_images = held_out(), num_images or NUM_HELD_OUT
    elif path.is_dir():
        images = folder_images(str(path), split="all", labels=labels, bad_files=bad_files, **policies)
    elif path.suffix == ".zip":
        images = zip_images(str(path), split="all", labels=labels, bad_files=bad_files, **policies)
    else:
        images = ImageSet(read_image(path, **policies)[None], None, [path.name])
    return images if num_images is None else images.subset(torch.arange(min(num_images, len(images))))
