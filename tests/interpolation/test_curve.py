from __future__ import annotations

import functools

import pytest
import torch

from wplus.errors import UserError
from wplus.interpolation.curve import (
    Curve,
    PathContext,
    along,
    chain,
    check_path,
    in_spaces,
    path_name,
    segments,
    through,
    timeline,
)
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.paths import lerp
from wplus.latents import interpolation as geometry

SCENE = PathContext(generator=None, perceptual=None)


def points(keys: torch.Tensor, space: str = "w") -> Keyframes:
    return Keyframes(keys, space, tuple(map(str, range(len(keys)))))


@in_spaces("w", "w+", otherwise="choose another")
def picky(points: Keyframes, scene: PathContext, *, option: int = 0) -> Curve:
    return chain(points, geometry.lerp)


def test_a_chain_is_its_transitions_one_after_another() -> None:
    keys, t = torch.randn(3, 5, 16), torch.linspace(0, 1, 11).double()
    chained = chain(points(keys, "w+"), geometry.slerp).codes(timeline(3, 11))
    expected = torch.cat([geometry.slerp(keys[:1], keys[1:2], t), geometry.slerp(keys[1:2], keys[2:], t)[1:]])
    torch.testing.assert_close(chained, expected)


def test_positions_in_any_order_and_batch_give_the_same_codes() -> None:
    curve, t = chain(points(torch.randn(4, 16)), geometry.slerp), timeline(4, 13)
    whole, order = curve.codes(t), torch.randperm(len(t))
    assert torch.equal(curve.codes(t[order]), whole[order])
    assert torch.equal(torch.cat([curve.codes(part) for part in t.split(5)]), whole)


def test_whole_positions_are_the_key_points_whatever_the_codes_say() -> None:
    keys, t = torch.randn(3, 4), timeline(3, 3)
    codes = through(points(keys), lambda t: torch.full((len(t), 4), 9.0, dtype=torch.float64)).codes(t)
    assert torch.equal(codes[::2], keys)
    assert (codes[1::2] == 9).all()
    assert codes.dtype == keys.dtype


def test_the_last_key_point_ends_the_last_transition() -> None:
    assert segments(torch.tensor([0, 0.5, 1, 1.5, 2]), 3).tolist() == [0, 0, 1, 1, 1]
    assert torch.equal(along(torch.eye(2), torch.tensor([1.0]), geometry.lerp), torch.eye(2)[1:])


def test_a_path_knows_where_it_makes_sense() -> None:
    partial = functools.partial(picky, option=1)
    for path in (picky, partial, functools.partial(lerp, inner=partial)):
        check_path(path, "w+")
        with pytest.raises(UserError, match=r"picky is for w and w\+, not for z: choose another\."):
            check_path(path, "z")
    with pytest.raises(UserError, match="not for z"):
        partial(points(torch.randn(2, 4), "z"), SCENE)
    assert partial(points(torch.randn(2, 4)), SCENE).codes(timeline(2, 3)).shape == (3, 4)
    check_path(lerp, "z")


def test_names_are_those_of_the_functions() -> None:
    assert path_name(functools.partial(functools.partial(picky, option=1))) == "picky"


def test_conventions() -> None:
    forward, backward = timeline(2, 5), timeline(2, 5, alpha="a_at_one")
    assert forward.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert backward.tolist() == [1, 0.75, 0.5, 0.25, 0]
    # The habit code = alpha * a + (1 - alpha) * b with alpha growing from 0.
    a, b, alpha = torch.randn(8), torch.randn(8), torch.linspace(0, 1, 5)[:, None]
    codes = chain(points(torch.stack([a, b])), geometry.lerp).codes(backward)
    torch.testing.assert_close(codes, alpha * a + (1 - alpha) * b)


@pytest.mark.parametrize(("arguments", "word"), [((1, 5), "key points, got 1"), ((2, 1), "transition, got 1")])
def test_too_few_points_or_frames_are_refused(arguments: tuple[int, int], word: str) -> None:
    with pytest.raises(UserError, match=word):
        timeline(*arguments)


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(UserError, match=r"alpha=up.*b_at_one and a_at_one"):
        timeline(2, 5, alpha="up")
