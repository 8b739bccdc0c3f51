"""Where images count: their alpha channel, or grey pictures of the same names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.data.boxes import boxes_of, read_boxes, without_extension
from wplus.data.image_set import ImageSet, LazyImages
from wplus.data.sources import FolderReader, folder_images
from wplus.data.user_images import chosen_images
from wplus.errors import UserError

NONE, ALPHA = "none", "alpha"


def chosen_with_masks(
    source: str | Path, *, masks: str = NONE, **options: Any
) -> tuple[ImageSet, Tensor | LazyImages | None]:
    """Images as of `chosen_images(source, **options)`, and their masks, uint8 (N, 1, R, R), 255 where they count.

    masks
        none    None: everywhere
        alpha   the opacity of each image, soft; its colours are those of the paint then, not mixed with white
        FOLDER  grey pictures with the names of the images, of any extension; white counts

    Masks are made square and resampled as their images are; beyond an image nothing counts. UserError for a mask that
    is missing, for masks that are all white under alpha, and for one that is all black.
    """
    if masks == NONE:
        return chosen_images(source, **options), None
    if masks == ALPHA:
        images, found = _split(chosen_images(source, **options, alpha="keep"))
        if isinstance(found, Tensor) and bool((found == 255).all()):
            raise UserError(f"masks=alpha has no effect: no image of '{source}' has a transparent pixel.")
    else:
        images = chosen_images(source, **options)
        found = _from_folder(Path(masks), images.names, options)
    _refuse_empty(found, images.names)
    return images, found


def _split(with_opacity: ImageSet) -> tuple[ImageSet, Tensor | LazyImages]:
    """Images with opacity as their last channel -> images, masks."""
    colours = _mapped(with_opacity.images, lambda pixels: pixels[..., :-1, :, :], with_opacity.img_channels - 1)
    opacity = _mapped(with_opacity.images, lambda pixels: pixels[..., -1:, :, :], 1)
    images = ImageSet(
        colours,
        with_opacity.labels,
        with_opacity.names,
        label_names=with_opacity.label_names,
        policies=with_opacity.policies,
    )
    return images, opacity


def _from_folder(folder: Path, names: list[str], options: dict[str, Any]) -> Tensor | LazyImages:
    if not folder.is_dir():
        raise UserError(f"masks={folder} is not allowed: it must be none, alpha, or a folder of grey pictures.")
    boxes = options.get("boxes")
    policies = {key: options[key] for key in ("resolution", "fit", "resize") if key in options}
    pictures = folder_images(
        str(folder), split="all", channels=1, alpha="keep", **policies,
        boxes=None if boxes is None else _boxes_by_stem(folder, read_boxes(boxes)),
    )  # fmt: skip
    rows = {without_extension(name): row for row, name in enumerate(pictures.names)}
    missing = [name for name in names if without_extension(name) not in rows]
    if missing:
        raise UserError(f"{len(missing)} image(s) have no mask in '{folder}', the first is '{missing[0]}'.")
    own = pictures.subset(torch.tensor([rows[without_extension(name)] for name in names])).images
    return _mapped(own, _grey_times_opacity, 1)


def _boxes_by_stem(folder: Path, boxes: dict[str, Any]) -> dict[str, Any]:
    stems = {without_extension(name): box for name, box in boxes.items()}
    return boxes_of(FolderReader(folder).names, {**boxes, **stems})


def _grey_times_opacity(pixels: np.ndarray) -> np.ndarray:
    """(..., 2, H, W) -> (..., 1, H, W): what is transparent, or beyond the picture, does not count."""
    grey, opacity = pixels[..., :1, :, :].astype(np.uint16), pixels[..., 1:, :, :]
    return ((grey * opacity + 127) // 255).astype(np.uint8)


def _mapped(
    images: Tensor | LazyImages, change: Callable[[np.ndarray], np.ndarray], num_channels: int
) -> Tensor | LazyImages:
    if isinstance(images, LazyImages):
        return images.mapped(change, num_channels)
    return torch.from_numpy(np.ascontiguousarray(change(images.numpy())))


def _refuse_empty(masks: Tensor | LazyImages, names: list[str]) -> None:
    empty = [name for index, name in enumerate(names) if not bool(masks[torch.tensor([index])].any())]
    if empty:
        raise UserError(f"The mask(s) of {len(empty)} image(s) are black: nothing of '{empty[0]}' would count.")
