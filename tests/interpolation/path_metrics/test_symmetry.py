from __future__ import annotations

import dataclasses
import math

import pytest

from wplus.interpolation.path_metrics.symmetry import symmetry


def test_the_same_way_back(ways, judges):
    assert symmetry(ways["straight"], judges)["asymmetry"] == pytest.approx(0, abs=1e-12)


def test_two_halves_of_a_circle(make_walk, ways, judges):
    """There by the upper half, back by the lower: half way they are a diameter apart."""
    at = ways["half circle"].at
    walk = make_walk(at, back=lambda t: at(1 + t))
    assert symmetry(walk, judges)["asymmetry"] == pytest.approx(4)
    assert symmetry(make_walk(at), judges) == {}


def test_another_speed_is_another_way(make_walk, ways, judges):
    """t^2 there and t^2 back: |t^2 - (1 - (1 - t)^2)| = 2 t (1 - t) of the chord, at most a half."""
    at = ways["straight"].at
    walk = make_walk(lambda t: at(t**2), back=lambda t: at(1 - t**2))
    assert math.sqrt(symmetry(walk, judges)["asymmetry"]) == pytest.approx(0.5 * math.sqrt(5))


def test_a_share_of_the_walks(ways, judges):
    names = [f"pair {index}" for index in range(200)]
    measured = [bool(symmetry(dataclasses.replace(ways["straight"], name=name), judges, share=0.3)) for name in names]
    assert 40 < sum(measured) < 80
    again = [bool(symmetry(dataclasses.replace(ways["morph"], name=name), judges, share=0.3)) for name in names]
    assert again == measured
