"""Decode any image that Pillow reads into uint8 pixels (C, H, W), under explicit policies.

The steps, in order: take the first frame of an animation; rotate upright according to EXIF; scale 16 bits to 8;
composite transparency on white, or keep it; convert to RGB (or grey); make square with a box or by `fit`; resample by
`resize`. Colour profiles are ignored.
"""

import contextlib
import importlib
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from wplus.core.files import at_home
from wplus.data.names import clean_name, without_extension
from wplus.errors import UserError, check_choice

FITS = ("crop", "pad", "refuse")
RESIZES = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}
CHANNELS, ALPHAS = (1, 3), ("white", "keep")
_WHITE: dict[str, Any] = {"L": 255, "RGB": (255, 255, 255), "LA": (255, 0), "RGBA": (255, 255, 255, 0)}
_EXIF_ORIENTATION = 0x0112
_FAR = 100_000  # pixels: larger than any image

Box = tuple[float, float, float, float]
"""Region of an image chosen by the user: left, top, right and bottom in pixels of the upright image (after EXIF)."""


with contextlib.suppress(ImportError):
    importlib.import_module("pillow_heif").register_heif_opener()  # HEIC, if its plugin is installed


class BadImage(UserError):
    """Raised for an image that cannot be used; carries its `name` and the `reason`."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The image '{name}' cannot be used: {reason}.")
        self.name, self.reason = name, reason


@dataclass(frozen=True, kw_only=True)
class Policies:
    """How files are turned into pixels; UserError for an unknown policy.

    Attributes:
        resolution: the size to resample to; None keeps size and shape, and `fit` and `resize` have no effect.
        fit: treatment of images that are not square: "crop" keeps the central square, "pad" adds white along the short
            sides, "refuse" raises an error.
        resize: "lanczos" or "box"; both average over all source pixels when downsampling.
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma). Grey is repeated to three channels.
        alpha: "white" composites transparent pixels on white; "keep" appends the opacity, 0..255, as the last channel:
            the colours are then not mixed with white, and white where the image is fully transparent.
    """

    resolution: int | None = None
    fit: str = "crop"
    resize: str = "lanczos"
    channels: int = 3
    alpha: str = "white"

    def __post_init__(self) -> None:
        check_choice("fit", self.fit, FITS)
        check_choice("resize", self.resize, RESIZES)
        check_choice("channels", self.channels, CHANNELS)
        check_choice("alpha", self.alpha, ALPHAS)

    @property
    def mode(self) -> str:
        """Pillow's mode for the channels: L, LA, RGB or RGBA."""
        return ("RGB" if self.channels == 3 else "L") + ("A" if self.alpha == "keep" else "")


@dataclass(frozen=True)
class Decoded:
    """A decoded image, uint8 (C, H, W), and what its file was like.

    `size` is width and height in the file, after EXIF rotation; `oddities` describe what in the file required a policy:
    "16-bit", "CMYK", "not square (40x30)", ...
    """

    pixels: np.ndarray
    size: tuple[int, int]
    oddities: tuple[str, ...]


def read_image(source: str | Path | bytes, *, box: Box | None = None, **policies: Any) -> Tensor:
    """Read one image as uint8 (C, H, W), values 0..255; H = W = `resolution` if given, else the file's size.

    Args:
        source: a path, or the bytes of a file. 16-bit values are divided by 257.
        box: region to use instead of the one chosen by `fit`: the square with the box's centre and the length of its
            longer side; white beyond the image.
        policies: fields of `Policies`.

    Raises:
        UserError: the image, which the message names, is missing, damaged or refused by `fit`.
    """
    name = "<bytes>" if isinstance(source, bytes) else str(source)
    try:
        content = source if isinstance(source, bytes) else at_home(source).read_bytes()
    except OSError as error:
        raise BadImage(name, (error.strerror or str(error)).lower()) from error
    return torch.from_numpy(decode(content, name, Policies(**policies), box=box).pixels)


