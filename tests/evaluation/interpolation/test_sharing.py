from __future__ import annotations

import functools
import time

import pytest
import torch

from wplus.evaluation.interpolation.sharing import Remembered
from wplus.interpolation.cost import Cost
from wplus.interpolation.curve import Curve
from wplus.interpolation.keyframes import Keyframes

CALLS: list[str] = []


def search(points, scene, *, strength=1.0):
    CALLS.append(f"search {strength} in {points.space}")
    time.sleep(0.02)
    return Curve(lambda t: points.codes[:1] + strength * t[:, None])


def paced(points, scene, *, path):
    CALLS.append("paced")
    curve = path(points, scene)
    return Curve(lambda t: curve.codes(t**2))


@pytest.fixture
def points() -> Keyframes:
    CALLS.clear()
    return Keyframes(torch.randn(2, 4), "w", ("a", "b"))


def test_a_search_is_made_once_and_charged_twice(points):
    memory, strong = Remembered(), functools.partial(search, strength=2.0)
    plain = memory.path(strong)(points, None)
    even = memory.path(functools.partial(paced, path=strong))(points, None)
    assert CALLS == ["search 2.0 in w", "paced"]
    (saved,) = memory.reused
    assert saved.seconds >= 0.02
    t = torch.tensor([0.5]).double()
    torch.testing.assert_close(even.codes(t), plain.codes(t**2))


def test_other_options_spaces_and_directions_are_other_searches(points):
    memory = Remembered()
    for path in (search, functools.partial(search, strength=2.0)):
        memory.path(path)(points, None)
    flipped = Keyframes(points.codes.flip(0), "w", ("b", "a"))
    lifted = Keyframes(points.codes, "z", ("a", "b"))
    for other in (flipped, lifted):
        memory.path(search)(other, None)
    assert CALLS == ["search 1.0 in w", "search 2.0 in w", "search 1.0 in w", "search 1.0 in z"]
    assert memory.reused == []


def test_what_is_charged_is_the_price_without_memory(points):
    """In seconds and MiB: the second walk alone, with what it found made, with what that had found made."""
    memory = Remembered()
    memory.reused += [Cost(5.0, 500.0), Cost(1.0, 30.0), Cost(2.0, None)]
    cost = Cost(0.5, 20.0)
    memory.charge(cost, since=1)
    assert cost == Cost(3.5, 30.0)
    memory.charge(cost, since=3)
    assert cost == Cost(3.5, 30.0)


def test_a_curve_costs_what_its_parts_cost(points):
    memory, strong = Remembered(), functools.partial(search, strength=2.0)
    even = functools.partial(paced, path=strong)
    for path in (strong, even, even):
        memory.path(path)(points, None)
    assert CALLS == ["search 2.0 in w", "paced"]
    search_alone, whole = memory.reused
    assert whole.seconds > search_alone.seconds
    assert whole.memory_mib == max(whole.memory_mib, search_alone.memory_mib or 0)
