from __future__ import annotations

import pytest
import torch

from wplus import geometry
from wplus.interpolation.curve import Path, Scene, timeline
from wplus.interpolation.keypoints import KeyPoints
from wplus.interpolation.paths import lerp, slerp

SCENE = Scene(generator=None, perceptual=None)
SPACES = {1: "w", 2: "w+"}


def points(keys: torch.Tensor) -> KeyPoints:
    return KeyPoints(keys, SPACES[keys.ndim - 1], tuple(map(str, range(len(keys)))))


@pytest.mark.parametrize("path", [lerp, slerp])
@pytest.mark.parametrize("shape", [(16,), (6, 16)])
@pytest.mark.parametrize("num_frames", [2, 3, 7, 50, 61])
def test_every_key_point_is_hit_bit_for_bit(path: Path, shape: tuple[int, ...], num_frames: int) -> None:
    keys = torch.randn(4, *shape)
    codes = path(points(keys), SCENE).codes(timeline(4, num_frames))
    assert codes.shape == (3 * (num_frames - 1) + 1, *shape)
    assert torch.equal(codes[:: num_frames - 1], keys)


def test_the_line_and_the_great_circle_are_those_of_geometry() -> None:
    keys, t = torch.randn(2, 6, 16), timeline(2, 9)
    for path, between in ((lerp, geometry.lerp), (slerp, geometry.slerp)):
        assert torch.equal(path(points(keys), SCENE).codes(t), between(keys[:1], keys[1:], t))


def test_slerp_turns_every_layer_on_its_own() -> None:
    keys, t = torch.randn(2, 6, 16), timeline(2, 5)
    apart = torch.stack([slerp(points(keys[:, row]), SCENE).codes(t) for row in range(6)], dim=1)
    torch.testing.assert_close(slerp(points(keys), SCENE).codes(t), apart)
