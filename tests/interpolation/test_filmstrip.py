from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from wplus.errors import UserError
from wplus.interpolation.curve import timeline
from wplus.interpolation.filmstrip import Strip


def filled(t: torch.Tensor, num_transitions: int, num_columns: int) -> Strip:
    strip = Strip(t, num_transitions=num_transitions, num_columns=num_columns)
    values = torch.linspace(0, 255, len(t)).to(torch.uint8)
    for part in values.view(-1, 1, 1, 1).expand(-1, 3, 32, 32).split(5):
        strip.add(part)
    return strip


def test_rows_show_both_ends_and_share_key_frames() -> None:
    strip = Strip(timeline(3, 9), num_transitions=2, num_columns=5)
    assert strip.rows == [[0, 2, 4, 6, 8], [8, 10, 12, 14, 16]]


def test_columns_are_the_nearest_frames_to_even_places() -> None:
    assert Strip(timeline(2, 11), num_transitions=1, num_columns=4).rows == [[0, 3, 7, 10]]


def test_short_films_show_every_frame_once() -> None:
    assert Strip(timeline(2, 3), num_transitions=1).rows == [[0, 1, 2]]


def test_only_what_is_shown_is_held() -> None:
    strip = filled(timeline(2, 100), 1, 4)
    assert sorted(strip._frames) == [0, 33, 66, 99]


def test_the_picture_has_the_frames_in_place(tmp_path: Path) -> None:
    strip = filled(timeline(3, 5), 2, 3)
    with Image.open(strip.save(tmp_path / "strip.png", titles=["a to b", "b to c"])) as image:
        # Three columns of 128 px, six apart, in two rows; margins of 12.
        assert image.size == (3 * 128 + 2 * 6 + 24, 2 * (24 + 128 + 20) + 6 + 24)
        shown = [
            image.getpixel((12 + 64 + column * 134, 12 + 24 + 64 + row * 178))[0]
            for row in (0, 1)
            for column in range(3)
        ]
    assert shown == [0, 63, 127, 127, 191, 255]


def test_places_follow_the_convention() -> None:
    strip = Strip(timeline(3, 5), num_transitions=2, num_columns=3)
    assert [strip._place(strip.rows[1], frame, "t") for frame in strip.rows[1]] == [0, 0.5, 1]
    backwards = Strip(timeline(3, 5, alpha="a_at_one"), num_transitions=2, num_columns=3)
    assert [backwards._place(backwards.rows[0], frame, "alpha") for frame in backwards.rows[0]] == [0, 0.5, 1]


def test_one_column_is_refused() -> None:
    with pytest.raises(UserError, match="1 columns"):
        Strip(timeline(2, 5), num_transitions=1, num_columns=1)
