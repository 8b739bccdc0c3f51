"""Rows of captioned pictures: sizes, places, and what cannot be shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wplus.core.captions import captioned_rows
from wplus.errors import UserError


def grey(value: int) -> torch.Tensor:
    return torch.full((3, 32, 32), value, dtype=torch.uint8)


def test_pictures_are_in_place_and_rows_may_differ_in_length():
    rows = [[(grey(10), "a"), (grey(20), "b"), (grey(30), "c")], [(grey(40), "d")]]
    image = captioned_rows(rows, ["first", "second"])
    assert image.size == (3 * 128 + 2 * 6 + 24, 2 * (24 + 128 + 20) + 6 + 24)
    places = [(12 + 64 + 134 * column, 12 + 24 + 64 + 178 * row) for row, column in ((0, 0), (0, 1), (0, 2), (1, 0))]
    assert [image.getpixel(place)[0] for place in places] == [10, 20, 30, 40]
    assert image.getpixel((12 + 64 + 134, 12 + 24 + 64 + 178)) == (255, 255, 255)


def test_titles_and_captions_are_written():
    with_text = captioned_rows([[(grey(255), "caption")]], ["title"])
    without = captioned_rows([[(grey(255), "")]], [""])
    rows = np.flatnonzero((np.asarray(with_text) != np.asarray(without)).any(axis=(1, 2)))
    assert rows.min() < 36
    assert rows.max() > 164


def test_a_long_title_is_not_cut_off():
    title = "a title much longer than its one picture is wide, W"
    image = captioned_rows([[(grey(255), "")]], [title])
    inked = np.flatnonzero((np.asarray(image) != 255).any(axis=(0, 2)))
    assert image.width > 128 + 24
    assert image.width - 24 <= inked.max() <= image.width - 12
    assert captioned_rows([[(grey(255), "")]], ["short"]).width == 128 + 24


def test_nothing_to_show_is_refused():
    with pytest.raises(UserError, match="at least one"):
        captioned_rows([[]], ["empty"])
