import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

from tests.fakes import straight, trajectory_of
from wplus.core.images import to_float, to_uint8
from wplus.interpolation.path_metrics.frames import (
    crossover,
    detail_energy,
    drift,
    fidelity,
    ghosting,
    nearest_mixtures,
)
from wplus.interpolation.trajectory import cross_dissolve

FAITHFUL = {"endpoint_squared": 0, "endpoint_psnr_db": 100, "endpoint_miss": 0}


def noise(t):
    """Stored exactly: of 8 bits."""
    pixels = torch.randint(20, 200, (2, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return to_float(pixels).double()[(t > 0.5).long()]


ENDS = noise(torch.tensor([0.0, 1.0]).double())


def test_ends_against_the_images(scores):
    assert scores(fidelity, trajectory_of(noise, targets=ENDS)) == FAITHFUL
    targets = ENDS + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)
    apart = float((ENDS[0] - ENDS[1] + 0.18).square().sum())
    # PSNR: a tenth and a hundredth of the range of 2; the miss: the larger of the two.
    expected = {"endpoint_squared": 16 * (0.2**2 + 0.02**2) / 2, "endpoint_psnr_db": (20 + 40) / 2,
                "endpoint_miss": (16 * 0.2**2 / apart) ** 0.5}  # fmt: skip
    assert scores(fidelity, trajectory_of(noise, targets=targets)) == pytest.approx(expected, rel=1e-5)


def test_ends_are_taken_as_they_are_stored(scores):
    """What an image shows cannot tell them apart."""

    def loud(t):
        return 1.5 * torch.sin(9 * noise(t))

    stored = to_float(to_uint8(loud(torch.tensor([0.0, 1.0]).double()))).double()
    assert scores(fidelity, trajectory_of(loud, targets=stored)) == FAITHFUL


def test_each_end_has_its_own_image(scores):
    swapped = scores(fidelity, trajectory_of(noise, targets=ENDS.flip(0)))
    assert swapped["endpoint_squared"] == pytest.approx(float((ENDS[0] - ENDS[1]).square().sum()))
    assert swapped["endpoint_miss"] == pytest.approx(1)  # as far from its image as the other image is


def test_equal_images_have_no_distance_to_compare_with_and_without_images_nothing_is_said(ways, tools, scores):
    equal = scores(fidelity, trajectory_of(noise, targets=ENDS[[0, 0]]))
    assert set(equal) == {"endpoint_squared", "endpoint_psnr_db"}
    assert scores(fidelity, ways["straight"]) == {}
    assert scores(drift, ways["straight"], dataclasses.replace(tools, identity=None)) == {}


def turned(angles):
    """Images whose descriptors are unit vectors of a plane at these angles."""
    images = torch.zeros(len(angles), 1, 4, 4, dtype=torch.float64)
    images[:, 0, 0, 0], images[:, 0, 3, 3] = torch.cos(angles), torch.sin(angles)
    return images


def test_the_shortest_way_between_two_descriptors(scores):
    found = trajectory_of(lambda t: turned(t * math.pi / 2))
    expected = {"third_person": math.cos(math.pi / 4), "backwards": 0, "backtrack": 0, "crossover": 0.5}
    assert scores(drift, found) == pytest.approx({f"{name}_cosine": v for name, v in expected.items()}, abs=1e-9)
    assert torch.allclose(found.along["similarity_a"], torch.cos(found.t * math.pi / 2))
    assert torch.allclose(found.along["similarity_b"], torch.sin(found.t * math.pi / 2))


def test_a_detour_shows_somebody_else(scores):
    """Out of the plane and back: half way it is orthogonal to both ends."""

    def at(t):
        images, out = turned(t * math.pi / 2), torch.sin(math.pi * t).view(-1, 1, 1, 1)
        images = images * (1 - out)
        images[:, 0, 1, 1] = out.flatten()
        return images

    assert scores(drift, trajectory_of(at))["third_person_cosine"] == pytest.approx(0, abs=1e-9)


def test_going_back_half_the_way(scores):
    """There, a third back, there: angle 0 to 90, back to 30, to 90."""
    stops = torch.tensor([0.0, 90, 30, 90]).deg2rad().double()
    found = scores(drift, trajectory_of(lambda t: turned(stops), 4))
    assert found["backwards_cosine"] == pytest.approx(2 / 6)  # s_a rises once, s_b falls once, in 3 steps each
    wrong = math.cos(math.radians(30)) + 1 - math.sin(math.radians(30))
    assert found["backtrack_cosine"] == pytest.approx(wrong / 2)


@pytest.mark.parametrize(
    ("lead", "expected"), [([-1, -1, -1, 3, 4], 0.5 + 0.25 / 4), ([-1, -1, 0, 3, 4], 0.5), ([-1] * 5, 1), ([1] * 5, 0)]
)
def test_crossover_between_frames(lead, expected):
    assert crossover(torch.linspace(0, 1, 5), torch.tensor(lead)) == pytest.approx(expected)


def test_a_dissolve_is_the_worst_and_a_morph_is_none(ways, tools, scores):
    worst, morph = scores(ghosting, ways["dissolve"]), scores(ghosting, ways["morph"])
    assert worst["distinctness"] == pytest.approx(0, abs=1e-12)
    assert worst["detail_dip"] == pytest.approx(0.5, abs=0.02)  # unrelated ends: a quarter of the energy of each
    # Three squares apart: the middle one is 1 + 1/4 + 1/4 from the mixture of the others, and these are 1 + 1 apart.
    assert morph["distinctness"] == pytest.approx(0.75)
    assert morph["detail_dip"] == pytest.approx(0, abs=1e-9)
    mixed = cross_dissolve("a to b", torch.rand(2, 3, 16, 16), perceptual=tools.perceptual, num_frames=10, batch_size=4)
    assert len(mixed.middle) == 2  # an even number of frames: two are nearest to the middle
    assert scores(ghosting, mixed)["distinctness"] == pytest.approx(0, abs=1e-6)


def test_the_nearest_mixture_is_the_nearest():
    a, b, x = torch.randn(3, 3, 8, 8).double()
    (found,) = nearest_mixtures(x[None], a, b)
    candidates = a + torch.linspace(0, 1, 2001).view(-1, 1, 1, 1) * (b - a)
    best = float((candidates - x).square().sum(dim=(1, 2, 3)).min())
    assert best * (1 - 1e-5) <= float((found - x).square().sum()) <= best
    beyond = nearest_mixtures((b + 2 * (b - a))[None], a, b)
    assert torch.allclose(beyond[0], b)


def test_detail_is_what_a_blur_takes_away():
    images = torch.randn(2, 3, 9, 9)
    blurred = convolve1d(convolve1d(images.numpy(), [1, 2, 1], axis=2, mode="mirror"), [1, 2, 1], axis=3, mode="mirror")
    expected = ((images.numpy() - blurred / 16) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(detail_energy(images).numpy(), expected, rtol=1e-5)


def test_flat_or_equal_ends_leave_numbers_out(scores):
    flat = trajectory_of(lambda t: t.view(-1, 1, 1, 1).expand(-1, 3, 8, 8))
    assert set(scores(ghosting, flat)) == {"distinctness"}
    same = trajectory_of(lambda t: torch.eye(8).double().expand(len(t), 3, 8, 8))
    assert set(scores(ghosting, same)) == {"detail_dip"}
    assert scores(ghosting, trajectory_of(straight))["distinctness"] == pytest.approx(0, abs=1e-12)
