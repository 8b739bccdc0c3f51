"""A film in one picture: a row of labelled frames for each transition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from wplus.core.files import atomic_write
from wplus.core.images import Row, captioned_rows
from wplus.errors import UserError


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
        return save_rows(path, self.captioned(parameter), titles)

    def captioned(self, parameter: str = "t") -> list[list[tuple[Tensor, str]]]:
        """Each row's frames with their captions."""
        return [
            [(self._frames[frame], f"{parameter} = {self._place(row, frame, parameter):.2f}") for frame in row]
            for row in self.rows
        ]

    def _place(self, row: list[int], frame: int, parameter: str) -> float:
        t = self.positions[frame] - min(self.positions[row[0]], self.positions[row[-1]])
        return t if parameter == "t" else 1 - t


def save_rows(path: str | Path, rows: Sequence[Row], titles: Sequence[str]) -> Path:
    """Write rows of captioned pictures, one title each, as a PNG."""
    canvas = captioned_rows(rows, titles)
    return atomic_write(path, lambda file: canvas.save(file, format="PNG"))
