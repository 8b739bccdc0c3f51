"""A film in one picture: a row of labelled frames for each transition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from wplus.errors import UserError
from wplus.files import atomic_write
from wplus.images import to_pil, watchable_scale

_GAP, _MARGIN, _TITLE, _CAPTION = 6, 12, 24, 20


class Strip:
    """Takes the frames of a film in batches and keeps the few that a row shows, ends included.

    `t` (T,) are the positions of all frames, in the order in which they come.
    """

    def __init__(self, t: Tensor, *, num_transitions: int, num_columns: int = 9) -> None:
        if num_columns < 2:
            raise UserError(f"A strip of {num_columns} columns cannot show both ends; it needs at least 2.")
        steps = (len(t) - 1) // num_transitions
        columns = torch.linspace(0, steps, min(num_columns, steps + 1)).round().long()
        self.rows = (torch.arange(num_transitions)[:, None] * steps + columns).tolist()
        self.positions = t.tolist()
        self.num_frames = 0
        self._wanted = {frame for row in self.rows for frame in row}
        self._frames: dict[int, Tensor] = {}

    def add(self, images: Tensor) -> None:
        """Images (B, C, H, W), the next B frames."""
        for offset, image in enumerate(images):
            if self.num_frames + offset in self._wanted:
                self._frames[self.num_frames + offset] = image.cpu()
        self.num_frames += len(images)

    def save(self, path: str | Path, *, titles: Sequence[str], parameter: str = "t") -> Path:
        """Write the picture; one title for each row, and under each frame its place in its transition.

        `parameter` "t" counts from the transition's first key point to its second, "alpha" the other way round.
        """
        canvas = self._draw(titles, parameter)
        return atomic_write(path, lambda file: canvas.save(file, format="PNG"))

    def _draw(self, titles: Sequence[str], parameter: str) -> Image.Image:
        tile = to_pil(self._frames[0]).size
        scale = watchable_scale(max(tile))
        tile = (tile[0] * scale, tile[1] * scale)
        row_height = _TITLE + tile[1] + _CAPTION + _GAP
        width = len(self.rows[0]) * (tile[0] + _GAP) - _GAP
        canvas = Image.new("RGB", (width + 2 * _MARGIN, len(self.rows) * row_height - _GAP + 2 * _MARGIN), "white")
        for index, (row, title) in enumerate(zip(self.rows, titles, strict=True)):
            self._draw_row(canvas, row, title, top=_MARGIN + index * row_height, tile=tile, parameter=parameter)
        return canvas

    def _draw_row(self, canvas: Image.Image, row: list[int], title: str, *, top: int, tile: tuple[int, int],
                  parameter: str) -> None:  # fmt: skip
        draw = ImageDraw.Draw(canvas)
        draw.text((_MARGIN, top), title, fill="black", font=ImageFont.load_default(14))
        for column, frame in enumerate(row):
            left = _MARGIN + column * (tile[0] + _GAP)
            picture = to_pil(self._frames[frame]).convert("RGB").resize(tile, Image.Resampling.NEAREST)
            canvas.paste(picture, (left, top + _TITLE))
            place = (left + tile[0] / 2, top + _TITLE + tile[1] + 3)
            text = f"{parameter} = {self._place(row, frame, parameter):.2f}"
            draw.text(place, text, fill="#555555", font=ImageFont.load_default(12), anchor="ma")

    def _place(self, row: list[int], frame: int, parameter: str) -> float:
        t = self.positions[frame] - min(self.positions[row[0]], self.positions[row[-1]])
        return t if parameter == "t" else 1 - t
