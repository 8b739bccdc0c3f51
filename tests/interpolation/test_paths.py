from __future__ import annotations

import functools

import pytest
import torch

from wplus.errors import UserError
from wplus.interpolation.paths import along, lerp, slerp, timeline


@pytest.mark.parametrize("path", [lerp, slerp])
@pytest.mark.parametrize("shape", [(16,), (6, 16)])
@pytest.mark.parametrize("num_frames", [2, 3, 7, 50, 61])
def test_every_key_point_is_hit_bit_for_bit(path: object, shape: tuple[int, ...], num_frames: int) -> None:
    keys = torch.randn(4, *shape)
    codes = along(keys, timeline(4, num_frames), path=path)
    assert codes.shape == (3 * (num_frames - 1) + 1, *shape)
    assert torch.equal(codes[:: num_frames - 1], keys)


@pytest.mark.parametrize("path", [lerp, slerp])
def test_a_chain_is_its_transitions_one_after_another(path: object) -> None:
    keys, t = torch.randn(3, 5, 16), torch.linspace(0, 1, 11)
    chained = along(keys, timeline(3, 11), path=path)
    expected = torch.cat([path(keys[0], keys[1], t), path(keys[1], keys[2], t)[1:]])
    torch.testing.assert_close(chained, expected)


def test_positions_in_any_order_and_batch_give_the_same_codes() -> None:
    keys, t = torch.randn(4, 16), timeline(4, 13)
    whole = along(keys, t, path=slerp)
    order = torch.randperm(len(t))
    assert torch.equal(along(keys, t[order], path=slerp), whole[order])
    assert torch.equal(torch.cat([along(keys, part, path=slerp) for part in t.split(5)]), whole)


def test_conventions() -> None:
    forward, backward = timeline(2, 5), timeline(2, 5, alpha="a_at_one")
    assert forward.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert backward.tolist() == [1, 0.75, 0.5, 0.25, 0]
    # The habit code = alpha * a + (1 - alpha) * b with alpha growing from 0.
    a, b, alpha = torch.randn(8), torch.randn(8), torch.linspace(0, 1, 5)[:, None]
    torch.testing.assert_close(along(torch.stack([a, b]), backward, path=lerp), alpha * a + (1 - alpha) * b)


def test_slerp_turns_every_layer_on_its_own() -> None:
    a, b, t = torch.randn(6, 16), torch.randn(6, 16), torch.linspace(0, 1, 5)
    apart = torch.stack([slerp(a[row], b[row], t) for row in range(6)], dim=1)
    torch.testing.assert_close(slerp(a, b, t), apart)


def test_a_partial_is_a_path() -> None:
    """What Hydra builds from configs/path."""
    codes = along(torch.randn(2, 8), timeline(2, 3), path=functools.partial(lerp))
    assert codes.shape == (3, 8)


@pytest.mark.parametrize(("arguments", "word"), [((1, 5), "key points, got 1"), ((2, 1), "transition, got 1")])
def test_too_few_points_or_frames_are_refused(arguments: tuple[int, int], word: str) -> None:
    with pytest.raises(UserError, match=word):
        timeline(*arguments)


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(UserError, match=r"alpha=up.*b_at_one and a_at_one"):
        timeline(2, 5, alpha="up")
