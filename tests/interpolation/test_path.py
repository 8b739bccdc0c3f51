import functools

import pytest
import torch

from wplus.errors import UserError
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import (
    PathContext,
    along,
    chain,
    check_path,
    in_spaces,
    is_for,
    piecewise,
    through,
    timeline,
    transition_of,
)
from wplus.interpolation.paths import lerp
from wplus.latents import interpolation

CONTEXT = PathContext(generator=None, perceptual=None)


def keyframes(keys, space="w"):
    return Keyframes(keys, space, tuple(map(str, range(len(keys)))))


@in_spaces("w", "w+", otherwise="choose another")
def picky(keyframes, context, *, option=0):
    return chain(keyframes, interpolation.lerp)


def test_a_chain_is_its_transitions_one_after_another():
    keys, t = torch.randn(3, 5, 16), torch.linspace(0, 1, 11).double()
    chained = chain(keyframes(keys, "w+"), interpolation.slerp).codes(timeline(3, 11))
    halves = [interpolation.slerp(keys[i : i + 1], keys[i + 1 : i + 2], t) for i in (0, 1)]
    torch.testing.assert_close(chained, torch.cat([halves[0], halves[1][1:]]))


def test_positions_in_any_order_and_batch_give_the_same_codes():
    curve, t = chain(keyframes(torch.randn(4, 16)), interpolation.slerp), timeline(4, 13)
    whole, order = curve.codes(t), torch.randperm(len(t))
    assert torch.equal(curve.codes(t[order]), whole[order])
    assert torch.equal(torch.cat([curve.codes(part) for part in t.split(5)]), whole)


def test_whole_positions_are_the_keyframes_whatever_the_codes_say():
    keys, t = torch.randn(3, 4), timeline(3, 3)
    codes = through(keyframes(keys), lambda t: torch.full((len(t), 4), 9.0, dtype=torch.float64)).codes(t)
    assert torch.equal(codes[::2], keys)
    assert (codes[1::2] == 9).all()
    assert codes.dtype == keys.dtype


def test_the_last_keyframe_ends_the_last_transition():
    assert transition_of(torch.tensor([0, 0.5, 1, 1.5, 2]), 3).tolist() == [0, 0, 1, 1, 1]
    assert torch.equal(along(torch.eye(2), torch.tensor([1.0]), interpolation.lerp), torch.eye(2)[1:])


def test_between_nodes_it_is_straight():
    nodes = torch.tensor([[0, 0.2, 1], [0, 0.6, 1]], dtype=torch.float64)
    t = torch.tensor([0, 0.25, 0.5, 0.75, 1, 1.5, 1.75, 2], dtype=torch.float64)
    expected = torch.tensor([0, 0.1, 0.2, 0.6, 0, 0.6, 0.8, 1], dtype=torch.float64)
    torch.testing.assert_close(piecewise(nodes, t), expected)


def test_a_path_knows_where_it_makes_sense():
    partial = functools.partial(picky, option=1)
    for path in (picky, partial, functools.partial(lerp, inner=partial)):
        check_path(path, "w+")
        with pytest.raises(UserError, match=r"path picky must be w or w\+, got z: choose another\."):
            check_path(path, "z")
        assert [is_for(path, space) for space in ("w", "z")] == [True, False]
    with pytest.raises(UserError, match="got z"):
        partial(keyframes(torch.randn(2, 4), "z"), CONTEXT)
    assert partial(keyframes(torch.randn(2, 4)), CONTEXT).codes(timeline(2, 3)).shape == (3, 4)
    check_path(lerp, "z")


def test_conventions():
    forward, backward = timeline(2, 5), timeline(2, 5, alpha="a_at_one")
    assert forward.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert backward.tolist() == [1, 0.75, 0.5, 0.25, 0]
    # The habit code = alpha * a + (1 - alpha) * b with alpha growing from 0.
    a, b, alpha = torch.randn(8), torch.randn(8), torch.linspace(0, 1, 5)[:, None]
    codes = chain(keyframes(torch.stack([a, b])), interpolation.lerp).codes(backward)
    torch.testing.assert_close(codes, alpha * a + (1 - alpha) * b)

    for arguments, word in (((1, 5), "keyframes must .* got 1"), ((2, 1), "num_frames must .* got 1")):
        with pytest.raises(UserError, match=word):
            timeline(*arguments)
