import dataclasses

import pytest
import torch

from tests.fakes import straight, trajectory_of
from wplus.interpolation.path_metrics.prior import prior
from wplus.latents.w_stats import Whitened


def styles(rows):
    """ws (T, num_ws, 4) whose whitened coordinates are those numbers in every place, for the identity whitening."""
    coordinates = torch.tensor(rows).double()[:, :, None].expand(-1, -1, 4)
    return torch.nn.functional.leaky_relu(coordinates, 0.2)


def test_of_one_code_for_all_layers_of_each_layer_and_of_pixels(line, tools, scores):
    white = dataclasses.replace(tools, whitened=Whitened(torch.zeros(4).double(), torch.eye(4).double()))
    found = trajectory_of(straight, 3, ws=styles([[1, 1], [0, 0], [-2, -2]]))
    assert scores(prior, found, white) == pytest.approx({"prior_mean": 5 / 3, "prior_max": 4})
    assert found.along["prior"].tolist() == pytest.approx([1, 0, 4])
    layers = scores(prior, trajectory_of(straight, 3, ws=styles([[1, 1], [0, 2], [-2, 0]])), white)
    assert layers == pytest.approx(
        {"prior_mean": 5 / 3, "prior_max": 2, "prior_layer_0": 5 / 3, "prior_layer_1": 5 / 3}
    )
    assert scores(prior, line, white) == {}
    assert scores(prior, found) == {}
