from __future__ import annotations

import functools
import warnings
from pathlib import Path

import pytest
import torch

import wplus
from tests.interpolation.closed_forms import Pixels, points_of, quiet, scene_of
from wplus.core.progress import silent
from wplus.errors import UserError
from wplus.interpolation.curve import Curve, PathContext, timeline
from wplus.interpolation.evenness import NeighbourDistances, evenness
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.paths import lerp, slerp
from wplus.interpolation.render import render
from wplus.interpolation.retime import even, even_times, interpolated
from wplus.losses.perceptual import EffNetLite0Distance
from wplus.models.stylegan2 import Generator


def step_cvs(points: Keyframes, scene: PathContext, curve: Curve) -> list[float]:
    distances = NeighbourDistances(scene.perceptual, steps_per_transition=scene.num_frames - 1)
    for images in render(scene.generator, points, curve, timeline(len(points), scene.num_frames), 8):
        distances.add(images)
    return [evenness(row, 1.0)["step_cv"] for row in distances.steps]


def test_a_picture_that_speeds_up_is_shown_at_the_roots() -> None:
    """The picture is w squared, so that equal steps of the picture from 0 to 1 are at w = sqrt(i / n)."""
    points, scene = points_of([0.0], [1.0]), scene_of(torch.square, 1, num_frames=41)
    curve = even(points, scene, path=lerp, aim=1e-3)
    t = timeline(2, 41)
    torch.testing.assert_close(curve.codes(t)[:, 0].double(), t.sqrt(), atol=2e-4, rtol=0)
    torch.testing.assert_close(curve.clock(t), t.sqrt(), atol=2e-4, rtol=0)


def warped(points: Keyframes, scene: PathContext) -> Curve:
    """The straight line with another clock."""

    def clock(t: torch.Tensor) -> torch.Tensor:
        whole = t.floor().clamp_max(len(points) - 2)
        return whole + (t - whole) ** 3

    straight = lerp(points, scene)
    return Curve(lambda t: straight.codes(clock(t)), clock=clock)


def test_a_warped_clock_is_set_right_with_labels_and_noise() -> None:
    points, scene = points_of([0.0, 1.0], [3.0, 0.0], [4.0, 4.0]), scene_of(lambda w: w, 2, num_frames=33)
    curve, t = even(points, scene, path=warped, aim=1e-3), timeline(3, 33)
    torch.testing.assert_close(curve.clock(t), t, atol=1e-3, rtol=0)
    torch.testing.assert_close(curve.codes(t), lerp(points, scene).codes(t), atol=5e-3, rtol=0)


def test_key_points_stay_where_they_are_bit_for_bit() -> None:
    points = points_of([0.3, 1.7], [-0.9, 0.2], [0.5, 0.5], [0.3, 1.7], closed=True)
    curve = even(points, scene_of(lambda w: w.exp(), 2, num_frames=9), path=slerp)
    whole = torch.arange(4).double()
    assert torch.equal(curve.codes(whole), points.codes)
    assert torch.equal(curve.clock(whole), whole)


def test_transitions_do_not_depend_on_each_other() -> None:
    points, options = points_of([0.0], [1.0], [-2.0]), {"aim": 0.02, "max_rounds": 9}
    scene = scene_of(torch.exp, 1, num_frames=17)
    together, _ = even_times(points, scene, lerp(points, scene), **options)
    for row in (0, 1):
        pair = points_of(*points.codes[row : row + 2].tolist())
        alone, _ = even_times(pair, scene, lerp(pair, scene), **options)
        torch.testing.assert_close(together[[row]], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("space", ["z", "w", "w+"])
@pytest.mark.parametrize("num_frames", [12, 60])
def test_a_generators_film_becomes_even(generator: Generator, space: str, num_frames: int) -> None:
    z = torch.randn(5, 8)
    codes = {"z": z, "w": generator.mapping(z)[:, 0], "w+": generator.mapping(z)[torch.randperm(5)]}[space]
    points = Keyframes(codes, space, tuple("abcde"), noise=tuple(generator.synthesis.random_noise(5)))
    scene = PathContext(generator, Pixels(), num_frames=num_frames, progress=quiet)
    assert max(step_cvs(points, scene, lerp(points, scene))) > 0.1
    assert max(step_cvs(points, scene, even(points, scene, path=lerp))) <= 0.05


def test_the_batch_size_changes_nothing_of_real_nets(repository: Path) -> None:
    """Not a bit: what starts from an even path may amplify it."""
    net = wplus.load(repository / "experiments/models/cats32.safetensors").generator
    ends = net.mapping(torch.randn(2, net.z_dim))[:, 0]
    points = Keyframes(ends, "w", ("a", "b"))
    shared = {"num_frames": 18, "progress": silent}
    scenes = [PathContext(net, EffNetLite0Distance(), batch_size=size, **shared) for size in (64, 7)]
    first, other = (even(points, scene, path=lerp).codes(timeline(2, 18)) for scene in scenes)
    assert torch.equal(first, other)


def test_there_and_back_is_the_same_way(generator: Generator) -> None:
    points = Keyframes(torch.randn(2, 8), "w", ("a", "b"))
    back = Keyframes(points.codes.flip(0), "w", ("b", "a"))
    scene, t = PathContext(generator, Pixels(), num_frames=33, progress=quiet), timeline(2, 17)
    there, back = (even(keys, scene, path=lerp, aim=1e-3).codes(t) for keys in (points, back))
    torch.testing.assert_close(there, back.flip(0), atol=5e-3, rtol=0)


def test_a_picture_that_jumps_is_said_to_be_uneven() -> None:
    points, scene = points_of([0.0], [1.0], [0.9]), scene_of(lambda w: (w > 0.5).float(), 1, num_frames=21)
    with pytest.warns(UserWarning, match=r"from 'a' to 'b' could not be made even in 21 frames.* is 4\.36, above 0\.1"):
        even(points, scene, path=lerp, max_rounds=4)


def test_the_best_round_counts_and_stillness_is_even() -> None:
    points = points_of([0.5], [0.5])
    scene = scene_of(torch.square, 1, num_frames=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = even(points, scene, path=lerp)
    assert torch.equal(curve.clock(timeline(2, 5)), timeline(2, 5))
    jumping = scene_of(lambda w: (w > 0.5).float(), 1, num_frames=21)
    unequal = points_of([0.0], [1.0])
    once, many = (
        even_times(unequal, jumping, lerp(unequal, jumping), aim=0.05, max_rounds=rounds)[1] for rounds in (1, 6)
    )
    assert many <= once


def test_times_between_frames_are_in_between() -> None:
    times = torch.tensor([[0, 0.2, 1], [0, 0.6, 1]], dtype=torch.float64)
    t = torch.tensor([0, 0.25, 0.5, 0.75, 1, 1.5, 1.75, 2], dtype=torch.float64)
    expected = torch.tensor([0, 0.1, 0.2, 0.6, 1, 1.6, 1.8, 2], dtype=torch.float64)
    torch.testing.assert_close(interpolated(times, t), expected)


@pytest.mark.parametrize(
    ("options", "word"), [({"aim": 0.2}, "aim=0.2"), ({"aim": 0.0}, "aim=0.0"), ({"max_rounds": 0}, "max_rounds=0")]
)
def test_bad_options_are_refused_in_a_sentence(options: dict[str, float], word: str) -> None:
    with pytest.raises(UserError, match=word):
        functools.partial(even, path=lerp)(points_of([0.0], [1.0]), scene_of(torch.square, 1), **options)