def decode(content: bytes, name: str, policies: Policies, *, box: Box | None = None) -> Decoded:
    """Like `read_image`, but from the bytes of a file and with a report of its oddities. Raises BadImage."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            oddities = _oddities(opened, content, policies.resolution)
            image = _to_mode(_to_8_bit(ImageOps.exif_transpose(opened), name), policies.mode)
    except BadImage:
        raise
    except Image.UnidentifiedImageError as error:
        cure = ": for HEIC, pip install pillow-heif" if content[4:8] == b"ftyp" else ""
        raise BadImage(name, f"it is not an image in a format that Pillow reads{cure}") from error
    except Exception as error:  # Pillow's readers raise whatever their format's parser trips over
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise BadImage(name, f"it cannot be decoded ({words[0]})") from error
    size = image.size
    if box is not None:
        image = _cut(image, box, name)
    elif policies.resolution is not None:
        image = _fit(image, name, policies.fit)
    if policies.resolution is not None and image.width != policies.resolution:
        image = image.resize((policies.resolution, policies.resolution), RESIZES[policies.resize])
    pixels = np.array(image).reshape(image.height, image.width, -1).transpose(2, 0, 1)
    if policies.alpha == "keep":
        is_opacity = (np.arange(len(pixels)) == policies.channels)[:, None, None]
        pixels = np.where((pixels[-1:] > 0) | is_opacity, pixels, 255)
    return Decoded(np.ascontiguousarray(pixels, dtype=np.uint8), size, oddities)


def _to_8_bit(image: Image.Image, name: str) -> Image.Image:
    """Convert 16-bit grey (modes I;16*, and I in formats that use it for that) to L; other modes have 8 bits."""
    if image.mode == "F":
        raise BadImage(name, "it has floating-point pixels, whose range is unknown; convert it to 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise BadImage(name, f"its pixels reach from {values.min()} to {values.max()}, beyond 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode.endswith("A"):
        return (image if image.has_transparency_data else image.convert("RGB")).convert("RGBA").convert(mode)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image if image.mode == mode else image.convert("RGB").convert(mode)


def _square(image: Image.Image, left: int, top: int, side: int) -> Image.Image:
    """Crop a square, filled with white beyond the image."""
    inside = (max(left, 0), max(top, 0), min(left + side, image.width), min(top + side, image.height))
    canvas = Image.new(image.mode, (side, side), _WHITE[image.mode])
    canvas.paste(image.crop(inside), (inside[0] - left, inside[1] - top))
    return canvas


def _fit(image: Image.Image, name: str, fit: str) -> Image.Image:
    width, height = image.size
    if width == height:
        return image
    if fit == "refuse":
        raise BadImage(name, f"it is {width}x{height}, not square (fit=refuse; fit=crop and fit=pad would make it so)")
    side = min(width, height) if fit == "crop" else max(width, height)
    # Rounded towards zero: the odd pixel is at the right and bottom both when cropping and when padding.
    return _square(image, int((width - side) / 2), int((height - side) / 2), side)


def _oddities(image: Image.Image, content: bytes, resolution: int | None) -> tuple[str, ...]:
    width, height = image.size
    smaller = resolution is not None and min(width, height) < resolution
    # Pillow returns 16-bit colour PNGs with 8 bits; byte 24 of the file, in the IHDR chunk, has the true depth.
    is_16_bit_png = image.format == "PNG" and len(content) > 24 and content[24] == 16
    found = {
        f"animated ({getattr(image, 'n_frames', 1)} frames, the first is used)": getattr(image, "is_animated", False),
        "turned by EXIF": image.getexif().get(_EXIF_ORIENTATION, 1) != 1,
        "16-bit": image.mode.startswith("I") or is_16_bit_png,
        "palette": image.mode == "P",
        "grey": image.mode in ("1", "L", "LA"),
        f"colour mode {image.mode}": image.mode in ("CMYK", "YCbCr", "LAB", "HSV"),
        "transparent (composited on white)": image.has_transparency_data,
        f"not square ({width}x{height})": width != height,
        f"smaller than {resolution} px ({width}x{height}, enlarged)": smaller,
    }
    return tuple(words for words, present in found.items() if present)


# Boxes that a user draws around the subject: alignment without a detector


def read_boxes(path: str | Path) -> dict[str, Box]:
    """Read a JSON file of {image name: [left, top, right, bottom]}; UserError for anything else."""
    if at_home(path).exists() and not at_home(path).is_file():  # reading a pipe would block
        raise UserError(f"Cannot read the boxes in '{path}': it is not a file.")
    try:
        content = json.loads(at_home(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"Cannot read the boxes in '{path}': {error}.") from error
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds no boxes: it must be {{name: [left, top, right, bottom], ...}}.")
    for name, box in content.items():
        numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(each, (int, float)) for each in box)
        if not numbers or not (-_FAR < box[0] < box[2] < _FAR and -_FAR < box[1] < box[3] < _FAR):
            raise UserError(f"The box {box} of '{name}' in '{path}' is not [left, top, right, bottom] in pixels.")
    return {clean_name(name): tuple(box) for name, box in content.items()}


def boxes_of(names: Iterable[str], boxes: Mapping[str, Box]) -> dict[str, Box]:
    """Match boxes to the images `names` by name, with or without extension; not every image needs a box.

    Raises UserError if no box belongs to any of the images.
    """
    found = {name: boxes.get(name, boxes.get(without_extension(name))) for name in names}
    kept = {name: box for name, box in found.items() if box is not None}
    if not kept:
        raise UserError(f"None of the {len(boxes)} box(es) belongs to an image; named: {', '.join(list(boxes)[:3])}.")
    return kept


def _cut(image: Image.Image, box: Box, name: str) -> Image.Image:
    left, top, right, bottom = box
    side = max(1, round(max(right - left, bottom - top)))
    x, y = math.floor((left + right - side + 1) / 2), math.floor((top + bottom - side + 1) / 2)
    if not (-side < x < image.width and -side < y < image.height):
        raise BadImage(name, f"the box {list(box)} lies outside of its {image.width}x{image.height} pixels")
    if side > 16 * max(image.size):
        raise BadImage(name, f"the box {list(box)} is far larger than its {image.width}x{image.height} pixels")
    return _square(image, x, y, side)
