from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from wplus.interpolation.path_metrics.steps import curvature, steps, turning_angles


def test_half_a_circle_is_as_long_as_its_polygon(ways, judges):
    values = steps(ways["half circle"], judges)
    assert values["path_length"] == pytest.approx(32 * 2 * math.sin(math.pi / 64))
    assert values["chord"] == pytest.approx(4)
    assert values["tortuosity"] == pytest.approx(math.pi / 2, rel=1e-3)
    assert values["step_cv"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("num_frames", [17, 33, 201])
def test_half_a_circle_in_eight_pieces_whatever_the_number_of_frames(make_walk, ways, judges, num_frames):
    values = curvature(make_walk(ways["half circle"].at, num_frames), judges)
    assert values["turning_deg"] == pytest.approx(180 * 7 / 8)
    assert values["turning_mean_deg"] == pytest.approx(180 / (num_frames - 1))


def test_turning_does_not_depend_on_speed(make_walk, ways, judges):
    at = ways["half circle"].at
    slow_at_first = curvature(make_walk(lambda t: at(t**2), 400), judges)
    assert slow_at_first["turning_deg"] == pytest.approx(180 * 7 / 8, rel=0.01)


def test_kinks_too_small_for_the_pieces_are_not_counted(make_walk, ways, judges):
    """A saw on a straight line: its angles add up without end, its pieces go straight on."""

    def saw(t):
        images = ways["straight"].at(t)
        images[:, 0, 3, 3] = 0.02 * (torch.arange(len(t)) % 2)
        return images

    values = curvature(make_walk(saw, 65), judges)
    assert values["turning_mean_deg"] > 40
    assert values["turning_deg"] < 10


def test_straight_on_right_angle_and_back(make_walk, ways, judges):
    assert curvature(ways["straight"], judges)["turning_deg"] == pytest.approx(0, abs=1e-3)
    near, far = torch.tensor([1.0, 4, 4, 1]).double(), torch.tensor([5.0, 0, 1]).double()
    assert torch.rad2deg(turning_angles(near, far)).tolist() == pytest.approx([90, 180, 180])


def test_angles_are_those_between_the_displacements(make_walk, judges):
    points = torch.randn(40, 1, 4, 4, dtype=torch.float64)
    found = curvature(make_walk(lambda t: points, 40), judges)
    moves = np.diff(points.flatten(1).numpy(), axis=0)
    moves /= np.linalg.norm(moves, axis=1, keepdims=True)
    angles = np.degrees(np.arccos((moves[1:] * moves[:-1]).sum(axis=1)))
    assert found["turning_mean_deg"] == pytest.approx(angles.mean())


def test_frames_that_stand_still_have_no_angle(make_walk, ways, judges):
    resting = make_walk(lambda t: ways["straight"].at((t * 2).clamp(max=1)), 9)
    assert curvature(resting, judges)["turning_deg"] == pytest.approx(0, abs=1e-3)
    nowhere = make_walk(lambda t: ways["straight"].at(0 * t), 9)
    assert curvature(nowhere, judges) == {}
    assert steps(nowhere, judges)["path_length"] == 0
