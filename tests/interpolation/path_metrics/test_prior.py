from __future__ import annotations

import dataclasses

import pytest
import torch

from wplus.interpolation.path_metrics.prior import prior
from wplus.latents.w_stats import Whitened


def styles(rows: list[list[float]]) -> torch.Tensor:
    """ws (T, num_ws, 4) whose whitened coordinates are those numbers in every place, for the identity whitening."""
    coordinates = torch.tensor(rows).double()[:, :, None].expand(-1, -1, 4)
    return torch.nn.functional.leaky_relu(coordinates, 0.2)


@pytest.fixture
def white(judges):
    return dataclasses.replace(judges, whitened=Whitened(torch.zeros(4).double(), torch.eye(4).double()))


def test_of_one_code_for_all_layers(make_walk, ways, white):
    walk = make_walk(ways["straight"].at, 3, ws=styles([[1, 1], [0, 0], [-2, -2]]))
    assert prior(walk, white) == pytest.approx({"prior_mean": 5 / 3, "prior_max": 4})
    assert walk.along["prior"].tolist() == pytest.approx([1, 0, 4])


def test_of_each_layer(make_walk, ways, white):
    values = prior(make_walk(ways["straight"].at, 3, ws=styles([[1, 1], [0, 2], [-2, 0]])), white)
    expected = {"prior_mean": 5 / 3, "prior_max": 2, "prior_layer_0": 5 / 3, "prior_layer_1": 5 / 3}
    assert values == pytest.approx(expected)


def test_left_out_of_pixels(ways, white):
    assert prior(ways["straight"], white) == {}
