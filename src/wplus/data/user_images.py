"""The images that a command was pointed at: held-out ones of the data set, a file, a folder, a zip."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from wplus.data.boxes import boxes_of, read_boxes
from wplus.data.decode import read_image
from wplus.data.image_set import ImageSet
from wplus.data.nvlabs_zip import ZipReader, zip_images
from wplus.data.sources import FolderReader, folder_images
from wplus.errors import UserError

HELD_OUT = "held_out"
NUM_HELD_OUT = 16
_NUM_NAMED = 3  # in a warning


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
    alpha: str = "white",
    boxes: str | Path | None = None,
    bad_files: str = "refuse",
) -> ImageSet:
    """Images at the given resolution from `source`: "held_out", or the path of an image file, a folder or a zip.

    Args:
        source: "held_out" calls `held_out`, which makes that split of a data set; anything else is a path.
        num_images: the first so many; None: all, but 16 of "held_out".
        labels, bad_files: for folders and zips, see `assemble`.
        fit, resize, alpha: see `decode.read_image`. A warning says which images fit=crop cuts.
        boxes: a file with the part of each image to take, see `boxes.read_boxes`; None: as `fit` says.

    Raises:
        UserError: what the sources raise, a `num_images` below 1, and boxes or opacities of "held_out", which has none.
    """
    if num_images is not None and num_images < 1:
        raise UserError(f"num_images={num_images} is not allowed: it must be 1 or more, or null.")
    policies = {"resolution": resolution, "channels": channels, "fit": fit, "resize": resize, "alpha": alpha}
    if str(source) == HELD_OUT:
        _refuse_for_held_out(alpha, boxes)
        images, num_images = held_out(), num_images or NUM_HELD_OUT
    else:
        images = _from_path(Path(source), policies, boxes, labels=labels, bad_files=bad_files)
    return images if num_images is None else images.subset(torch.arange(min(num_images, len(images))))


def _refuse_for_held_out(alpha: str, boxes: str | Path | None) -> None:
    if alpha != "white" or boxes is not None:
        raise UserError("input=held_out has no alpha channel and takes no boxes: they belong to files of your own.")


def _from_path(path: Path, policies: dict[str, Any], boxes: str | Path | None, **assembling: Any) -> ImageSet:
    reader = FolderReader(path) if path.is_dir() else ZipReader(path) if path.suffix == ".zip" else None
    names = [path.name] if reader is None else reader.names
    cuts = boxes_of(names, read_boxes(boxes)) if boxes is not None else {}
    if reader is None:
        images = ImageSet(read_image(path, box=cuts.get(path.name), **policies)[None], None, names)
    else:
        read = folder_images if path.is_dir() else zip_images
        images = read(str(path), split="all", boxes=cuts, **policies, **assembling)
    if policies["fit"] == "crop":
        opened = {name: _opener(path, reader, name) for name in images.names if name not in cuts}
        _warn_of_cropping({name: open_file for name, open_file in opened.items() if not _is_square(open_file)}, images)
    return images


def _opener(path: Path, reader: FolderReader | ZipReader | None, name: str) -> Callable[[], Any]:
    """What Pillow opens an image by; of a file it reads no more than the beginning."""
    if isinstance(reader, ZipReader):
        return lambda: io.BytesIO(reader.read(name))
    return lambda: path if reader is None else path / name


def _is_square(open_file: Callable[[], Any]) -> bool:
    with Image.open(open_file()) as image:
        return image.width == image.height


def _warn_of_cropping(cropped: dict[str, Any], images: ImageSet) -> None:
    if cropped:
        listing = ", ".join([*list(cropped)[:_NUM_NAMED], *(["..."] if len(cropped) > _NUM_NAMED else [])])
        warnings.warn(
            f"{len(cropped)} of {len(images)} image(s) are not square and are cropped to their centre ({listing}): "
            "where that cuts what matters, name the squares to take with boxes=FILE.json.",
            stacklevel=4,
        )
