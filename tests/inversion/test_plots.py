"""Pictures exist, have the right size, and survive odd values."""

from __future__ import annotations

import torch

from tests.fakes import read_pixels
from wplus.inversion.report import plot_convergence, save_comparison


def test_a_panel_per_term(tmp_path):
    history = {"loss": torch.rand(20, 3) + 0.1, "l2": torch.rand(20, 3)}
    one = plot_convergence({"w": history}, tmp_path / "one.png", terms=["loss"])
    two = plot_convergence({"w": history, "w+": history}, tmp_path / "two.png", terms=["loss", "l2"])
    assert read_pixels(two).shape[1] > 1.8 * read_pixels(one).shape[1]


def test_zeros_and_missing_values_are_drawn_around(tmp_path):
    loss = torch.tensor([[1.0, 2.0], [0.0, float("nan")], [0.5, float("inf")]])
    plot_convergence({"w": {"loss": loss}}, tmp_path / "plot.png", terms=["loss", "perceptual"])


def test_comparison_shows_columns_side_by_side(tmp_path):
    red, blue = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8, dtype=torch.uint8)
    red[0], blue[2] = 255, 255
    pixels = read_pixels(save_comparison([[red], [blue]], tmp_path / "grid.png"))
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[0, -1].tolist() == [0, 0, 255]
    many = save_comparison([[red] * 6, [blue] * 6], tmp_path / "many.png")
    assert len(read_pixels(many)) == 2 * len(pixels) + 10
