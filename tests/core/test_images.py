"""The border between bytes and floats, and what is written as pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from wplus.core.images import as_uint8, image_grid, save_png, to_float, to_pil, to_uint8, watchable_scale
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


@pytest.mark.parametrize(("num", "shape"), [(1, (1, 1)), (4, (2, 2)), (5, (2, 3)), (7, (3, 3))])
def test_grid_chooses_the_smallest_square(num, shape):
    assert image_grid(torch.zeros(num, 1, 3, 3)).shape == (1, 3 * shape[0], 3 * shape[1])


def test_grid_takes_floats():
    assert image_grid(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1), num_cols=2).tolist() == [[[0, 255]]]


def test_watchable_scale():
    assert [watchable_scale(r) for r in (16, 32, 100, 128, 512)] == [8, 4, 2, 1, 1]
    assert watchable_scale(32, min_px=64) == 2
