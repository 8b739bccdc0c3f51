"""The film of an inversion: pictures of one batch beside their targets, as they get better."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from wplus.core.images import as_uint8, image_grid, watchable_scale
from wplus.core.video import Mp4Writer
from wplus.inversion.result import Progress

MAX_IMAGES = 8  # of the batch
MAX_FRAMES = 120  # evenly spaced over the steps
_FPS = 30.0
_SECONDS = 4.0  # that few steps are stretched to, and many steps squeezed into


class InversionFilm:
    """A callback that writes an mp4, frame by frame: a tile for each image, target on the left, picture on the right.

    A context manager, as its writer is. Steps between the frames cost nothing; a frame waits for the device. With
    restarts one attempt follows the other; the result comes last and stays for a second.
    """

    def __init__(self, path: str | Path, targets: Tensor) -> None:
        self._targets = as_uint8(targets[:MAX_IMAGES]).cpu()
        self._writer = Mp4Writer(path, upscale=1)

    def __call__(self, progress: Progress) -> None:
        """Add a frame when this step is one of the evenly spaced ones."""
        num_frames = min(MAX_FRAMES, progress.num_steps)
        self._writer.fps = min(_FPS, max(1.0, num_frames / _SECONDS))
        before, now = ((step * num_frames) // progress.num_steps for step in (progress.step - 1, progress.step))
        if now > before:
            self._add(progress.images)

    def finish(self, images: Tensor) -> None:
        """Add the result (N, C, R, R)."""
        for _ in range(round(self._writer.fps)):
            self._add(images)

    def __enter__(self) -> InversionFilm:
        self._writer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.__exit__(*error)  # type: ignore[arg-type]

    def _add(self, images: Tensor) -> None:
        pairs = torch.cat([self._targets, as_uint8(images[:MAX_IMAGES]).cpu()], dim=3)
        scale = watchable_scale(pairs.shape[2])
        self._writer.add(image_grid(pairs, num_cols=min(2, len(pairs)), scale=scale, gap=8)[None])
