"""The border between bytes and floats, and what is written as pictures."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from wplus.core.images import (
    as_uint8,
    captioned_rows,
    image_grid,
    save_png,
    to_float,
    to_pil,
    to_uint8,
    watchable_scale,
)
from wplus.errors import UserError

ALL = torch.arange(256, dtype=torch.uint8)


def test_every_byte_survives_the_way_there_and_back():
    assert torch.equal(to_uint8(to_float(ALL)), ALL)


def test_to_float():
    floats = to_float(ALL)
    assert floats.dtype == torch.float32
    assert floats[0] == -1
    assert floats[255] == 1
    torch.testing.assert_close(floats.double(), ALL.double() / 127.5 - 1)


def test_to_uint8_is_the_published_rounding():
    values = torch.linspace(-1.2, 1.2, 4001)
    expected = [min(max(math.floor(value * 127.5 + 128), 0), 255) for value in values.tolist()]
    found = to_uint8(values)
    assert found.dtype == torch.uint8
    assert sum(a != b for a, b in zip(found.tolist(), expected, strict=True)) <= 2  # ties in float32
    assert to_uint8(torch.tensor([-5.0, 5.0])).tolist() == [0, 255]


def test_to_uint8_needs_no_detach():
    assert not to_uint8(torch.zeros(3, requires_grad=True)).requires_grad
    assert as_uint8(ALL) is ALL
    assert torch.equal(as_uint8(to_float(ALL)), ALL)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_pngs_keep_every_pixel(tmp_path, channels, mode):
    image = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    assert to_pil(image).mode == mode
    path = save_png(tmp_path / "sub" / "image.png", image)
    with Image.open(path) as read:
        assert (read.format, read.mode, read.size) == ("PNG", mode, (7, 5))
        assert np.array_equal(np.asarray(read).reshape(5, 7, channels), image.permute(1, 2, 0).numpy())
    save_png(path, to_float(image))
    with Image.open(path) as read:
        assert np.array_equal(np.asarray(read).reshape(5, 7, channels), image.permute(1, 2, 0).numpy())


def test_a_png_that_cannot_be_written():
    with pytest.raises(UserError, match=r"^Cannot write '/dev/null/x\.png'"):
        save_png("/dev/null/x.png", torch.zeros(3, 2, 2))


def test_grid_runs_row_by_row_and_leaves_white():
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 2, 4)
    grid = image_grid(images, num_cols=3)
    assert grid.shape == (3, 4, 12)
    assert grid.dtype == torch.uint8
    assert grid[0, ::2, ::4].tolist() == [[0, 1, 2], [3, 4, 255]]
    assert (grid[:, 2:, 8:] == 255).all()


def test_grid_gap_and_scale():
    image = torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8).view(1, 1, 2, 2)
    grid = image_grid(torch.cat([image, image + 10]), num_cols=2, scale=2, gap=1)
    big = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert grid[0].tolist() == [[*row, 255, *(value + 10 for value in row)] for row in big]


def test_grid_chooses_the_smallest_square_and_takes_floats():
    for num, shape in ((1, (1, 1)), (4, (2, 2)), (5, (2, 3)), (7, (3, 3))):
        assert image_grid(torch.zeros(num, 1, 3, 3)).shape == (1, 3 * shape[0], 3 * shape[1])
    assert image_grid(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1), num_cols=2).tolist() == [[[0, 255]]]


def test_watchable_scale():
    assert [watchable_scale(r) for r in (16, 32, 100, 128, 512)] == [8, 4, 2, 1, 1]
    assert watchable_scale(32, min_px=64) == 2


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
