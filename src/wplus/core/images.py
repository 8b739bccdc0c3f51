"""Conversions between displayable images (uint8) and network tensors (NCHW float in [-1, 1]), and image files."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from wplus.core.files import atomic_write
from wplus.errors import UserError

GAP, MARGIN, TITLE, CAPTION = 6, 12, 24, 20
Row = Sequence[tuple[Tensor, str]]
"""Pictures with their captions."""


def to_float(images: Tensor) -> Tensor:
    """uint8 images of any shape -> float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Float images in [-1, 1] -> uint8, with values outside clamped: floor(127.5 x + 128), the usual rounding.

    `to_uint8(to_float(u)) == u` for every uint8 value u.
    """
    return (images.detach() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def as_uint8(images: Tensor) -> Tensor:
    """Return uint8 images unchanged and convert float images in [-1, 1], the inputs that all image writers accept."""
    return images if images.dtype == torch.uint8 else to_uint8(images)


def to_pil(image: Tensor) -> Image.Image:
    """One image (C, H, W), C of 1, 3 or 4, uint8 or float in [-1, 1] -> a Pillow image (L, RGB or RGBA)."""
    array = as_uint8(image).cpu().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array))


def pixels_of(picture: Image.Image) -> Tensor:
    """Pixels of a Pillow image (L, RGB or RGBA), uint8 (C, H, W)."""
    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def save_png(path: str | Path, image: Tensor | Image.Image, *, notes: Mapping[str, str] | None = None) -> Path:
    """Write one image, (C, H, W) or Pillow's, as a lossless PNG, atomically; `notes` become its text chunks."""
    picture = to_pil(image) if isinstance(image, Tensor) else image
    info = PngInfo()
    for key, text in (notes or {}).items():
        info.add_text(key, text)
    return atomic_write(path, lambda file: picture.save(file, format="PNG", pnginfo=info))


def image_grid(images: Tensor, *, num_cols: int | None = None, scale: int = 1, gap: int = 0) -> Tensor:
    """Tile images (N, C, H, W) row by row into one uint8 image (C, rows*H, cols*W).

    `num_cols` defaults to the smallest square that holds N; `scale` enlarges small images by nearest neighbour; `gap`
    is the white space between tiles in pixels (after scaling).
    """
    tiles = as_uint8(images).cpu().repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    num, channels, height, width = tiles.shape
    cols = num_cols or int(np.ceil(np.sqrt(num)))
    rows = -(-num // cols)
    canvas = tiles.new_full((channels, rows * (height + gap) - gap, cols * (width + gap) - gap), 255)
    for index, tile in enumerate(tiles):
        top, left = (index // cols) * (height + gap), (index % cols) * (width + gap)
        canvas[:, top : top + height, left : left + width] = tile
    return canvas


def watchable_scale(resolution: int, *, min_px: int = 128) -> int:
    """The integer factor that enlarges an image of `resolution` pixels to at least `min_px` for viewing."""
    return max(1, -(-min_px // resolution))


def grouped_rows(
    names: Sequence[str], kinds: Mapping[str, str], read: Callable[[str, str], Tensor], *, per_row: int
) -> Image.Image:
    """`per_row` named pictures per row under their names, of every kind (kind -> caption), as `captioned_rows`."""
    groups = [names[first : first + per_row] for first in range(0, len(names), per_row)]
    rows = [[(read(kind, name), kinds[kind]) for name in group for kind in kinds] for group in groups]
    return captioned_rows(rows, [", ".join(group) for group in groups])


def captioned_rows(rows: Sequence[Row], titles: Sequence[str], *, min_px: int = 128) -> Image.Image:
    """Rows of (picture, caption), one title each, as one RGB image.

    Pictures are (C, H, W), uint8 or float in [-1, 1], all of the same size; they are enlarged by an integer factor to
    at least `min_px`. Rows may differ in length; the canvas is as wide as the longest row or title.
    """
    if not rows or not all(rows):
        raise UserError("There are no pictures to arrange in rows: every row needs at least one.")
    height, width = rows[0][0][0].shape[1:]
    scale = watchable_scale(max(height, width), min_px=min_px)
    height, width, row_height = height * scale, width * scale, TITLE + height * scale + CAPTION + GAP
    title_font, font = ImageFont.load_default(14), ImageFont.load_default(12)
    longest = max(max(map(len, rows)) * (width + GAP) - GAP, math.ceil(max(map(title_font.getlength, titles))))
    canvas = Image.new("RGB", (longest + 2 * MARGIN, len(rows) * row_height - GAP + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    tops = range(MARGIN, MARGIN + len(rows) * row_height, row_height)
    for top, row, title in zip(tops, rows, titles, strict=True):
        draw.text((MARGIN, top), title, fill="black", font=title_font)
        for left, (image, caption) in zip(range(MARGIN, canvas.width, width + GAP), row, strict=False):
            tile = to_pil(image).convert("RGB").resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(tile, (left, top + TITLE))
            below = (left + width / 2, top + TITLE + height + 3)
            draw.text(below, caption, fill="#555555", font=font, anchor="ma")
    return canvas
