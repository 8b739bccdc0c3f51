import dataclasses
import math

import pytest
import torch

from tests.fakes import half_circle, straight, trajectory_of
from wplus.interpolation.path import even_positions
from wplus.interpolation.path_metrics.ppl import pair_ppl, squared_speeds


@pytest.mark.parametrize(
    ("at", "expected", "chord", "rel"),
    [
        (half_circle, math.pi**2, 4, 1e-6),  # constant speed v gives v^2
        (straight, 5, 5, 1e-6),
        (lambda t: straight(t**2), 5 * 4 / 3, 5, 1e-3),  # speed 2 t along a line of length c: E (2 t c)^2 = 4/3 c^2
        (lambda t: 2 * half_circle(t), 4 * math.pi**2, 16, 1e-6),  # the size of the images cancels in the relative one
    ],
)
def test_closed_forms(scores, at, expected, chord, rel):
    found = scores(pair_ppl, trajectory_of(at), num_samples=500)
    assert found == pytest.approx({"pair_ppl_squared": expected, "relative_ppl": expected / chord}, rel=rel)


def test_draws_are_those_of_the_pair_and_cover_the_way(scores):
    seen = []
    one = trajectory_of(lambda t: seen.append(t) or straight(t**2))
    two = dataclasses.replace(one, name="b to c")
    first, again, other = (scores(pair_ppl, each) for each in (one, one, two))
    assert first == again != other != scores(pair_ppl, two, seed=1)
    assert torch.equal((seen[2][0::2] * 8).long(), torch.arange(8))
    assert float(torch.cat(seen).max()) <= 1


def test_the_last_batch_is_filled_with_pairs_that_do_not_count(tools):
    seen, t = [], even_positions(11) * 0.9
    found = trajectory_of(lambda t: seen.append(len(t)) or half_circle(t**2))
    speeds = squared_speeds(found, tools, t, epsilon=1e-4)
    assert seen[-2:] == [16, 16]
    torch.testing.assert_close(speeds, (2 * t * math.pi).square(), rtol=1e-3, atol=1e-3)


def test_named_after_its_net_and_left_out_where_the_ends_are_equal(line, tools, scores, monkeypatch):
    whole = trajectory_of(lambda t: half_circle(2 * t % 2))
    assert set(scores(pair_ppl, whole)) == {"pair_ppl_squared"}
    monkeypatch.setattr(tools.perceptual, "name", "lpips_vgg")
    assert set(scores(pair_ppl, line)) == {"pair_ppl", "relative_ppl"}
