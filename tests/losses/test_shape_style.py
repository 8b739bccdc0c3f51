"""Shape: edges, regardless of what lies between; style: textures, regardless of position."""

from types import MappingProxyType

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from wplus.losses.perceptual import PerceptualDistance
from wplus.losses.shape_style import BLUR, Shape, Style


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
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 3, 5] = 0.2
    (fa,), (fb,) = shape.features(a), shape.features(b)
    torch.testing.assert_close(shape(a, b, mask), (fa - fb).square().mean(dim=1)[:, 3, 5])


# Style


class Pixels(PerceptualDistance):
    """Features are the colours."""

    name = "pixels"
    provenance = MappingProxyType({"name": "pixels"})

    def _feature_maps(self, images):
        return [images]


def images(num: int = 1) -> torch.Tensor:
    return torch.rand(num, 3, 32, 32) - 0.5


def test_it_is_the_difference_of_mean_outer_products():
    a, b = images(2), images(1)
    grams = []
    for image in (*a, *b):
        vectors = torch.nn.functional.normalize(image.double().flatten(1).T, dim=1)
        grams.append(sum(torch.outer(vector, vector) for vector in vectors) / len(vectors))
    expected, style = torch.stack([(gram - grams[2]).square().sum() for gram in grams[:2]]), Style(Pixels())
    torch.testing.assert_close(style(a, b).double(), expected, atol=1e-6, rtol=1e-4)
    assert (style.name, style.provenance["name"]) == ("style_pixels", "style_pixels")


def test_under_a_mask_only_what_is_there_counts():
    a, b, style = images(), images(), Style(Pixels())
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 0.5
    twice = [torch.cat([image[..., :16], image[..., :16]], dim=3) for image in (a, b)]  # the same statistics, unmasked
    torch.testing.assert_close(style(a, b, mask), style(*twice))
