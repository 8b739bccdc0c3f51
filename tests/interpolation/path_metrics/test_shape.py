import dataclasses
import math

import numpy as np
import pytest
import torch

from tests.fakes import half_circle, straight, trajectory_of
from wplus.interpolation.path_metrics.shape import curvature, evenness, gini, steps, symmetry, turning_angles


def even(distances, chord):
    return {number.name: value for number, value in evenness(torch.as_tensor(distances), chord)}


def test_numbers_of_an_even_path_and_of_one_jump():
    """All change in one step of n: CV sqrt(n - 1), Gini 1 - 1/n, jump ratio n."""
    expected = {"step_cv": 0, "step_smoothness": 1, "step_jump_ratio": 1, "path_length": 2, "tortuosity": 1}
    assert even([0.04] * 10, 4.0) == pytest.approx(expected, abs=1e-6)
    expected = {"step_cv": 3, "step_smoothness": 0.1, "step_jump_ratio": 10, "path_length": 0.5, "tortuosity": 1}
    assert even([0, 0, 0, 0.25, 0, 0, 0, 0, 0, 0], 0.25) == pytest.approx(expected, abs=1e-6)


def test_gini_against_its_definition_by_pairs():
    values = torch.rand(17, dtype=torch.float64)
    pairs = (values[:, None] - values[None, :]).abs().sum() / (2 * 17**2 * values.mean())
    assert gini(values) == pytest.approx(float(pairs), rel=1e-12)


def test_a_detour_has_the_tortuosity_of_its_lengths():
    """Along the legs of a right triangle instead of its hypotenuse; distances are squares of lengths."""
    assert even([9.0, 16.0], 25.0)["tortuosity"] == pytest.approx(7 / 5)


def test_equal_ends_have_no_tortuosity_and_nothing_is_infinite():
    assert "tortuosity" not in even([1.0] * 4, 0.0)
    still = {"step_cv": 0.0, "step_smoothness": 1.0, "step_jump_ratio": 1.0, "path_length": 0.0}
    assert even([0.0] * 4, 0.0) == still


def test_half_a_circle_is_as_long_as_its_polygon(ways, scores):
    values, length = scores(steps, ways["half circle"]), 32 * 2 * math.sin(math.pi / 64)
    expected = {"path_length": length, "chord": 4, "tortuosity": length / 2, "step_cv": 0}
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert len(ways["half circle"].along["step"]) == 33


@pytest.mark.parametrize("num_frames", [17, 33, 201])
def test_half_a_circle_in_eight_pieces_whatever_the_number_of_frames(scores, num_frames):
    values = scores(curvature, trajectory_of(half_circle, num_frames))
    assert values == pytest.approx({"turning_deg": 180 * 7 / 8, "turning_mean_deg": 180 / (num_frames - 1)})
    slow_at_first = scores(curvature, trajectory_of(lambda t: half_circle(t**2), 400))
    assert slow_at_first["turning_deg"] == pytest.approx(180 * 7 / 8, rel=0.01)


def test_kinks_too_small_for_the_pieces_are_not_counted(scores):
    """A saw on a straight line: its angles add up without end, its pieces go straight on."""

    def saw(t):
        images = straight(t)
        images[:, 0, 3, 3] = 0.02 * (torch.arange(len(t)) % 2)
        return images

    values = scores(curvature, trajectory_of(saw, 65))
    assert values["turning_mean_deg"] > 40
    assert values["turning_deg"] < 10


def test_straight_on_right_angle_and_back(ways, scores):
    assert scores(curvature, ways["straight"])["turning_deg"] == pytest.approx(0, abs=1e-3)
    near, far = torch.tensor([1.0, 4, 4, 1]).double(), torch.tensor([5.0, 0, 1]).double()
    assert torch.rad2deg(turning_angles(near, far)).tolist() == pytest.approx([90, 180, 180])


def test_angles_are_those_between_the_displacements(scores):
    points = torch.randn(40, 1, 4, 4, dtype=torch.float64)
    moves = np.diff(points.flatten(1).numpy(), axis=0)
    moves /= np.linalg.norm(moves, axis=1, keepdims=True)
    angles = np.degrees(np.arccos((moves[1:] * moves[:-1]).sum(axis=1)))
    found = scores(curvature, trajectory_of(lambda t: points, 40))
    assert found["turning_mean_deg"] == pytest.approx(angles.mean())


def test_frames_that_stand_still_have_no_angle(scores):
    resting = trajectory_of(lambda t: straight((t * 2).clamp(max=1)), 9)
    assert scores(curvature, resting)["turning_deg"] == pytest.approx(0, abs=1e-3)
    nowhere = trajectory_of(lambda t: straight(0 * t), 9)
    assert scores(curvature, nowhere) == {}
    assert scores(steps, nowhere)["path_length"] == 0


def test_the_same_way_back_two_halves_of_a_circle_and_another_speed(ways, scores):
    """Half way the halves are a diameter apart. t^2 there and t^2 back: |t^2 - (1 - (1 - t)^2)| = 2 t (1 - t), at most
    a half of the chord."""
    assert scores(symmetry, ways["straight"])["asymmetry"] == pytest.approx(0, abs=1e-12)
    halves = trajectory_of(half_circle, back=lambda t: half_circle(1 + t))
    assert scores(symmetry, halves)["asymmetry"] == pytest.approx(4)
    slow = trajectory_of(lambda t: straight(t**2), back=lambda t: straight(1 - t**2))
    assert scores(symmetry, slow)["asymmetry"] == pytest.approx(0.25 * 5)
    assert scores(symmetry, trajectory_of(half_circle)) == {}


def test_a_share_of_the_trajectories(ways, scores):
    names = [f"pair {index}" for index in range(200)]
    first, again = ([bool(scores(symmetry, dataclasses.replace(ways[way], name=name), share=0.3)) for name in names]
                    for way in ("straight", "morph"))  # fmt: skip
    assert 40 < sum(first) < 80
    assert again == first
