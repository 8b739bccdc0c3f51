import dataclasses
import math

import numpy as np
import pytest
import torch

from tests.fakes import half_circle, straight, trajectory_of
from wplus.interpolation.path_metrics.shape import curvature, evenness, gini, steps, symmetry, turning_angles

approx = pytest.approx
POLYGON = 32 * 2 * math.sin(math.pi / 64)  # in half a circle of radius 1
STILL = {"step_cv": 0, "step_smoothness": 1, "step_jump_ratio": 1, "path_length": 0}


def saw(t):
    """On a straight line: its angles add up without end, its pieces go straight on."""
    images = straight(t)
    images[:, 0, 3, 3] = 0.02 * (torch.arange(len(t)) % 2)
    return images


@pytest.mark.parametrize(
    ("distances", "chord", "expected"),
    [
        ([0.04] * 10, 4.0, STILL | {"path_length": 2, "tortuosity": 1}),
        # All change in one step of n: CV sqrt(n - 1), Gini 1 - 1/n, jump ratio n.
        ([0, 0, 0, 0.25] + [0] * 6, 0.25,
         {"step_cv": 3, "step_smoothness": 0.1, "step_jump_ratio": 10, "path_length": 0.5, "tortuosity": 1}),
        ([0.0] * 4, 0.0, STILL),
        ([1.0] * 4, 0.0, STILL | {"path_length": 4}),
    ],
)  # fmt: skip
def test_numbers_of_an_even_path_of_one_jump_and_of_equal_ends(distances, chord, expected):
    found = {number.name: value for number, value in evenness(torch.tensor(distances), chord)}
    assert found == approx(expected, abs=1e-6)


def test_gini_against_its_definition_by_pairs():
    values = torch.rand(17, dtype=torch.float64)
    pairs = (values[:, None] - values[None, :]).abs().sum() / (2 * 17**2 * values.mean())
    assert gini(values) == approx(float(pairs), rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "way", "expected"),
    [
        (steps, trajectory_of(half_circle),
         {"path_length": approx(POLYGON), "chord": approx(4), "tortuosity": approx(POLYGON / 2),
          "step_cv": approx(0, abs=1e-9)}),
        (steps, trajectory_of(lambda t: straight(0 * t), 9), {"path_length": 0}),
        *((curvature, trajectory_of(half_circle, num), {"turning_deg": approx(157.5), "turning_mean_deg": approx(mean)})
          for num, mean in ((17, 180 / 16), (33, 180 / 32), (201, 180 / 200))),
        (curvature, trajectory_of(lambda t: half_circle(t**2), 400), {"turning_deg": approx(157.5, rel=0.01)}),
        (curvature, trajectory_of(straight), {"turning_deg": approx(0, abs=1e-3)}),
        # Frames that stand still have no angle.
        (curvature, trajectory_of(lambda t: straight((t * 2).clamp(max=1)), 9), {"turning_deg": approx(0, abs=1e-3)}),
        (curvature, trajectory_of(lambda t: straight(0 * t), 9), {}),
        (curvature, trajectory_of(saw, 65), {"turning_deg": approx(5, abs=5), "turning_mean_deg": approx(90, abs=50)}),
        (symmetry, trajectory_of(straight, back=lambda t: straight(1 - t)), {"asymmetry": approx(0, abs=1e-12)}),
        # Two halves of a circle are half way a diameter apart.
        (symmetry, trajectory_of(half_circle, back=lambda t: half_circle(1 + t)), {"asymmetry": approx(4)}),
        # t^2 there and back: |t^2 - (1 - (1 - t)^2)| = 2 t (1 - t), at most a half of the chord.
        (symmetry, trajectory_of(lambda t: straight(t**2), back=lambda t: straight(1 - t**2)),
         {"asymmetry": approx(0.25 * 5)}),
        (symmetry, trajectory_of(half_circle), {}),
    ],
)  # fmt: skip
def test_closed_forms(scores, metric, way, expected):
    found = scores(metric, way)
    assert {name: value for name, value in found.items() if name in expected or not expected} == expected


def test_right_angle_and_back():
    near, far = torch.tensor([1.0, 4, 4, 1]).double(), torch.tensor([5.0, 0, 1]).double()
    assert torch.rad2deg(turning_angles(near, far)).tolist() == approx([90, 180, 180])


def test_angles_are_those_between_the_displacements(scores):
    points = torch.randn(40, 1, 4, 4, dtype=torch.float64)
    moves = np.diff(points.flatten(1).numpy(), axis=0)
    moves /= np.linalg.norm(moves, axis=1, keepdims=True)
    angles = np.degrees(np.arccos((moves[1:] * moves[:-1]).sum(axis=1)))
    found = scores(curvature, trajectory_of(lambda t: points, 40))
    assert found["turning_mean_deg"] == approx(angles.mean())


def test_a_share_of_the_trajectories(line, scores):
    names = [f"pair {index}" for index in range(200)]
    other = trajectory_of(half_circle, back=half_circle)
    first, again = ([bool(scores(symmetry, dataclasses.replace(way, name=name), share=0.3)) for name in names]
                    for way in (line, other))  # fmt: skip
    assert 40 < sum(first) < 80
    assert again == first
