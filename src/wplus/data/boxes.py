"""Squares that a user draws around what matters in an image: alignment without a detector."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from PIL import Image

from wplus.errors import UserError

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the image as it is seen (after EXIF rotation)."""


def read_boxes(path: str | Path) -> dict[str, Box]:
    """A JSON file of {image name: [left, top, right, bottom]}; UserError for anything else."""
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read the boxes in '{path}': {error}.") from error
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds no boxes: it must be {{name: [left, top, right, bottom], ...}}.")
    for name, box in content.items():
        numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(each, (int, float)) for each in box)
        if not numbers or box[0] >= box[2] or box[1] >= box[3]:
            raise UserError(f"The box {box} of '{name}' in '{path}' is not [left, top, right, bottom] in pixels.")
    return {name: tuple(box) for name, box in content.items()}


def boxes_of(names: Iterable[str], boxes: Mapping[str, Box]) -> dict[str, Box]:
    """The boxes of the images `names`, given by name, or by name without extension; images may have none.

    UserError when no box belongs to any of the images.
    """
    found = {name: boxes.get(name, boxes.get(without_extension(name))) for name in names}
    kept = {name: box for name, box in found.items() if box is not None}
    if not kept:
        raise UserError(f"None of the {len(boxes)} box(es) belongs to an image; named is {', '.join(list(boxes)[:3])}.")
    return kept


def without_extension(name: str) -> str:
    """`sub/a.png` -> `sub/a`."""
    return PurePosixPath(name).with_suffix("").as_posix()


def cut(image: Image.Image, box: Box, background: object) -> Image.Image:
    """The square around a box: as wide as its longer side, about its centre; beyond the image is `background`.

    UserError when nothing of the image lies inside.
    """
    left, top, right, bottom = box
    side = max(1, round(max(right - left, bottom - top)))
    x, y = math.floor((left + right - side + 1) / 2), math.floor((top + bottom - side + 1) / 2)
    inside = (max(x, 0), max(y, 0), min(x + side, image.width), min(y + side, image.height))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise UserError(f"the box {list(box)} lies outside of its {image.width}x{image.height} pixels")
    canvas = Image.new(image.mode, (side, side), background)
    canvas.paste(image.crop(inside), (inside[0] - x, inside[1] - y))
    return canvas
