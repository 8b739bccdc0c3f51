from __future__ import annotations

import math

import pytest
import torch

from tests.interpolation.closed_forms import Pixels, points_of, quiet, scene_of
from wplus.errors import UserError
from wplus.interpolation.curve import Curve, PathContext, timeline
from wplus.interpolation.geodesic import geodesic
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.paths import lerp
from wplus.interpolation.render import render_batch
from wplus.models.stylegan2 import Generator


def energy(points: Keyframes, scene: PathContext, curve: Curve, num_points: int) -> torch.Tensor:
    """M times the sum of the squared distances between M + 1 frames of the first transition."""
    t = torch.linspace(0, 1, num_points + 2, dtype=torch.float64)
    pictures = scene.generator.picture(curve.codes(t))
    return (num_points + 1) * pictures.diff(dim=0).square().sum()


def bent(points: Keyframes, scene: PathContext) -> Curve:
    """A detour, with its clock running unevenly."""
    straight = lerp(points, scene)
    detour = torch.ones(points.codes.shape[1:])
    return Curve(lambda t: straight.codes(t) + (t * math.pi).sin().square()[:, None].float() * detour)


def test_where_pictures_are_linear_the_straight_line_stays() -> None:
    mix = torch.linalg.qr(torch.randn(3, 3))[0]
    points, scene = points_of([0, 1, 2], [3, -1, 0], [0, 0, 0]), scene_of(lambda w: w @ mix, 3)
    curve, t = geodesic(points, scene, steps=20), timeline(3, 40)
    torch.testing.assert_close(curve.codes(t), lerp(points, scene).codes(t), atol=1e-4, rtol=0)


def test_where_pictures_are_linear_a_detour_becomes_the_straight_line() -> None:
    points, scene = points_of([0, 1, 2], [3, -1, 0]), scene_of(lambda w: 2 * w, 3)
    curve, t = geodesic(points, scene, start=bent, steps=200), timeline(2, 40)
    torch.testing.assert_close(curve.codes(t), lerp(points, scene).codes(t), atol=0.02, rtol=0)


def polar(w: torch.Tensor) -> torch.Tensor:
    """(angle, radius) -> the point in the plane."""
    return torch.stack([w[:, 1] * w[:, 0].cos(), w[:, 1] * w[:, 0].sin()], dim=1)


def test_where_codes_are_polar_the_arc_becomes_the_chord() -> None:
    """A quarter of the circle: the straight line in codes has the energy (pi / 2)^2, the geodesic the chord's 2."""
    points, scene = points_of([0, 1], [math.pi / 2, 1]), scene_of(polar, 2)
    assert energy(points, scene, lerp(points, scene), 12) == pytest.approx((math.pi / 2) ** 2, rel=0.01)
    curve = geodesic(points, scene, steps=200)
    assert energy(points, scene, curve, 12) == pytest.approx(2, rel=1e-3)
    found = polar(curve.codes(torch.linspace(0, 1, 14, dtype=torch.float64)))
    torch.testing.assert_close(
        found, torch.lerp(found[0], found[-1], torch.linspace(0, 1, 14)[:, None]), atol=0.01, rtol=0
    )


@pytest.mark.parametrize("learning_rate", [0.03, 3.0, 1000.0])
def test_it_is_never_worse_than_its_start(learning_rate: float) -> None:
    points, scene = points_of([0, 1], [3, 1]), scene_of(polar, 2)
    curve = geodesic(points, scene, steps=4, learning_rate=learning_rate)
    assert energy(points, scene, curve, 12) <= energy(points, scene, lerp(points, scene), 12)


def test_the_prior_pulls_the_points_to_where_latents_are() -> None:
    class Near:
        """A prior about the origin."""

        def distance(self, ws: torch.Tensor) -> torch.Tensor:
            return ws.square().mean(dim=(1, 2))

    points, scene = points_of([1, 1], [3, 1]), scene_of(lambda w: w, 2)
    scene.__dict__["whitened"] = Near()
    middles = [
        geodesic(points, scene, prior=prior, steps=60).codes(torch.tensor([0.5], dtype=torch.float64))
        for prior in (0.0, 3.0, 30.0)
    ]
    sizes = [float(middle.norm()) for middle in middles]
    assert sizes[0] == pytest.approx(math.sqrt(5), rel=1e-2)
    assert sizes[2] < sizes[1] < sizes[0] - 0.1


def test_a_batch_changes_nothing_and_the_same_again_is_the_same() -> None:
    points, t = points_of([0, 1], [1, 1], [2, 2], [0, 1], closed=True), timeline(4, 7)
    options = {"steps": 10, "num_points": 4}
    alone, together, again = (
        geodesic(points, scene_of(polar, 2, batch_size=size), **options).codes(t) for size in (1, 64, 64)
    )
    assert torch.equal(together, again)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    assert torch.equal(alone[::6], points.codes)


def test_from_b_to_a_it_is_the_same_way_back() -> None:
    there, back = points_of([0, 1], [1.5, 2]), points_of([1.5, 2], [0, 1])
    scene, t = scene_of(polar, 2), timeline(2, 9)
    one, other = (geodesic(points, scene, steps=150).codes(t) for points in (there, back))
    torch.testing.assert_close(one, other.flip(0), atol=0.01, rtol=0)


@pytest.mark.parametrize("space", ["z", "w", "w+"])
def test_a_generators_way_gets_shorter(generator: Generator, space: str) -> None:
    codes = torch.randn(2, *((6, 8) if space == "w+" else (8,)))
    points = Keyframes(codes, space, ("a", "b"), noise=tuple(generator.synthesis.random_noise(2)))
    scene = PathContext(generator, Pixels(), progress=quiet)
    curve, t = geodesic(points, scene, steps=15, num_points=8), timeline(2, 10)
    assert torch.equal(curve.codes(t)[[0, -1]], codes)
    torch.testing.assert_close(curve.clock(t), t)
    energies = [
        render_batch(generator, points, each, t).diff(dim=0).square().sum() for each in (curve, lerp(points, scene))
    ]
    assert energies[0] < 0.95 * energies[1]


@pytest.mark.parametrize(
    ("options", "word"),
    [({"num_points": 0}, "num_points=0"), ({"steps": 0}, "steps=0"), ({"learning_rate": 0}, "learning_rate=0"),
     ({"prior": -1.0}, "prior=-1.0")],
)  # fmt: skip
def test_bad_options_are_refused_in_a_sentence(options: dict[str, float], word: str) -> None:
    with pytest.raises(UserError, match=word):
        geodesic(points_of([0, 1], [1, 1]), scene_of(polar, 2), **options)
