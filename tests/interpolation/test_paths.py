import pytest
import torch

from wplus.errors import UserError
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import PathContext, timeline
from wplus.interpolation.paths import coarse_first, fine_first, lerp, pn, slerp, slerp_centered, spline
from wplus.latents import interpolation

ANYWHERE = [lerp, slerp, spline]
SHAPES = {"w": (8,), "w+": (6, 8)}


def keyframes(keys, *, closed=False):
    keys = torch.cat([keys, keys[:1]]) if closed else keys
    return Keyframes(keys, {1: "w", 2: "w+"}[keys.ndim - 1], tuple(map(str, range(len(keys)))), closed=closed)


@pytest.fixture
def context(generator):
    return PathContext(generator, perceptual=None)


@pytest.mark.parametrize("path", [*ANYWHERE, slerp_centered, pn])
@pytest.mark.parametrize("space", SHAPES)
@pytest.mark.parametrize("num_frames", [2, 7, 61])
def test_every_keyframe_is_hit_bit_for_bit_and_the_way_leads_back(context, path, space, num_frames):
    keys, t = torch.randn(4, *SHAPES[space]), timeline(4, num_frames)
    codes = path(keyframes(keys), context).codes(t)
    assert codes.shape == (3 * (num_frames - 1) + 1, *SHAPES[space])
    assert torch.equal(codes[:: num_frames - 1], keys)
    torch.testing.assert_close(path(keyframes(keys.flip(0)), context).codes(t), codes.flip(0), atol=1e-5, rtol=0)
    # Close to a keyframe it is close to it: the exact ends are no patches on a curve that misses them.
    near = path(keyframes(keys), context).codes(torch.tensor([1e-9, 1 - 1e-9, 1 + 1e-9], dtype=torch.float64))
    torch.testing.assert_close(near, keys[[0, 1, 1]], atol=1e-5, rtol=0)


def test_the_line_and_the_great_circle_are_those_of_the_latents(context):
    keys, t = torch.randn(2, 6, 16), timeline(2, 9)
    for path, between in ((lerp, interpolation.lerp), (slerp, interpolation.slerp)):
        assert torch.equal(path(keyframes(keys), context).codes(t), between(keys[:1], keys[1:], t))


def line(codes):
    """The straight line between the ends of latents (T, ...) at even positions."""
    share = torch.linspace(0, 1, len(codes)).to(codes).view(-1, *[1] * (codes.ndim - 1))
    return torch.lerp(codes[0], codes[-1], share)


def test_about_the_mean_the_distance_from_it_is_kept(context):
    mean, away, t = context.generator.mapping.w_avg, torch.randn(2, 8), timeline(2, 9)
    keys = mean + away / away.norm(dim=1, keepdim=True) * torch.tensor([[2.0], [4.0]])
    lengths = (slerp_centered(keyframes(keys), context).codes(t) - mean).norm(dim=1)
    torch.testing.assert_close(lengths, torch.linspace(2, 4, 9))
    mean.zero_()
    centered, about_origin = (path(keyframes(keys), context).codes(t) for path in (slerp_centered, slerp))
    torch.testing.assert_close(centered, about_origin)


def test_pn_is_straight_in_its_coordinates_and_bent_in_w(context):
    codes = pn(keyframes(torch.randn(2, 6, 8)), context).codes(timeline(2, 9))
    coordinates = context.whitened.coordinates(codes)
    torch.testing.assert_close(coordinates, line(coordinates), atol=1e-3, rtol=1e-4)
    assert (codes - line(codes)).abs().max() > 0.1


@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_each_layer_goes_straight_in_its_own_time(context, overlap):
    keys, t = torch.randn(2, 6, 8), torch.linspace(0, 1, 61, dtype=torch.float64)
    codes = coarse_first(keyframes(keys), context, overlap=overlap).codes(t)
    shares = (codes - keys[0]).norm(dim=2) / (keys[1] - keys[0]).norm(dim=1)  # (T, num_ws)
    window = overlap + (1 - overlap) / 6  # the first starts at once, the last ends at the end
    expected = ((t[:, None] - torch.arange(6) * (1 - window) / 5) / window).clamp(0, 1)
    torch.testing.assert_close(shares.double(), expected, atol=1e-5, rtol=0)


def test_layers_all_together_are_the_straight_line_and_one_layer_is_too(context):
    keys, t = torch.randn(3, 6, 8), timeline(3, 7)
    for path in (coarse_first, fine_first):
        for some, options in ((keys, {"overlap": 1.0}), (keys[:, :1], {})):
            found = path(keyframes(some), context, **options).codes(t)
            torch.testing.assert_close(found, lerp(keyframes(some), context).codes(t))


def test_fine_first_is_coarse_first_backwards(context):
    keys, t = torch.randn(3, 6, 8), timeline(3, 9)
    there = fine_first(keyframes(keys), context).codes(t)
    back = coarse_first(keyframes(keys.flip(0)), context).codes(t)
    torch.testing.assert_close(there, back.flip(0), atol=1e-5, rtol=0)
    assert torch.equal(there[::8], keys)
    assert not torch.allclose(there, coarse_first(keyframes(keys), context).codes(t), atol=0.1)


@pytest.mark.parametrize(
    ("path", "space", "word"),
    [
        (coarse_first, "w", r"coarse_first must be w\+, got w: .*space=w\+"),
        (fine_first, "z", r"fine_first must be w\+, got z: .*space=w\+"),
        (slerp_centered, "z", "slerp_centered must be w or w.*path=slerp"),
        (pn, "z", "pn must be w or w.*space=w"),
    ],
)
def test_a_space_without_sense_is_refused_in_a_sentence(context, path, space, word):
    with pytest.raises(UserError, match=word):
        path(Keyframes(torch.randn(2, 8), space, ("a", "b")), context)
    with pytest.raises(UserError, match=r"overlap must .*got 1\.5"):
        coarse_first(keyframes(torch.randn(2, 6, 8)), context, overlap=1.5)


@pytest.mark.parametrize("num_keys", [2, 3, 4, 7])
@pytest.mark.parametrize("closed", [False, True])
def test_a_spline_is_twice_differentiable_and_bends_nowhere_at_its_ends(context, num_keys, closed):
    """Cubic between knots; slope and curvature agree on both sides of knots, including a loop's seam; natural ends."""
    points, step = keyframes(torch.randn(num_keys, 3, 5, dtype=torch.float64), closed=closed), 1e-3
    codes = spline(points, context).codes
    last = len(points) - 1

    def derivatives(knot, side):
        """First and second derivative of the cubic on that side, from four of its points."""
        places = [(knot + side * k * step) % last if closed else knot + side * k * step for k in range(4)]
        at = codes(torch.tensor(places, dtype=torch.float64))
        slope = (-11 * at[0] + 18 * at[1] - 9 * at[2] + 2 * at[3]) / (6 * side * step)
        return slope, (2 * at[0] - 5 * at[1] + 4 * at[2] - at[3]) / step**2

    for knot in range(last) if closed else range(1, last):
        for before, after in zip(derivatives(knot, -1), derivatives(knot, 1), strict=True):
            torch.testing.assert_close(before, after, atol=1e-5, rtol=0)
    if not closed:
        for knot, side in ((0, 1), (last, -1)):
            assert derivatives(knot, side)[1].abs().max() < 1e-5
