"""Conversion between bytes and floats, and writing pictures."""

import math

import numpy as np
import pytest
import torch

from tests.fakes import read_pixels
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
    floats = to_float(ALL)
    assert floats.dtype == torch.float32
    torch.testing.assert_close(floats.double(), ALL.double() / 127.5 - 1)
    assert (floats[0], floats[255]) == (-1, 1)
    assert torch.equal(to_uint8(floats), ALL)
    assert torch.equal(as_uint8(floats), ALL)
    assert as_uint8(ALL) is ALL
    assert not to_uint8(floats.requires_grad_()).requires_grad


def test_to_uint8_is_the_published_rounding():
    values = torch.linspace(-1.2, 1.2, 4001)
    expected = [min(max(math.floor(value * 127.5 + 128), 0), 255) for value in values.tolist()]
    found = to_uint8(values)
    assert found.dtype == torch.uint8
    assert sum(a != b for a, b in zip(found.tolist(), expected, strict=True)) <= 2  # ties in float32
    assert to_uint8(torch.tensor([-5.0, 5.0])).tolist() == [0, 255]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_pngs_keep_every_pixel(tmp_path, channels, mode):
    image = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    assert to_pil(image).mode == mode
    for content in (image, to_float(image)):
        pixels = read_pixels(save_png(tmp_path / "sub" / "image.png", content))
        assert np.array_equal(pixels.reshape(5, 7, channels), image.permute(1, 2, 0).numpy())


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
    places = [(12 + 64 + 134 * column, 12 + 24 + 64 + 178 * row) for row in range(2) for column in range(3)]
    assert [image.getpixel(place)[0] for place in places] == [10, 20, 30, 40, 255, 255]


def test_titles_and_captions_are_written_whole():
    title = "a title much longer than its one picture is wide, W"
    empty, written = (np.asarray(captioned_rows([[(grey(255), text)]], [title * bool(text)])) for text in ("", "text"))
    assert empty.shape[1] == 128 + 24
    rows, cols = ((written != 255).any(axis=axis).any(axis=-1) for axis in (1, 0))
    rows, cols = np.flatnonzero(rows), np.flatnonzero(cols)
    assert (rows.min() < 36, rows.max() > 164) == (True, True)
    assert written.shape[1] > 128 + 24
    assert written.shape[1] - 24 <= cols.max() <= written.shape[1] - 12
    assert (empty == 255).all()


def test_nothing_to_show_is_refused():
    with pytest.raises(UserError, match="at least one"):
        captioned_rows([[]], ["empty"])
