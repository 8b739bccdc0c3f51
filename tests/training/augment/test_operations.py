"""Operations on images against slow references, image by image, in numpy and scipy; and their second derivatives."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from wplus.training.augment import operations
from wplus.training.augment import operations as matrices
from wplus.training.augment.filters import SYM6, band_filters

MARGIN = 60


def resampled(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """One channel (S, S) through G = `matrix`: reflected far beyond its border, upsampled, sampled, downsampled."""
    size = len(image)
    delay = float((np.arange(12) * SYM6).sum() / np.sum(SYM6))
    wide = np.pad(image, MARGIN, mode="reflect")
    for axis in (0, 1):
        spread = np.zeros([2 * n if a == axis else n for a, n in enumerate(wide.shape)])
        spread[(slice(None, None, 2), slice(None)) if axis == 0 else (slice(None), slice(None, None, 2))] = wide
        wide = math.sqrt(2) * np.apply_along_axis(np.convolve, axis, spread, SYM6)
    steps = (np.arange(2 * size + 10) - delay) / 2 - (size - 1) / 2  # of the finer output, from the centre
    x, y = np.meshgrid(steps, steps)
    sources = np.linalg.inv(matrix) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    places = 2 * (sources[[1, 0]] + (size - 1) / 2 + MARGIN) + delay
    fine = ndimage.map_coordinates(wide, places, order=1).reshape(x.shape)
    for axis in (0, 1):
        fine = math.sqrt(0.5) * np.apply_along_axis(np.correlate, axis, fine, SYM6, "valid")
        fine = fine[::2] if axis == 0 else fine[:, ::2]
    return fine


def smooth(num: int, channels: int, size: int) -> Tensor:
    coarse = torch.randn(num, channels, size // 4, size // 4, dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")


def affine(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array([*rows, (0.0, 0.0, 1.0)])


def warped(images: Tensor, matrix: np.ndarray) -> np.ndarray:
    return operations.warp(images, torch.from_numpy(matrix).expand(len(images), 3, 3)).numpy()


INSIDE = [affine((1.5, 0.2, 0.7), (-0.3, 1.4, -1.2)), affine((0.3, -1.6, 0.2), (1.7, 0.1, 1.0)), np.eye(3)]
BEYOND = [affine((0.5, 0.2, 3.7), (-0.1, 0.6, -9.0)), affine((1.0, 0.0, 40.0), (0.0, 1.0, -13.3))]


@pytest.mark.parametrize("matrix", INSIDE)
def test_a_warp_that_stays_inside_is_that_of_the_reference(matrix):
    images = torch.randn(1, 2, 16, 16, dtype=torch.float64)
    for channel in range(2):
        expected = resampled(images[0, channel].numpy(), matrix)
        np.testing.assert_allclose(warped(images, matrix)[0, channel], expected, atol=1e-7)


@pytest.mark.parametrize("matrix", BEYOND)
def test_beyond_the_border_the_image_is_reflected_as_often_as_it_takes(matrix):
    """The filter is slightly asymmetric, and folding mirrors it: close on smooth images, but not equal."""
    images = smooth(1, 1, 16)
    expected = resampled(images[0, 0].numpy(), matrix)
    found = warped(images, matrix)[0, 0]
    assert np.abs(found - expected).max() < 0.06 * images.abs().max()
    assert np.abs(found - expected).mean() < 0.01 * images.abs().max()


def test_each_image_has_its_own_matrix():
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    both = torch.from_numpy(np.stack(INSIDE[:2]))
    found = operations.warp(images, both)
    for index in range(2):
        torch.testing.assert_close(
            found[index : index + 1], operations.warp(images[index : index + 1], both[index, None])
        )


# What pixel blits are, up to the filter's slight asymmetry


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (matrices.scaling(-torch.ones(1), torch.ones(1)), lambda x: x.flip(3)),
        (matrices.quarter_turns(torch.ones(1)), lambda x: x.rot90(-1, (2, 3))),  # x to the right turns to y down
        (matrices.quarter_turns(torch.full((1,), 2.0)), lambda x: x.rot90(2, (2, 3))),
    ],
)
def test_flips_and_quarter_turns(matrix, expected):
    images = smooth(1, 3, 32)
    found = operations.warp(images, matrix)
    assert (found - expected(images)).abs().max() < 0.03 * images.abs().max()
    assert (found - images).abs().max() > 0.3 * images.abs().max()


def test_integer_translation_is_exact_and_goes_right_and_down():
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    found = operations.warp(images, matrices.translation(torch.full((1,), 4.0), torch.full((1,), 3.0)))
    torch.testing.assert_close(found[..., 9:, 10:], images[..., 6:-3, 6:-4], rtol=0, atol=1e-10)


def test_four_quarter_turns_are_the_identity():
    turn = matrices.quarter_turns(torch.ones(1))
    assert torch.equal(turn @ turn @ turn @ turn, torch.eye(3)[None])
    images = smooth(1, 3, 32)
    torch.testing.assert_close(operations.warp(images, turn @ turn @ turn @ turn), images, rtol=0, atol=1e-10)


def test_images_need_not_be_square():
    images = torch.randn(1, 1, 12, 20, dtype=torch.float64)
    found = operations.warp(images, matrices.translation(torch.full((1,), 5.0), torch.zeros(1)))
    torch.testing.assert_close(found[..., 11:], images[..., 6:-5], rtol=0, atol=1e-10)


# Colour


def test_hue_turns_around_the_grey_axis():
    angle = 0.7
    expected = Rotation.from_rotvec(angle * np.ones(3) / math.sqrt(3)).as_matrix()
    found = matrices.hue_rotation(torch.tensor([angle]))[0]
    np.testing.assert_allclose(found[:3, :3], expected, atol=1e-6)
    assert torch.equal(found[3], torch.tensor([0.0, 0.0, 0.0, 1.0]))


def test_colour_matrices_do_to_a_pixel_what_they_say():
    pixel = np.array([0.3, -0.5, 0.8])
    grey = np.full(3, pixel.mean())
    one = torch.ones(1)
    cases = {
        "brightness": (matrices.translation(0.2 * one, 0.2 * one, 0.2 * one), pixel + 0.2),
        "contrast": (matrices.scaling(1.5 * one, 1.5 * one, 1.5 * one), pixel * 1.5),
        "luma flip": (matrices.luma_flip(one), pixel - 2 * grey),
        "no luma flip": (matrices.luma_flip(0 * one), pixel),
        "saturation": (matrices.saturation(1.7 * one), grey + 1.7 * (pixel - grey)),
        "no colour": (matrices.saturation(0 * one), grey),
        "third of a turn": (matrices.hue_rotation(one * 2 * math.pi / 3), np.roll(pixel, 1)),
    }
    image = torch.from_numpy(pixel)[None, :, None, None].expand(1, 3, 4, 5)
    for name, (matrix, expected) in cases.items():
        found = operations.recolor(image, matrix)
        assert found.shape == image.shape
        np.testing.assert_allclose(found[0, :, 2, 3], expected, atol=1e-6, err_msg=name)


def test_grey_images_are_recolored_as_their_colours_would_be():
    grey = torch.randn(3, 1, 4, 4)
    some = torch.randn(3, 4, 4)
    expected = operations.recolor(grey.expand(-1, 3, -1, -1), some).mean(dim=1, keepdim=True)
    torch.testing.assert_close(operations.recolor(grey, some), expected)


# Filter and cutout


@pytest.mark.parametrize("size", [8, 48])
def test_bands_are_filters_over_a_mirrored_image(size):
    images = torch.randn(2, 2, size, size + 4, dtype=torch.float64)
    gains = torch.rand(2, 4, dtype=torch.float64) * 2
    found = operations.filter_bands(images, gains)
    for image, gain, result in zip(images, gains, found, strict=True):
        kernel = gain.numpy() @ band_filters()
        for channel in range(2):
            expected = ndimage.convolve1d(image[channel].numpy(), kernel, axis=0, mode="mirror")
            expected = ndimage.convolve1d(expected, kernel, axis=1, mode="mirror")
            np.testing.assert_allclose(result[channel], expected, atol=1e-10)


def test_a_window_is_cut_out():
    images = torch.ones(3, 2, 16, 16)
    found = operations.cut_out(images, torch.tensor([[0.5, 0.25, 0.5], [0.0, 1.0, 0.5], [0.3, 0.6, 0.0]]))
    expected = torch.ones(3, 16, 16)
    expected[0, 0:8, 4:12] = 0
    expected[1, 12:16, 0:4] = 0
    assert torch.equal(found, expected[:, None].expand(-1, 2, -1, -1))


# Derivatives


def test_every_operation_can_be_differentiated_twice():
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    some = torch.eye(3, dtype=torch.float64) + 0.2 * torch.randn(2, 3, 3, dtype=torch.float64)
    some[:, 2] = torch.tensor([0.0, 0.0, 1.0])
    steps = {
        "warp": lambda x: operations.warp(x, some),
        "recolor": lambda x: operations.recolor(x, torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))),
        "bands": lambda x: operations.filter_bands(x, torch.tensor([[0.5, 2.0, 1.0, 1.5]]).expand(2, 4)),
        "cutout": lambda x: operations.cut_out(x, torch.tensor([[0.5, 0.25, 0.5]]).expand(2, 3)),
    }
    for name, step in steps.items():
        curved = lambda x, step=step: step(x).tanh()
        assert torch.autograd.gradcheck(curved, images, fast_mode=True), name
        assert torch.autograd.gradgradcheck(curved, images, fast_mode=True), name
