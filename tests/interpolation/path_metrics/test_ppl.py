from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from wplus.interpolation.path_metrics.ppl import pair_ppl, squared_speeds
from wplus.interpolation.walk import even_positions


def test_closed_forms(ways, judges):
    """Constant speed v gives v^2: pi^2 on half a circle, the squared chord on the straight way."""
    circle, line = pair_ppl(ways["half circle"], judges), pair_ppl(ways["straight"], judges)
    assert circle["pair_ppl_squared"] == pytest.approx(math.pi**2, rel=1e-6)
    assert circle["relative_ppl"] == pytest.approx(math.pi**2 / 4, rel=1e-6)
    assert line["pair_ppl_squared"] == pytest.approx(5, rel=1e-6)
    assert line["relative_ppl"] == pytest.approx(1, rel=1e-6)


def test_uneven_speed_costs(make_walk, ways, judges):
    """Speed 2 t along a line of length c: E (2 t c)^2 = 4/3 c^2."""
    at = ways["straight"].at
    found = pair_ppl(make_walk(lambda t: at(t**2)), judges, num_samples=500)
    assert found["relative_ppl"] == pytest.approx(4 / 3, rel=1e-3)


def test_size_of_the_pictures_cancels_in_the_relative_value(make_walk, ways, judges):
    at = ways["half circle"].at
    double = pair_ppl(make_walk(lambda t: 2 * at(t)), judges)
    single = pair_ppl(ways["half circle"], judges)
    assert double["pair_ppl_squared"] == pytest.approx(4 * single["pair_ppl_squared"])
    assert double["relative_ppl"] == pytest.approx(single["relative_ppl"])


def test_draws_are_those_of_the_pair_and_cover_the_way(make_walk, ways, judges):
    seen = []

    def at(t):
        seen.append(t)
        return ways["straight"].at(t**2)

    one, two = make_walk(at), dataclasses.replace(make_walk(at), name="b to c")
    first, again, other = (pair_ppl(walk, judges) for walk in (one, one, two))
    assert first == again != other
    positions = seen[2][0::2]
    assert torch.equal((positions * 8).long(), torch.arange(8))
    assert float(torch.cat(seen).max()) <= 1


def test_the_last_batch_is_filled_with_pairs_that_do_not_count(make_walk, ways, judges):
    seen, t = [], even_positions(11) * 0.9

    def at(t):
        seen.append(len(t))
        return ways["half circle"].at(t**2)

    speeds = squared_speeds(make_walk(at), judges, t, epsilon=1e-4)
    assert seen[-2:] == [16, 16]
    torch.testing.assert_close(speeds, (2 * t * math.pi).square(), rtol=1e-3, atol=1e-3)


def test_named_after_its_net(ways, judges):
    judges.perceptual.name = "lpips_vgg"
    assert set(pair_ppl(ways["straight"], judges)) == {"pair_ppl", "relative_ppl"}


def test_equal_ends_have_no_relative_value(make_walk, ways, judges):
    whole = make_walk(lambda t: ways["half circle"].at(2 * t % 2))
    assert set(pair_ppl(whole, judges)) == {"pair_ppl_squared"}
