"""Rows of pictures with a title over each row and a caption under each picture, enlarged to be looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from wplus.core.images import to_pil, watchable_scale
from wplus.errors import UserError

GAP, MARGIN, TITLE, CAPTION = 6, 12, 24, 20
Row = Sequence[tuple[Tensor, str]]


def captioned_rows(rows: Sequence[Row], titles: Sequence[str], *, min_px: int = 128) -> Image.Image:
    """Rows of (picture, caption), one title each, as one RGB image.

    A picture is (C, H, W), uint8 or float in [-1, 1], all of one size; it is enlarged by a whole factor to `min_px` or
    more. Rows may have different lengths; the canvas is as wide as the longest of them, or as the longest title.
    UserError when there is nothing to show.
    """
    if not rows or not all(rows):
        raise UserError("There are no pictures to arrange in rows: every row needs at least one.")
    tile = to_pil(rows[0][0][0]).size
    scale = watchable_scale(max(tile), min_px=min_px)
    tile = (tile[0] * scale, tile[1] * scale)
    row_height = TITLE + tile[1] + CAPTION + GAP
    of_titles = math.ceil(max(map(_title_font().getlength, titles)))
    width = max(max(map(len, rows)) * (tile[0] + GAP) - GAP, of_titles)
    canvas = Image.new("RGB", (width + 2 * MARGIN, len(rows) * row_height - GAP + 2 * MARGIN), "white")
    for index, (row, title) in enumerate(zip(rows, titles, strict=True)):
        _draw_row(canvas, row, title, top=MARGIN + index * row_height, tile=tile)
    return canvas


def _title_font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(14)


def _draw_row(canvas: Image.Image, row: Row, title: str, *, top: int, tile: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, top), title, fill="black", font=_title_font())
    for column, (image, caption) in enumerate(row):
        left = MARGIN + column * (tile[0] + GAP)
        canvas.paste(to_pil(image).convert("RGB").resize(tile, Image.Resampling.NEAREST), (left, top + TITLE))
        place = (left + tile[0] / 2, top + TITLE + tile[1] + 3)
        draw.text(place, caption, fill="#555555", font=ImageFont.load_default(12), anchor="ma")
