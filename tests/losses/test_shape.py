"""Edges, whatever lies between them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from wplus.losses.shape_style import BLUR, Shape


def disc(colour: tuple[float, ...], size: int = 32, centre: float = 0.5) -> torch.Tensor:
    """A disc of a colour on black."""
    place = (torch.arange(size) + 0.5) / size
    inside = (place[:, None] - 0.5).square() + (place[None] - centre).square() < 0.09
    return torch.tensor(colour)[None, :, None, None] * inside - 0.5


def test_it_is_the_gradient_of_a_gaussian_blur():
    image = torch.rand(1, 1, 64, 64)
    (found,) = Shape().features(image)
    sigma = 64 * BLUR
    smooth = gaussian_filter(image[0, 0].double().numpy(), sigma, mode="nearest", radius=round(3 * sigma))
    right = np.diff(smooth, axis=1, append=smooth[:, -1:]) * sigma
    down = np.diff(smooth, axis=0, append=smooth[-1:]) * sigma
    np.testing.assert_allclose(found[0].numpy(), np.stack([right, down]), atol=1e-6)


def test_brightness_does_not_matter_and_place_does():
    shape, image = Shape(), disc((1.0, 1.0, 1.0))
    assert shape(image, image).item() == 0
    assert shape(image, image + 0.3).item() < 1e-10
    near, far = (shape(image, disc((1.0, 1.0, 1.0), centre=centre)).item() for centre in (0.53, 0.6))
    assert 0 < near < far


def test_colours_of_one_brightness_have_an_edge():
    red, grey = disc((1.0, 0.0, 0.0)), disc((1 / 3, 1 / 3, 1 / 3))
    assert Shape()(red, grey).item() > 0.1 * Shape()(red, disc((0.0, 0.0, 0.0))).item()


def test_size_hardly_matters():
    small, large = (Shape()(disc((1.0,), size), disc((1.0,), size, 0.6)).item() for size in (64, 256))
    assert large == pytest.approx(small, rel=0.1)
    assert Shape()(disc((1.0,), 32), disc((1.0,), 32, 0.6)).item() == pytest.approx(small, rel=0.3)


def test_a_mask_weighs_places():
    shape, a, b = Shape(), torch.rand(2, 3, 32, 32), torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(shape(a, b, torch.ones(1, 1, 32, 32)), shape(a, b))
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 3, 5] = 0.2
    (fa,), (fb,) = shape.features(a), shape.features(b)
    torch.testing.assert_close(shape(a, b, mask), (fa - fb).square().mean(dim=1)[:, 3, 5])


def test_it_has_a_slope_in_both():
    images = [torch.rand(1, 3, 16, 16, requires_grad=True) for _ in range(2)]
    Shape()(*images).sum().backward()
    assert all(torch.isfinite(image.grad).all() and image.grad.abs().sum() > 0 for image in images)
