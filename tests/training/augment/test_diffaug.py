"""DiffAugment's operations against hand-made pictures, and what they preserve."""

from dataclasses import replace

import pytest
import torch

from wplus.errors import UserError
from wplus.training.augment.diffaug import DiffAugment, Sizes, color, cutout, translation

SIZES = Sizes(translation=0.25, cutout=0.5)
PICTURE = torch.arange(16.0).view(1, 1, 4, 4)


def test_color_by_hand():
    """(x + b - 1/2), then away from or to the grey of each pixel, then from or to the mean of the image."""
    x = torch.rand(2, 3, 4, 4)
    draw = torch.tensor([[0.9, 0.25, 0.75], [0.5, 0.5, 0.5]])
    found = color(x, draw, SIZES)
    y = x[0] + 0.4
    y = (y - y.mean(dim=0)) * 0.5 + y.mean(dim=0)
    torch.testing.assert_close(found[0], (y - y.mean()) * 1.25 + y.mean())
    torch.testing.assert_close(found[1], x[1])  # the middle of all three changes nothing


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        ((0.5, 0.5), PICTURE[0, 0].tolist()),
        ((0.99, 0.5), [[4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [0, 0, 0, 0]]),
        ((0.0, 0.5), [[0, 0, 0, 0], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        ((0.5, 0.0), [[0, 0, 1, 2], [0, 4, 5, 6], [0, 8, 9, 10], [0, 12, 13, 14]]),
        ((0.5, 0.99), [[1, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0], [13, 14, 15, 0]]),
    ],
)
def test_translation_by_hand(draw, expected):
    assert translation(PICTURE, torch.tensor([draw]), SIZES)[0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        ((0.5, 0.5), [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]),
        ((0.0, 0.99), [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]),
        ((0.0, 0.0), [[0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]),
    ],
)
def test_cutout_by_hand(draw, expected):
    assert cutout(torch.ones(1, 1, 4, 4), torch.tensor([draw]), SIZES)[0, 0].tolist() == expected


def test_shifts_and_places_are_uniform():
    draw = torch.rand(4000, 2)
    shown = translation(PICTURE.expand(4000, -1, -1, -1) + 1, draw, SIZES)
    kinds, counts = torch.unique(shown.flatten(1), dim=0, return_counts=True)
    assert len(kinds) == 9
    assert ((counts / 4000 - 1 / 9).abs() < 0.03).all()
    covered = (cutout(torch.ones(4000, 1, 4, 4), draw, SIZES) == 0).float().mean(dim=(0, 1))
    torch.testing.assert_close(covered, covered.t(), rtol=0, atol=0.03)


def test_every_image_for_itself_and_part_by_part():
    augment, images = DiffAugment(), torch.rand(6, 3, 8, 8)
    sampled = augment.sample(images)
    whole = sampled(images)
    for index in (torch.tensor([4, 1]), torch.tensor([0])):
        torch.testing.assert_close(sampled.take(index)(images[index]), whole[index])
    assert not torch.equal(augment.sample(images)(images), whole)


def test_differentiable_twice():
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    sampled = DiffAugment().sample(x)
    sampled = replace(sampled, draws={name: draw.double() for name, draw in sampled.draws.items()})
    assert torch.autograd.gradcheck(lambda x: sampled(x), x)
    assert torch.autograd.gradgradcheck(lambda x: sampled(x).square(), x)


def test_the_policy_decides():
    assert list(DiffAugment("cutout, color").sample(torch.rand(1, 3, 8, 8)).draws) == ["cutout", "color"]
    assert DiffAugment().fingerprint == {"policy": "color,translation,cutout", "translation": 0.125, "cutout": 0.5}
    for policy in ("", "blur", "color,color"):
        with pytest.raises(UserError, match="policy must be some of color,translation,cutout, each once"):
            DiffAugment(policy)
    with pytest.raises(UserError, match="augment.cutout must be"):
        DiffAugment(cutout=1.5)
