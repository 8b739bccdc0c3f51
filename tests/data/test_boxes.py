"""Squares that a user draws."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.conftest import noise
from wplus.data.boxes import boxes_of, cut, read_boxes
from wplus.errors import UserError


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((2, 3, 7, 8), (2, 3, 7, 8)),
        ((2, 4, 7, 7), (2, 3, 7, 8)),  # as wide as its longer side, about its centre
        ((3.9, 1, 5.1, 9), (1, 1, 9, 9)),
        ((2.4, 3.4, 7.4, 8.4), (2, 3, 7, 8)),
    ],
)
def test_boxes_become_squares(box, square):
    image = noise(12, 10)
    left, top, right, bottom = square
    assert np.array_equal(np.asarray(cut(image, box, 255)), np.asarray(image)[top:bottom, left:right])


def test_beyond_the_image_is_background():
    image = noise(6, 6, mode="L")
    found = np.asarray(cut(image, (-2, 3, 4, 9), 77))
    assert np.array_equal(found[:3, 2:], np.asarray(image)[3:, :4])
    assert (found[3:] == 77).all()
    assert (found[:, :2] == 77).all()
    for box in ((6, 0, 9, 3), (-5, 0, 0, 4)):
        with pytest.raises(UserError, match="outside of its 6x6"):
            cut(image, box, 255)


def test_boxes_belong_to_names_with_or_without_extension():
    boxes = {"a": (0, 0, 1, 1), "sub/b.png": (0, 0, 2, 2), "c.jpg": (0, 0, 3, 3)}
    assert boxes_of(["a.png", "sub/b.png", "c.png"], boxes) == {"a.png": (0, 0, 1, 1), "sub/b.png": (0, 0, 2, 2)}
    with pytest.raises(UserError, match="None of the 3 box"):
        boxes_of(["d.png"], boxes)


@pytest.mark.parametrize(
    "content",
    ["[1, 2]", '{"a": [1, 2, 3]}', '{"a": [1, 2, 1, 5]}', '{"a": [1, 5, 2, 4]}', '{"a": ["x", 0, 1, 1]}', "{"],
)
def test_bad_files_are_named(tmp_path, content):
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(UserError, match=r"boxes\.json"):
        read_boxes(tmp_path / "boxes.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.json"):
        read_boxes(tmp_path / "none.json")
