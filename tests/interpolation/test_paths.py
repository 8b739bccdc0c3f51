from __future__ import annotations

import pytest
import torch

from wplus.errors import UserError
from wplus.interpolation.curve import Path, PathContext, timeline
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.paths import coarse_first, fine_first, layer_clocks, lerp, slerp, slerp_mean, whitened
from wplus.latents import interpolation as geometry
from wplus.models.stylegan2 import Generator

SCENE = PathContext(generator=None, perceptual=None)
SPACES = {1: "w", 2: "w+"}
SHAPES = {"w": (8,), "w+": (6, 8)}


def points(keys: torch.Tensor) -> Keyframes:
    return Keyframes(keys, SPACES[keys.ndim - 1], tuple(map(str, range(len(keys)))))


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


def line(codes: torch.Tensor) -> torch.Tensor:
    """The straight line between the ends of codes (T, ...) at even places."""
    share = torch.linspace(0, 1, len(codes)).to(codes).view(-1, *[1] * (codes.ndim - 1))
    return torch.lerp(codes[0], codes[-1], share)


@pytest.fixture
def scene(generator: Generator) -> PathContext:
    return PathContext(generator, perceptual=None)


@pytest.mark.parametrize("path", [slerp_mean, whitened])
@pytest.mark.parametrize("space", ["w", "w+"])
def test_paths_that_know_the_generator_hit_every_key_point_and_lead_back(
    scene: PathContext, path: Path, space: str
) -> None:
    keys, t = torch.randn(4, *SHAPES[space]), timeline(4, 6)
    codes = path(points(keys), scene).codes(t)
    assert torch.equal(codes[::5], keys)
    torch.testing.assert_close(path(points(keys.flip(0)), scene).codes(t), codes.flip(0), atol=1e-5, rtol=0)
    # Close to a key point it is close to it: the exact ends are no patches on a curve that misses them.
    near = path(points(keys), scene).codes(torch.tensor([1e-9, 1 - 1e-9, 1 + 1e-9], dtype=torch.float64))
    torch.testing.assert_close(near, keys[[0, 1, 1]], atol=1e-5, rtol=0)


def test_about_the_mean_the_distance_from_it_is_kept(scene: PathContext) -> None:
    mean, away, t = scene.generator.mapping.w_avg, torch.randn(2, 8), timeline(2, 9)
    keys = mean + away / away.norm(dim=1, keepdim=True) * torch.tensor([[2.0], [4.0]])
    lengths = (slerp_mean(points(keys), scene).codes(t) - mean).norm(dim=1)
    torch.testing.assert_close(lengths, torch.linspace(2, 4, 9))
    scene.generator.mapping.w_avg.zero_()
    torch.testing.assert_close(slerp_mean(points(keys), scene).codes(t), slerp(points(keys), scene).codes(t))


def test_whitened_is_straight_in_coordinates_and_bent_in_w(scene: PathContext) -> None:
    codes = whitened(points(torch.randn(2, 6, 8)), scene).codes(timeline(2, 9))
    coordinates = scene.whitened.coordinates(codes)
    torch.testing.assert_close(coordinates, line(coordinates), atol=1e-3, rtol=1e-4)
    assert (codes - line(codes)).abs().max() > 0.1


def test_each_layer_goes_straight_in_its_own_time(scene: PathContext) -> None:
    keys, t = torch.randn(2, 6, 8), torch.linspace(0, 1, 61, dtype=torch.float64)
    codes = coarse_first(points(keys), scene, overlap=0.0).codes(t)
    shares = (codes - keys[0]).norm(dim=2) / (keys[1] - keys[0]).norm(dim=1)  # (T, num_ws)
    expected = (6 * t[:, None] - torch.arange(6)).clamp(0, 1)
    torch.testing.assert_close(shares.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("overlap", [0.0, 0.3, 1.0])
def test_clocks_are_monotone_and_complete_and_in_order(overlap: float) -> None:
    clocks = layer_clocks(torch.linspace(0, 1, 101, dtype=torch.float64), torch.arange(5), overlap)
    assert (clocks.diff(dim=0) >= 0).all()
    assert torch.equal(clocks[[0, -1]].round(decimals=12), torch.stack([torch.zeros(5), torch.ones(5)]).double())
    assert (clocks.diff(dim=1) <= 1e-12).all()
    # Every layer moves for the same time, and somewhere a layer moves at every moment.
    moving = (clocks.diff(dim=0) > 1e-12).sum(dim=0)
    assert moving.max() - moving.min() <= 2
    assert (clocks.sum(dim=1).diff() > 0).all()


def test_layers_all_together_are_the_straight_line_and_one_layer_is_too(scene: PathContext) -> None:
    keys, t = torch.randn(3, 6, 8), timeline(3, 7)
    for path in (coarse_first, fine_first):
        torch.testing.assert_close(path(points(keys), scene, overlap=1.0).codes(t), lerp(points(keys), scene).codes(t))
        torch.testing.assert_close(path(points(keys[:, :1]), scene).codes(t), lerp(points(keys[:, :1]), scene).codes(t))


def test_fine_first_is_coarse_first_backwards(scene: PathContext) -> None:
    keys, t = torch.randn(3, 6, 8), timeline(3, 9)
    there, back = fine_first(points(keys), scene).codes(t), coarse_first(points(keys.flip(0)), scene).codes(t)
    torch.testing.assert_close(there, back.flip(0), atol=1e-5, rtol=0)
    assert torch.equal(there[::8], keys)
    assert not torch.allclose(there, coarse_first(points(keys), scene).codes(t), atol=0.1)


@pytest.mark.parametrize(
    ("path", "space", "word"),
    [
        (coarse_first, "w", r"coarse_first is for w\+, not for w: .*space=w\+"),
        (fine_first, "z", r"fine_first is for w\+, not for z: .*space=w\+"),
        (slerp_mean, "z", "slerp_mean is for w and w.*path=slerp"),
        (whitened, "z", "whitened is for w and w.*space=w"),
    ],
)
def test_a_space_without_sense_is_refused_in_a_sentence(path: Path, space: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        path(Keyframes(torch.randn(2, 8), space, ("a", "b")), SCENE)


def test_an_overlap_beyond_its_range_is_refused() -> None:
    with pytest.raises(UserError, match=r"overlap=1\.5"):
        coarse_first(points(torch.randn(2, 6, 8)), SCENE, overlap=1.5)
