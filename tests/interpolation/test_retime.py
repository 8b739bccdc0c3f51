import pytest
import torch

from tests.fakes import SquaredPixels, context_of, keyframes_at
from wplus.config import build, composed
from wplus.core.progress import silent
from wplus.errors import UserError
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import Curve, PathContext, timeline
from wplus.interpolation.path_metrics.shape import step_cv
from wplus.interpolation.paths import lerp, slerp
from wplus.interpolation.render import NeighbourDistances, render
from wplus.interpolation.retime import arc_length, even_times, retimed
from wplus.inversion.task import unwrapped


def step_cvs(keyframes, context, curve):
    distances = NeighbourDistances(context.perceptual, steps_per_transition=context.num_frames - 1)
    for images in render(context.generator, keyframes, curve, timeline(len(keyframes), context.num_frames), 8):
        distances.add(images)
    return [step_cv(row) for row in distances.steps]


def test_an_image_that_speeds_up_is_shown_at_the_roots():
    """The image is w squared, so that equal steps of the image from 0 to 1 are at w = sqrt(i / n)."""
    keyframes, context, t = keyframes_at([0.0], [1.0]), context_of(torch.square, 1, num_frames=41), timeline(2, 41)
    curve = arc_length(keyframes, context, path=lerp, aim=1e-3)
    torch.testing.assert_close(curve.codes(t)[:, 0].double(), t.sqrt(), atol=2e-4, rtol=0)
    torch.testing.assert_close(curve.time_map(t), t.sqrt(), atol=2e-4, rtol=0)


def warped(keyframes, context):
    """The straight line at a different pace."""

    def time_map(t):
        whole = t.floor().clamp_max(len(keyframes) - 2)
        return whole + (t - whole) ** 3

    straight = lerp(keyframes, context)
    return Curve(lambda t: straight.codes(time_map(t)), time_map=time_map)


def test_a_warped_pace_is_set_right_with_labels_and_noise():
    keyframes, context = keyframes_at([0.0, 1.0], [3.0, 0.0], [4.0, 4.0]), context_of(lambda w: w, 2, num_frames=33)
    curve, t = arc_length(keyframes, context, path=warped, aim=1e-3), timeline(3, 33)
    torch.testing.assert_close(curve.time_map(t), t, atol=1e-3, rtol=0)
    torch.testing.assert_close(curve.codes(t), lerp(keyframes, context).codes(t), atol=5e-3, rtol=0)


def test_keyframes_stay_where_they_are_bit_for_bit():
    keyframes = keyframes_at([0.3, 1.7], [-0.9, 0.2], [0.5, 0.5], [0.3, 1.7], closed=True)
    curve = arc_length(keyframes, context_of(lambda w: w.exp(), 2, num_frames=9), path=slerp)
    whole = torch.arange(4).double()
    assert torch.equal(curve.codes(whole), keyframes.codes)
    assert torch.equal(curve.time_map(whole), whole)


def test_transitions_do_not_depend_on_each_other():
    keyframes, options = keyframes_at([0.0], [1.0], [-2.0]), {"aim": 0.02, "max_rounds": 9}
    context = context_of(torch.exp, 1, num_frames=17)
    together, _ = even_times(keyframes, context, lerp(keyframes, context), **options)
    for row in (0, 1):
        pair = keyframes_at(*keyframes.codes[row : row + 2].tolist())
        alone, _ = even_times(pair, context, lerp(pair, context), **options)
        torch.testing.assert_close(together[[row]], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("space", ["z", "w", "w+"])
@pytest.mark.parametrize("num_frames", [12, 60])
def test_a_generators_video_becomes_even(generator, space, num_frames):
    z = torch.randn(5, 8)
    codes = {"z": z, "w": generator.mapping(z)[:, 0], "w+": generator.mapping(z)[torch.randperm(5)]}[space]
    keyframes = Keyframes(codes, space, tuple("abcde"), noise=tuple(generator.synthesis.random_noise(5)))
    context = PathContext(generator, SquaredPixels(), num_frames=num_frames, progress=silent)
    assert max(step_cvs(keyframes, context, lerp(keyframes, context))) > 0.1
    assert max(step_cvs(keyframes, context, arc_length(keyframes, context, path=lerp))) <= 0.05


def test_an_image_that_jumps_is_said_to_be_uneven():
    keyframes, context = keyframes_at([0.0], [1.0], [0.9]), context_of(lambda w: (w > 0.5).float(), 1, num_frames=21)
    with pytest.warns(UserWarning, match=r"from 'a' to 'b' could not be made even in 21 frames.* is 4\.36, above 0\.1"):
        arc_length(keyframes, context, path=lerp, max_rounds=4)


def test_the_best_round_counts_and_stillness_is_even():
    still, context = keyframes_at([0.5], [0.5]), context_of(torch.square, 1, num_frames=5)
    curve = arc_length(still, context, path=lerp)
    assert torch.equal(curve.time_map(timeline(2, 5)), timeline(2, 5))
    unequal, jumping = keyframes_at([0.0], [1.0]), context_of(lambda w: (w > 0.5).float(), 1, num_frames=21)
    once, many = (even_times(unequal, jumping, lerp(unequal, jumping), aim=0.05, max_rounds=rounds)[1]
                  for rounds in (1, 6))  # fmt: skip
    assert many <= once


def test_each_path_by_each_retiming_under_both_names():
    chosen = ["path=[lerp,geodesic]", "retime=[none,arc_length]", "retime.arc_length.aim=0.02"]
    config = composed("interpolate", ["checkpoint=none", "inputs=[a,b]", *chosen])
    paths = retimed(build(config["path"]), build(config["retime"]))
    assert list(paths) == ["lerp", "lerp+arc_length", "geodesic", "geodesic+arc_length"]
    function, options = unwrapped(paths["geodesic+arc_length"])
    assert (function, options["path"], options["aim"]) == (arc_length, paths["geodesic"], 0.02)
    assert list(retimed({"lerp": lerp}, {"arc_length": arc_length})) == ["lerp+arc_length"]
    assert retimed({"lerp": lerp}, None) == {"lerp": lerp}


@pytest.mark.parametrize("options", [{"aim": 0.2}, {"aim": 0.0}, {"max_rounds": 0}])
def test_bad_options_are_refused_in_a_sentence(options):
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=f"{name} must .*{value}"):
        arc_length(keyframes_at([0.0], [1.0]), context_of(torch.square, 1), path=lerp, **options)
