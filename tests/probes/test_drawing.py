"""Pictures in their places, words beside them."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from wplus.probes.drawing import GAP, LINE, MARGIN, matrix, plotted


def flat(value: int, px: int = 64, channels: int = 3) -> torch.Tensor:
    return torch.full((channels, px, px), value, dtype=torch.uint8)


def test_pictures_stand_in_rows_and_columns():
    picture = matrix([[(flat(0), ""), (flat(50), "")], [(None, ""), (flat(100), "")]])
    assert picture.shape == (3, 2 * MARGIN + 2 * 64 + GAP, 2 * MARGIN + 2 * 64 + GAP)
    assert picture.dtype == torch.uint8
    first, second = slice(MARGIN, MARGIN + 64), slice(MARGIN + 64 + GAP, MARGIN + 2 * 64 + GAP)
    assert (picture[:, first, first] == 0).all()
    assert (picture[:, first, second] == 50).all()
    assert (picture[:, second, first] == 255).all()
    assert (picture[:, second, second] == 100).all()


def test_small_pictures_are_enlarged_and_huge_ones_reduced():
    assert matrix([[(flat(0, 8), "")]]).shape[1] == 64 + 2 * MARGIN
    assert matrix([[(flat(0, 512), "")]]).shape[1] == 256 + 2 * MARGIN
    assert (matrix([[(flat(7, 8, 1), "")]])[:, MARGIN, MARGIN] == 7).all()  # grey


def test_words_and_breaks_take_room_and_are_drawn():
    plain, rows = [[(flat(255), "")]] * 2, [[(flat(255), "under")]] * 2
    height, width = matrix(plain).shape[1:]
    picture = matrix(rows, left=["beside\nit", ""], top=["over"], breaks=[1])
    assert picture.shape[1] == height + LINE + 2 * LINE + MARGIN
    assert picture.shape[2] > width
    for part in (picture[:, : LINE + MARGIN], picture[:, :, : MARGIN + 20], picture[:, -LINE - MARGIN :]):
        assert (part < 255).any()
    assert (matrix(plain) == 255).all()


def test_a_plot_is_a_picture():
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([0, 1], [0, 1], color="red")
    picture = plotted(figure)
    assert picture.shape == (3, 50, 100)
    assert ((picture[0] > 200) & (picture[1] < 50)).any()
