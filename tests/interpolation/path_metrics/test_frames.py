import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

from tests.fakes import dissolve, moving_square, straight, trajectory_of
from wplus.core.images import to_float, to_uint8
from wplus.interpolation.path import PathContext
from wplus.interpolation.path_metrics.frames import (
    crossover,
    detail_energy,
    drift,
    fidelity,
    ghosting,
    nearest_mixtures,
)
from wplus.interpolation.trajectory import cross_dissolve

approx = pytest.approx
FAITHFUL = {"endpoint_squared": 0, "endpoint_psnr_db": 100, "endpoint_miss": 0}


def noise(t):
    """Stored exactly: of 8 bits."""
    pixels = torch.randint(20, 200, (2, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return to_float(pixels).double()[(t > 0.5).long()]


def loud(t):
    """Beyond [-1, 1], and between the 256 values."""
    return 1.5 * torch.sin(9 * noise(t))


ENDS = noise(torch.tensor([0.0, 1.0]))
STORED = to_float(to_uint8(loud(torch.tensor([0.0, 1.0])))).double()
APART, OFF_APART = (float((ENDS[0] - ENDS[1] + more).square().sum()) for more in (0, 0.18))


@pytest.mark.parametrize(
    ("at", "targets", "expected"),
    [
        (noise, ENDS, FAITHFUL),
        (loud, STORED, FAITHFUL),  # the ends are taken as they are stored
        # PSNR: a tenth and a hundredth of the range of 2; the miss: the larger of the two.
        (noise, ENDS + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1),
         {"endpoint_squared": 16 * (0.2**2 + 0.02**2) / 2, "endpoint_psnr_db": (20 + 40) / 2,
          "endpoint_miss": (16 * 0.2**2 / OFF_APART) ** 0.5}),
        # Each end has its own image, and here it is as far from it as the other image is.
        (noise, ENDS.flip(0), {"endpoint_squared": APART, "endpoint_miss": 1}),
    ],
)  # fmt: skip
def test_ends_against_the_images(scores, at, targets, expected):
    found = scores(fidelity, trajectory_of(at, targets=targets))
    assert {name: found[name] for name in expected} == approx(expected, rel=1e-5)


def test_what_is_left_out(line, tools, scores):
    equal = scores(fidelity, trajectory_of(noise, targets=ENDS[[0, 0]]))
    assert set(equal) == {"endpoint_squared", "endpoint_psnr_db"}
    assert scores(fidelity, line) == {}
    assert scores(drift, line, dataclasses.replace(tools, identity=None)) == {}
    flat = trajectory_of(lambda t: t.view(-1, 1, 1, 1).expand(-1, 3, 8, 8))
    assert set(scores(ghosting, flat)) == {"distinctness"}
    same = trajectory_of(lambda t: torch.eye(8).double().expand(len(t), 3, 8, 8))
    assert set(scores(ghosting, same)) == {"detail_dip"}


def turned(angles):
    """Images whose descriptors are unit vectors of a plane at these angles."""
    images = torch.zeros(len(angles), 1, 4, 4, dtype=torch.float64)
    images[:, 0, 0, 0], images[:, 0, 3, 3] = torch.cos(angles), torch.sin(angles)
    return images


def out_of_the_plane(t):
    """And back: half way it is orthogonal to both ends."""
    out = torch.sin(math.pi * t).view(-1, 1, 1, 1)
    images = turned(t * math.pi / 2) * (1 - out)
    images[:, 0, 1, 1] = out.flatten()
    return images


@pytest.mark.parametrize(
    ("at", "num_frames", "expected"),
    [
        (lambda t: turned(t * math.pi / 2), 33,
         {"third_person": math.cos(math.pi / 4), "backwards": 0, "backtrack": 0, "crossover": 0.5}),
        (out_of_the_plane, 33, {"third_person": 0}),  # somebody else
        # There, a third back, there: s_a rises once, s_b falls once, in 3 steps each.
        (lambda t: turned(torch.tensor([0.0, 90, 30, 90]).deg2rad().double()), 4,
         {"backwards": 2 / 6, "backtrack": (math.cos(math.radians(30)) + 1 - math.sin(math.radians(30))) / 2}),
    ],
)  # fmt: skip
def test_ways_between_two_descriptors(scores, at, num_frames, expected):
    way = trajectory_of(at, num_frames)
    found = scores(drift, way)
    assert {name: found[f"{name}_cosine"] for name in expected} == approx(expected, abs=1e-6)
    for name, end in (("similarity_a", 0), ("similarity_b", -1)):
        vectors = torch.nn.functional.normalize(way.images.flatten(1), dim=1)
        torch.testing.assert_close(way.along[name], vectors @ vectors[end])


@pytest.mark.parametrize(
    ("lead", "expected"), [([-1, -1, -1, 3, 4], 0.5 + 0.25 / 4), ([-1, -1, 0, 3, 4], 0.5), ([-1] * 5, 1), ([1] * 5, 0)]
)
def test_crossover_between_frames(lead, expected):
    assert crossover(torch.linspace(0, 1, 5), torch.tensor(lead)) == approx(expected)


@pytest.mark.parametrize(
    ("way", "distinctness", "dip"),
    [
        # A dissolve of unrelated ends: a quarter of the energy of each.
        (trajectory_of(dissolve), approx(0, abs=1e-12), approx(0.5, abs=0.02)),
        # Three squares: the middle one is 1 + 1/4 + 1/4 from the mixture of the others, and these are 1 + 1 apart.
        (trajectory_of(moving_square), approx(0.75), approx(0, abs=1e-9)),
        (trajectory_of(straight), approx(0, abs=1e-12), approx(0, abs=1)),
    ],
)
def test_a_dissolve_is_the_worst_and_a_morph_is_none(scores, way, distinctness, dip):
    assert scores(ghosting, way) == {"distinctness": distinctness, "detail_dip": dip}


def test_of_an_even_number_of_frames_two_are_half_way(tools, scores):
    mixed = cross_dissolve("a to b", torch.rand(2, 3, 16, 16), PathContext(None, tools.perceptual, num_frames=10))
    assert len(mixed.middle) == 2
    assert scores(ghosting, mixed)["distinctness"] == approx(0, abs=1e-6)


def test_the_nearest_mixture_is_the_nearest():
    a, b, x = torch.randn(3, 3, 8, 8).double()
    (found,) = nearest_mixtures(x[None], a, b)
    candidates = a + torch.linspace(0, 1, 2001).view(-1, 1, 1, 1) * (b - a)
    best = float((candidates - x).square().sum(dim=(1, 2, 3)).min())
    assert best * (1 - 1e-5) <= float((found - x).square().sum()) <= best
    torch.testing.assert_close(nearest_mixtures((b + 2 * (b - a))[None], a, b)[0], b)


def test_detail_is_what_a_blur_takes_away():
    images = torch.randn(2, 3, 9, 9)
    blurred = convolve1d(convolve1d(images.numpy(), [1, 2, 1], axis=2, mode="mirror"), [1, 2, 1], axis=3, mode="mirror")
    expected = ((images.numpy() - blurred / 16) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(detail_energy(images).numpy(), expected, rtol=1e-5)
