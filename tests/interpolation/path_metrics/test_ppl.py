import dataclasses
import math

import pytest
import torch

from tests.fakes import half_circle, straight, trajectory_of
from wplus.interpolation.path import even_positions
from wplus.interpolation.path_metrics.ppl import pair_ppl, squared_speeds


def test_closed_forms(ways, scores):
    """Constant speed v gives v^2: pi^2 on half a circle, the squared chord on the straight way. Speed 2 t along a line
    of length c: E (2 t c)^2 = 4/3 c^2. The size of the images cancels in the relative value."""
    circle, line = scores(pair_ppl, ways["half circle"]), scores(pair_ppl, ways["straight"])
    assert circle == pytest.approx({"pair_ppl_squared": math.pi**2, "relative_ppl": math.pi**2 / 4}, rel=1e-6)
    assert line == pytest.approx({"pair_ppl_squared": 5, "relative_ppl": 1}, rel=1e-6)
    uneven = scores(pair_ppl, trajectory_of(lambda t: straight(t**2)), num_samples=500)
    assert uneven["relative_ppl"] == pytest.approx(4 / 3, rel=1e-3)
    double = scores(pair_ppl, trajectory_of(lambda t: 2 * half_circle(t)))
    assert double["pair_ppl_squared"] == pytest.approx(4 * circle["pair_ppl_squared"])
    assert double["relative_ppl"] == pytest.approx(circle["relative_ppl"])


def test_draws_are_those_of_the_pair_and_cover_the_way(scores):
    seen = []

    def at(t):
        seen.append(t)
        return straight(t**2)

    one, two = trajectory_of(at), dataclasses.replace(trajectory_of(at), name="b to c")
    first, again, other = (scores(pair_ppl, each) for each in (one, one, two))
    assert first == again != other != scores(pair_ppl, two, seed=1)
    positions = seen[2][0::2]
    assert torch.equal((positions * 8).long(), torch.arange(8))
    assert float(torch.cat(seen).max()) <= 1


def test_the_last_batch_is_filled_with_pairs_that_do_not_count(tools):
    seen, t = [], even_positions(11) * 0.9

    def at(t):
        seen.append(len(t))
        return half_circle(t**2)

    speeds = squared_speeds(trajectory_of(at), tools, t, epsilon=1e-4)
    assert seen[-2:] == [16, 16]
    torch.testing.assert_close(speeds, (2 * t * math.pi).square(), rtol=1e-3, atol=1e-3)


def test_named_after_its_net_and_left_out_where_the_ends_are_equal(ways, tools, scores, monkeypatch):
    whole = trajectory_of(lambda t: half_circle(2 * t % 2))
    assert set(scores(pair_ppl, whole)) == {"pair_ppl_squared"}
    monkeypatch.setattr(tools.perceptual, "name", "lpips_vgg")
    assert set(scores(pair_ppl, ways["straight"])) == {"pair_ppl", "relative_ppl"}
