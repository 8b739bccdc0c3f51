import math

import pytest
import torch

from tests.fakes import SquaredPixels, context_of, keyframes_at
from wplus.core.progress import silent
from wplus.errors import UserError
from wplus.interpolation.geodesic import geodesic
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import Curve, PathContext, timeline
from wplus.interpolation.paths import lerp
from wplus.interpolation.render import render_batch
from wplus.interpolation.retime import arc_length


def energy(context, curve, num_points=12):
    """M times the sum of the squared distances between M + 1 frames of the first transition."""
    t = torch.linspace(0, 1, num_points + 2, dtype=torch.float64)
    images = context.generator.picture(curve.codes(t))
    return (num_points + 1) * images.diff(dim=0).square().sum()


def bent(keyframes, context):
    """A detour."""
    straight = lerp(keyframes, context)
    detour = torch.ones(keyframes.codes.shape[1:])
    return Curve(lambda t: straight.codes(t) + (t * math.pi).sin().square()[:, None].float() * detour)


def polar(w):
    """Map (angle, radius) to a point in the plane."""
    return torch.stack([w[:, 1] * w[:, 0].cos(), w[:, 1] * w[:, 0].sin()], dim=1)


def test_where_images_are_linear_the_straight_line_stays_and_a_detour_becomes_it():
    mix = torch.linalg.qr(torch.randn(3, 3))[0]
    keyframes, context = keyframes_at([0, 1, 2], [3, -1, 0], [0, 0, 0]), context_of(lambda w: w @ mix, 3)
    curve, t = geodesic(keyframes, context, num_steps=20), timeline(3, 40)
    torch.testing.assert_close(curve.codes(t), lerp(keyframes, context).codes(t), atol=1e-4, rtol=0)
    keyframes, context, t = keyframes_at([0, 1, 2], [3, -1, 0]), context_of(lambda w: 2 * w, 3), timeline(2, 40)
    curve = geodesic(keyframes, context, init=bent, num_steps=200)
    torch.testing.assert_close(curve.codes(t), lerp(keyframes, context).codes(t), atol=0.02, rtol=0)


def test_where_codes_are_polar_the_arc_becomes_the_chord():
    """A quarter circle: the straight line in codes has the energy (pi / 2)^2, the geodesic the chord's 2."""
    keyframes, context = keyframes_at([0, 1], [math.pi / 2, 1]), context_of(polar, 2)
    assert energy(context, lerp(keyframes, context)) == pytest.approx((math.pi / 2) ** 2, rel=0.01)
    curve = geodesic(keyframes, context, num_steps=200)
    assert energy(context, curve) == pytest.approx(2, rel=1e-3)
    found = polar(curve.codes(torch.linspace(0, 1, 14, dtype=torch.float64)))
    chord = torch.lerp(found[0], found[-1], torch.linspace(0, 1, 14)[:, None])
    torch.testing.assert_close(found, chord, atol=0.01, rtol=0)


@pytest.mark.parametrize("learning_rate", [0.03, 3.0, 1000.0])
def test_it_is_never_worse_than_its_start(learning_rate):
    keyframes, context = keyframes_at([0, 1], [3, 1]), context_of(polar, 2)
    curve = geodesic(keyframes, context, num_steps=4, learning_rate=learning_rate)
    assert energy(context, curve) <= energy(context, lerp(keyframes, context))


def test_it_starts_at_the_even_straight_line():
    """Images are squares: the straight line speeds up, so a search from it would pass through other points."""
    keyframes, context = keyframes_at([0.0], [1.0]), context_of(torch.square, 1, num_frames=33)
    even = arc_length(keyframes, context, path=lerp)
    t = torch.linspace(0, 1, 14, dtype=torch.float64)
    curve = geodesic(keyframes, context, num_steps=1, learning_rate=1e-9)
    torch.testing.assert_close(curve.codes(t), even.codes(t), atol=1e-6, rtol=0)
    assert (curve.codes(t) - lerp(keyframes, context).codes(t)).abs().max() > 0.1
    torch.testing.assert_close(curve.time_map(t), even.time_map(t))


def test_the_prior_pulls_the_points_to_where_latents_are():
    class Near:
        """A prior about the origin."""

        def distance(self, ws):
            return ws.square().mean(dim=(1, 2))

    keyframes, context = keyframes_at([1, 1], [3, 1]), context_of(lambda w: w, 2)
    context.__dict__["whitened"] = Near()
    half_way = torch.tensor([0.5], dtype=torch.float64)
    sizes = [float(geodesic(keyframes, context, prior=prior, num_steps=60).codes(half_way).norm())
             for prior in (0.0, 3.0, 30.0)]  # fmt: skip
    assert sizes[0] == pytest.approx(math.sqrt(5), rel=1e-2)
    assert sizes[2] < sizes[1] < sizes[0] - 0.1


def test_a_batch_changes_nothing_and_the_same_again_is_the_same():
    keyframes, t = keyframes_at([0, 1], [1, 1], [2, 2], [0, 1], closed=True), timeline(4, 7)
    alone, together, again = (
        geodesic(keyframes, context_of(polar, 2, batch_size=size), num_steps=10, num_points=4).codes(t)
        for size in (1, 64, 64)
    )
    assert torch.equal(together, again)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    assert torch.equal(alone[::6], keyframes.codes)


@pytest.mark.parametrize("space", ["z", "w", "w+"])
def test_a_generators_way_gets_shorter(generator, space):
    codes = torch.randn(2, *((6, 8) if space == "w+" else (8,)))
    keyframes = Keyframes(codes, space, ("a", "b"), noise=tuple(generator.synthesis.random_noise(2)))
    context = PathContext(generator, SquaredPixels(), progress=silent)
    curve, t = geodesic(keyframes, context, init=lerp, num_steps=15, num_points=8), timeline(2, 10)
    assert torch.equal(curve.codes(t)[[0, -1]], codes)
    torch.testing.assert_close(curve.time_map(t), t)
    found, straight = (render_batch(generator, keyframes, each, t).diff(dim=0).square().sum()
                       for each in (curve, lerp(keyframes, context)))  # fmt: skip
    assert found < 0.95 * straight


@pytest.mark.parametrize("options", [{"num_points": 0}, {"num_steps": 0}, {"learning_rate": 0}, {"prior": -1.0}])
def test_bad_options_are_refused_in_a_sentence(options):
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=f"{name} must .*got {value}"):
        geodesic(keyframes_at([0, 1], [1, 1]), context_of(polar, 2), **options)
