"""What things are painted with, wherever they are."""

from __future__ import annotations

from types import MappingProxyType

import torch

from wplus.losses.perceptual import EffNetLite0Distance, PerceptualDistance
from wplus.losses.shape_style import Style


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
    expected = torch.stack([(gram - grams[2]).square().sum() for gram in grams[:2]])
    torch.testing.assert_close(Style(Pixels())(a, b).double(), expected, atol=1e-6, rtol=1e-4)


def test_places_do_not_matter():
    a, style = images(), Style(Pixels())
    shuffled = a.flatten(2)[..., torch.randperm(32 * 32)].view_as(a)
    assert style(a, shuffled).item() < 1e-10
    assert style(a, a.roll(1, dims=1) * torch.tensor([1.0, -1, 1])[:, None, None]).item() > 1e-4


def test_under_a_mask_only_what_is_there_counts():
    a, b, style = images(), images(), Style(Pixels())
    torch.testing.assert_close(style(a, b, torch.ones(1, 1, 32, 32)), style(a, b))
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 0.5
    twice = [torch.cat([image[..., :16], image[..., :16]], dim=3) for image in (a, b)]  # the same statistics, unmasked
    torch.testing.assert_close(style(a, b, mask), style(*twice))
    other = torch.where(mask > 0, a, images())
    torch.testing.assert_close(style(other, b, mask), style(a, b, mask))
    assert style(a, b, mask * 0).item() == 0


def test_with_the_net():
    style, a = Style(EffNetLite0Distance()), images(2).requires_grad_()
    assert style.name == "style_effnet_lite0"
    assert style.provenance["weights"] == style.net.provenance["weights"]
    distances = style(a, images())
    distances.sum().backward()
    assert (distances > 0).all()
    assert torch.isfinite(a.grad).all()
    assert style(a, a).abs().max().item() == 0
