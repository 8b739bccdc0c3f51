from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from wplus.interpolation.path_metrics.drift import crossover, drift


def turned(angles: torch.Tensor) -> torch.Tensor:
    """Images whose descriptors are unit vectors of a plane at these angles."""
    images = torch.zeros(len(angles), 1, 4, 4, dtype=torch.float64)
    images[:, 0, 0, 0], images[:, 0, 3, 3] = torch.cos(angles), torch.sin(angles)
    return images


def test_the_shortest_way_between_two_descriptors(make_walk, judges):
    walk = make_walk(lambda t: turned(t * math.pi / 2))
    values = drift(walk, judges)
    assert values == pytest.approx(
        {"third_person_cosine": math.cos(math.pi / 4), "backwards_cosine": 0, "backtrack_cosine": 0,
         "crossover_cosine": 0.5}, abs=1e-9
    )  # fmt: skip
    assert torch.allclose(walk.along["similarity_a"], torch.cos(walk.t * math.pi / 2))
    assert torch.allclose(walk.along["similarity_b"], torch.sin(walk.t * math.pi / 2))


def test_a_detour_shows_somebody_else(make_walk, judges):
    """Out of the plane and back: half way it is orthogonal to both ends."""

    def at(t):
        images = turned(t * math.pi / 2)
        out = torch.sin(math.pi * t).view(-1, 1, 1, 1)
        images = images * (1 - out)
        images[:, 0, 1, 1] = out.flatten()
        return images

    values = drift(make_walk(at), judges)
    assert values["third_person_cosine"] == pytest.approx(0, abs=1e-9)
    assert values["backwards_cosine"] > 0.3
    assert values["backtrack_cosine"] > 0.1


def test_going_back_half_the_way(make_walk, judges):
    """There, a third back, there: angle 0 to 90, back to 30, to 90."""
    stops = torch.tensor([0.0, 90, 30, 90]).deg2rad().double()
    found = drift(make_walk(lambda t: turned(stops), 4), judges)
    assert found["backwards_cosine"] == pytest.approx(2 / 6)  # s_a rises once, s_b falls once, in 3 steps each
    wrong = math.cos(math.radians(30)) + 1 - math.sin(math.radians(30))
    assert found["backtrack_cosine"] == pytest.approx(wrong / 2)


def test_crossover_between_frames():
    t = torch.linspace(0, 1, 5)
    assert crossover(t, torch.tensor([-1.0, -1, -1, 3, 4])) == pytest.approx(0.5 + 0.25 / 4)
    assert crossover(t, torch.tensor([-1.0, -1, 0, 3, 4])) == 0.5
    assert crossover(t, -torch.ones(5)) == 1
    assert crossover(t, torch.ones(5)) == 0


def test_left_out_without_a_descriptor(ways, judges):
    assert drift(ways["straight"], dataclasses.replace(judges, identity=None)) == {}
