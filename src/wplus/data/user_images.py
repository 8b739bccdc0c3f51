"""A command's input images (held-out ones, a file, a folder or a zip) and the masks of the pixels that count."""

import io
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wplus.core.files import at_home
from wplus.data.build import build_dataset
from wplus.data.decode import boxes_of, read_boxes, read_image
from wplus.data.image_set import ImageSet, LazyImages
from wplus.data.names import clean_name, without_extension
from wplus.data.reader import Reader
from wplus.data.sources import FolderReader, ZipReader
from wplus.errors import UserError

HELD_OUT = "held_out"
NUM_HELD_OUT = 16
NO_MASKS, ALPHA = "none", "alpha"
_NUM_NAMED = 3  # number of names listed in a warning


def user_images(
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
    """Read images at the given resolution from `source`: "held_out", or the path of an image file, a folder or a zip.

    Args:
        source: "held_out" calls `held_out`, which returns that split of a data set; anything else is a path.
        num_images: how many images to take from the start; None: all, but only 16 of "held_out".
        labels, bad_files: for folders and zips, see `build_dataset`.
        fit, resize, alpha: see `decode.Policies`. A warning says which images fit=crop cuts.
        boxes: a file with the region of each image to use, see `decode.read_boxes`; None leaves it to `fit`.

    Raises:
        UserError: as in the sources, for `num_images` below 1, and for boxes or alpha with "held_out", which has none.
    """
    if num_images is not None and num_images < 1:
        raise UserError(f"num_images must be 1 or more, or null, got {num_images}.")
    policies = {"resolution": resolution, "channels": channels, "fit": fit, "resize": resize, "alpha": alpha}
    if str(source) == HELD_OUT:
        if alpha != "white" or boxes is not None:
            raise UserError("input=held_out has no alpha channel and takes no boxes: they belong to files of your own.")
        images, num_images = held_out(), num_images or NUM_HELD_OUT
    else:
        images = _from_path(at_home(source), policies, boxes, labels=labels, bad_files=bad_files)
    return images if num_images is None else images.subset(torch.arange(min(num_images, len(images))))


def user_images_with_masks(
    source: str | Path, *, masks: str = NO_MASKS, **options: Any
) -> tuple[ImageSet, Tensor | LazyImages | None]:
    """Images as from `user_images(source, **options)`, and their masks, uint8 (N, 1, R, R), 255 where pixels count.

    Masks are made square and resampled like their images; pixels beyond an image do not count.

    Args:
        masks: "none": no masks, every pixel counts. "alpha": the images' alpha channels as soft masks; colours are then
            not mixed with white. Otherwise a folder of grey pictures named like the images, with any extension; white
            counts.

    Raises:
        UserError: a missing mask, a mask that is entirely black, or "alpha" without any transparency.
    """
    if masks == NO_MASKS:
        return user_images(source, **options), None
    found: Tensor | LazyImages
    if masks == ALPHA:
        images, found = _split_opacity(user_images(source, **options, alpha="keep"))
        if isinstance(found, Tensor) and bool((found == 255).all()):
            raise UserError(f"masks=alpha has no effect: no image of '{source}' has a transparent pixel.")
    else:
        images = user_images(source, **options)
        found = _masks_from_folder(at_home(masks), images.names, options)
    empty = [name for index, name in enumerate(images.names) if not bool(found[torch.tensor([index])].any())]
    if empty:
        raise UserError(f"The mask(s) of {len(empty)} image(s) are black: no pixel of '{empty[0]}' would count.")
    return images, found


def _from_path(path: Path, policies: dict[str, Any], boxes: str | Path | None, **options: Any) -> ImageSet:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"'{path}' must be an image file, a folder or a zip, not a pipe or a device.")
    is_zip = path.suffix.lower() == ".zip"
    reader = FolderReader(path) if path.is_dir() else ZipReader(path) if is_zip else None
    names = [clean_name(path.name)] if reader is None else reader.names
    cuts = boxes_of(names, read_boxes(boxes)) if boxes is not None else {}
    if reader is None:
        images = ImageSet(read_image(path, box=cuts.get(names[0]), **policies)[None], None, names)
    else:
        images = build_dataset(reader, split="all", boxes=cuts, **policies, **options)
    if policies["fit"] == "crop":
        _warn_of_cropping([name for name in images.names if name not in cuts], reader or path, len(images))
    return images


def _warn_of_cropping(names: list[str], source: Reader | Path, num_images: int) -> None:
    cropped = []
    for name in names:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source.read(name))) as image:
            if image.width != image.height:
                cropped.append(name)
    if cropped:
        listing = ", ".join([*cropped[:_NUM_NAMED], *(["..."] if len(cropped) > _NUM_NAMED else [])])
        warnings.warn(
            f"{len(cropped)} of {num_images} image(s) are not square and are cropped to their centre ({listing}): "
            "if that cuts off what matters, give the squares to use with boxes=FILE.json.",
            stacklevel=4,
        )


def _split_opacity(with_opacity: ImageSet) -> tuple[ImageSet, Tensor | LazyImages]:
    """Split images with alpha as their last channel into images and masks."""
    colours = _mapped(with_opacity.images, lambda pixels: pixels[..., :-1, :, :], with_opacity.img_channels - 1)
    opacity = _mapped(with_opacity.images, lambda pixels: pixels[..., -1:, :, :], 1)
    return replace(with_opacity, images=colours, fingerprint=""), opacity


def _masks_from_folder(folder: Path, names: list[str], options: Mapping[str, Any]) -> Tensor | LazyImages:
    if not folder.is_dir():
        raise UserError(f"masks must be none, alpha, or a folder of grey pictures, got '{folder}'.")
    reader, boxes = FolderReader(folder), {}
    if options.get("boxes") is not None:
        given = read_boxes(options["boxes"])
        boxes = boxes_of(reader.names, {**given, **{without_extension(name): box for name, box in given.items()}})
    policies = {key: options[key] for key in ("resolution", "fit", "resize") if key in options}
    pictures = build_dataset(reader, split="all", channels=1, alpha="keep", boxes=boxes, **policies)
    rows = {name: row for row, name in enumerate(pictures.names)}
    stems = Counter(map(without_extension, rows))
    rows |= {without_extension(name): row for name, row in rows.items() if stems[without_extension(name)] == 1}
    found = {name: rows.get(name, rows.get(without_extension(name))) for name in names}
    missing = [name for name, row in found.items() if row is None]
    if missing:
        raise UserError(f"{len(missing)} image(s) have no mask in '{folder}', the first is '{missing[0]}'.")
    return _mapped(pictures.subset(torch.tensor(list(found.values()))).images, _grey_times_opacity, 1)


def _grey_times_opacity(pixels: np.ndarray) -> np.ndarray:
    """(..., 2, H, W) -> (..., 1, H, W): transparent pixels and those beyond the picture do not count."""
    grey, opacity = pixels[..., :1, :, :].astype(np.uint16), pixels[..., 1:, :, :]
    return ((grey * opacity + 127) // 255).astype(np.uint8)


def _mapped(
    images: Tensor | LazyImages, change: Callable[[np.ndarray], np.ndarray], num_channels: int
) -> Tensor | LazyImages:
    if isinstance(images, LazyImages):
        return images.mapped(change, num_channels)
    return torch.from_numpy(np.ascontiguousarray(change(images.numpy())))
