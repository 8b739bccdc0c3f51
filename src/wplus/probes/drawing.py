"""Pictures in rows and columns with words beside them, and plots, as the uint8 images that a view hands on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from wplus.core.images import as_uint8, to_pil, watchable_scale

LEAST_PX, MOST_PX = 64, 256  # of a picture in a matrix
GAP, MARGIN, LINE, TEXT = 3, 10, 18, 13  # pixels: between pictures, around all, of a line of words, of its letters
Cell = tuple["Tensor | None", str]
"""A picture (C, H, W), None for an empty place, and the words under it."""


def matrix(
    rows: Sequence[Sequence[Cell]], *, left: Sequence[str] = (), top: Sequence[str] = (), breaks: Sequence[int] = ()
) -> Tensor:
    """One picture (3, H, W) of rows of cells, all pictures of one size.

    left    words beside each row, perhaps of several lines
    top     words over each column
    breaks  numbers of rows before which there is some space
    """
    font = ImageFont.load_default(TEXT)
    shown = next(picture for row in rows for picture, _ in row if picture is not None)
    px = min(MOST_PX, shown.shape[-1] * watchable_scale(shown.shape[-1], min_px=LEAST_PX))
    beside = max((_width(text, font) for text in left), default=0)
    heights = [px + (LINE if any(words for _, words in row) else 0) for row in rows]
    start = MARGIN + (LINE if any(top) else 0)
    tops = [start + sum(heights[:n]) + n * GAP + MARGIN * sum(b <= n for b in breaks) for n in range(len(rows))]
    lefts = [MARGIN + (beside + MARGIN if beside else 0) + n * (px + GAP) for n in range(max(map(len, rows)))]
    canvas = Image.new("RGB", (lefts[-1] + px + MARGIN, tops[-1] + heights[-1] + MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    for x, words in zip(lefts, top, strict=False):
        draw.text((x + px / 2, MARGIN), words, fill="black", font=font, anchor="ma")
    for y, words in zip(tops, left, strict=False):
        draw.multiline_text((MARGIN, y + px / 2), words, fill="black", font=font, anchor="lm")
    for y, row in zip(tops, rows, strict=True):
        for x, (picture, words) in zip(lefts, row, strict=False):
            if picture is not None:
                canvas.paste(_tile(picture, px), (x, y))
            draw.text((x + px / 2, y + px + 2), words, fill="#555555", font=font, anchor="ma")
    return as_tensor(canvas)


def plotted(figure: Any) -> Tensor:
    """A matplotlib Figure as a picture (3, H, W)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[:, :, :3].copy()).permute(2, 0, 1)


def as_tensor(image: Image.Image) -> Tensor:
    """A Pillow image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _tile(picture: Tensor, px: int) -> Image.Image:
    """Enlarged by whole factors so that pixels can be told apart, reduced with their neighbours' help."""
    how = Image.Resampling.NEAREST if picture.shape[-1] <= px else Image.Resampling.LANCZOS
    return to_pil(as_uint8(picture)).convert("RGB").resize((px, px), how)


def _width(text: str, font: Any) -> int:
    return round(max((font.getlength(line) for line in text.splitlines()), default=0))
