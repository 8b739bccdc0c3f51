"""The film of an inversion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.core.test_video import decoded
from wplus.inversion.report import MAX_FRAMES, MAX_IMAGES, InversionFilm
from wplus.inversion.result import Progress


def filmed(path, num_steps: int, *, num_images: int = 2, skipped: tuple[int, ...] = ()) -> np.ndarray:
    """The frames (T, H, W, 3) of a run whose pictures go from black to white."""
    targets = torch.zeros(num_images, 3, 8, 8)
    with InversionFilm(path, targets) as film:
        for step in range(1, num_steps + 1):
            images = torch.full((num_images, 3, 8, 8), 2 * step / num_steps - 1)
            if step not in skipped:
                film(Progress(step, num_steps, torch.zeros(num_images), images))
        film.finish(images)
    return np.stack(decoded(path))


@pytest.mark.parametrize("num_steps", [1, 5, MAX_FRAMES, 1000])
def test_frames_are_evenly_spaced_and_few(tmp_path, num_steps):
    frames = filmed(tmp_path / "video.mp4", num_steps)
    brightness = frames[:, 60, 190].mean(axis=1)  # inside the picture, right of its target
    num_moving = min(num_steps, MAX_FRAMES)
    assert num_moving < len(frames) <= num_moving + 30
    assert np.abs(brightness[num_moving:] - 255).max() < 6
    expected = 255 * np.arange(1, num_moving + 1) / num_moving
    assert np.abs(brightness[:num_moving] - expected).max() < 6
    assert np.abs(frames[:, 60, 60].mean(axis=1) - 128).max() < 6


def test_a_big_batch_is_cut_and_steps_may_be_passed_over(tmp_path):
    frames = filmed(tmp_path / "video.mp4", 10, num_images=MAX_IMAGES + 3, skipped=(4, 5, 6))
    assert frames.shape[1] == 4 * 128 + 3 * 8
    assert 7 < len(frames) < 11


def test_an_interrupted_film_is_no_film(tmp_path):
    def interrupted():
        with InversionFilm(tmp_path / "video.mp4", torch.zeros(1, 3, 8, 8)) as film:
            film(Progress(1, 2, torch.zeros(1), torch.zeros(1, 3, 8, 8)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
