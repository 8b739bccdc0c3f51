"""Which transforms are applied, how often and how strongly, against the published distributions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from wplus.training.augment import operations as matrices
from wplus.training.augment import pipeline
from wplus.training.augment.pipeline import FAMILIES, Pipeline, SampledAugment

NUM, SIZE = 4000, 64
ONE = torch.tensor(1.0)


def drawn(name: str, *, p: float = 1.0, num: int = NUM, **strengths: float) -> SampledAugment:
    """Random draws for many images in which only `name` can happen."""
    others = dict.fromkeys(FAMILIES["bgcfnc"], 0.0)
    chosen = Pipeline("bgcfnc", multipliers={**others, name: 1.0}, strengths=strengths)
    return chosen.sample(torch.empty(num, 3, SIZE, SIZE // 2), torch.tensor(p))


def shares(values: torch.Tensor) -> dict[float, float]:
    found, counts = np.unique(values.numpy().round(4), return_counts=True)
    return dict(zip(found.tolist(), (counts / len(values)).tolist(), strict=True))


def follows(values: torch.Tensor, distribution) -> None:
    """Kolmogorov-Smirnov test; the seed is fixed, and the level leaves no room for chance."""
    assert stats.kstest(values.double().numpy(), distribution.cdf).pvalue > 1e-3


# --- one transform at a time, at p = 1 ------------------------------------------------------------------------------


def turn(matrix: torch.Tensor) -> torch.Tensor:
    """Rotation angle of a transform."""
    return torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])


def hue(color: torch.Tensor) -> torch.Tensor:
    """Angle around the grey axis."""
    first = torch.tensor([1.0, -1.0, 0.0]) / math.sqrt(2)  # two directions across it
    second = torch.tensor([1.0, 1.0, -2.0]) / math.sqrt(6)
    return torch.atan2(color[:, :3, :3] @ first @ second, color[:, :3, :3] @ first @ first)


WHOLE_TURN = stats.uniform(-math.pi, 2 * math.pi)
DISTRIBUTIONS = [
    ("scale", {}, lambda d: d.geometry[:, 0, 0].log2(), stats.norm(0, 0.2)),
    ("scale", {"scale_std": 0.4}, lambda d: d.geometry[:, 0, 0].log2(), stats.norm(0, 0.4)),
    ("aniso", {}, lambda d: d.geometry[:, 0, 0].log2(), stats.norm(0, 0.2)),
    ("rotate", {}, lambda d: turn(d.geometry), WHOLE_TURN),
    ("xfrac", {}, lambda d: d.geometry[:, 0, 2] / (SIZE // 2), stats.norm(0, 0.125)),
    ("xfrac", {}, lambda d: d.geometry[:, 1, 2] / SIZE, stats.norm(0, 0.125)),
    ("brightness", {}, lambda d: d.color[:, 2, 3], stats.norm(0, 0.2)),
    ("contrast", {}, lambda d: d.color[:, 1, 1].log2(), stats.norm(0, 0.5)),
    ("hue", {}, lambda d: hue(d.color), WHOLE_TURN),
    ("saturation", {}, lambda d: (d.color[:, 0, 0] - d.color[:, 0, 1]).log2(), stats.norm(0, 1)),
    ("cutout", {}, lambda d: d.cutout[:, 0], stats.uniform(0, 1)),
    ("cutout", {}, lambda d: d.cutout[:, 1], stats.uniform(0, 1)),
    ("noise", {"num": 1500}, lambda d: d.noise.std(dim=(1, 2, 3)), stats.halfnorm(0, 0.1)),
]


@pytest.mark.parametrize(("name", "strengths", "values", "distribution"), DISTRIBUTIONS)
def test_strengths_have_the_published_distributions(name, strengths, values, distribution):
    follows(values(drawn(name, **strengths)), distribution)


SHARES = [
    ("xflip", 1.0, lambda d: d.geometry[:, 0, 0], {-1: 0.5, 1: 0.5}),
    ("rotate90", 1.0, lambda d: turn(d.geometry) / (math.pi / 2) % 4, {0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25}),
    ("lumaflip", 1.0, lambda d: d.color.diagonal(dim1=1, dim2=2).sum(dim=1), {2: 0.5, 4: 0.5}),
    ("cutout", 0.5, lambda d: d.cutout[:, 2], {0: 0.5, 0.5: 0.5}),
    # At least one of the two rotations happens with probability p.
    ("rotate", 0.36, lambda d: (d.geometry[:, 1, 0] != 0).float(), {0: 0.64, 1: 0.36}),
    *((name, 0.3, lambda d: (d.geometry != torch.eye(3)).flatten(1).any(dim=1).float(), {0: 0.7, 1: 0.3})
      for name in ("scale", "aniso", "xfrac")),
    *((name, 0.3, lambda d: (d.color != torch.eye(4)).flatten(1).any(dim=1).float(), {0: 0.7, 1: 0.3})
      for name in ("contrast", "hue", "saturation", "brightness")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "p", "values", "expected"), SHARES)
def test_a_transform_happens_as_often_as_it_is_published(name, p, values, expected):
    found = shares(values(drawn(name, p=p)))
    assert found.keys() == expected.keys()
    assert list(found.values()) == pytest.approx([expected[value] for value in found], abs=0.03)


def test_quarter_turns_of_any_number_and_exactly():
    found = matrices.quarter_turns(torch.arange(-4.0, 8.0))
    for turns, matrix in enumerate(found):
        cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns % 4]
        assert matrix.tolist() == [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]


def test_integer_translation_is_whole_and_uniform():
    x, y = drawn("xint").geometry[:, :2, 2].unbind(dim=1)
    for values, size in ((x, SIZE // 2), (y, SIZE)):
        assert torch.equal(values, values.round())
        assert values.abs().max() == size / 8
        assert values.std().item() == pytest.approx(size / 8 / math.sqrt(3), rel=0.06)
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.06
    assert drawn("xint", xint_max=0.5).geometry[:, 1, 2].abs().max() == SIZE / 2


def test_what_transforms_keep():
    scaled, stretched, color = drawn("scale").geometry, drawn("aniso").geometry, drawn("brightness").color
    assert torch.equal(scaled[:, 0, 0], scaled[:, 1, 1])
    torch.testing.assert_close(stretched[:, 0, 0] * stretched[:, 1, 1], torch.ones(NUM))
    torch.testing.assert_close(torch.linalg.det(drawn("rotate").geometry), torch.ones(NUM))
    assert torch.equal(color[:, 0, 3], color[:, 2, 3])


def test_filters_keep_the_power_of_an_average_image():
    gains = drawn("imgfilter").gains
    power = (torch.tensor(pipeline.IMAGE_POWER) * gains.square()).sum(dim=1)
    # Each band's factor is normalised by itself, as published: what the product then has is near 1, not 1.
    assert 0.9 < power.median() < 1.1
    few = drawn("imgfilter", p=0.2).gains
    untouched = (few == 1).all(dim=1).float().mean().item()
    assert untouched == pytest.approx(0.8**4, abs=0.03)
    one_band = few[(few[:, 1] == few[:, 0]) & (few[:, 2] == few[:, 0]) & (few[:, 3] != few[:, 0])]
    follows((one_band[:, 3] / one_band[:, 0]).log2(), stats.norm(0, 1))
    alone = (torch.tensor(pipeline.IMAGE_POWER) * one_band.square()).sum(dim=1)
    torch.testing.assert_close(alone, torch.ones_like(alone))


def test_multipliers_are_factors_of_p_and_end_at_1():
    half = Pipeline("color", multipliers={"hue": 0.5, "contrast": 0, "brightness": 0, "lumaflip": 0, "saturation": 0})
    moved = (half.sample(torch.empty(NUM, 3, 8, 8), torch.tensor(0.6)).color[:, 0, 1] != 0).float().mean().item()
    assert moved == pytest.approx(0.3, abs=0.03)
    half.multipliers["hue"] = 5.0
    assert (half.sample(torch.empty(NUM, 3, 8, 8), torch.tensor(0.6)).color[:, 0, 1] != 0).all()
    turned = Pipeline("geom", multipliers={"rotate": 5.0, "scale": 0, "aniso": 0, "xfrac": 0})
    assert (turned.sample(torch.empty(NUM, 3, 8, 8), torch.tensor(0.6)).geometry[:, 0, 1] != 0).all()


def test_the_families_are_the_published_ones():
    geometric = ("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac")
    colour = ("brightness", "contrast", "lumaflip", "hue", "saturation")
    assert FAMILIES["blit"] + FAMILIES["geom"] == FAMILIES["bg"] == geometric
    assert FAMILIES["color"] == colour
    assert FAMILIES["bgc"] == geometric + colour
    assert FAMILIES["bgcf"] == FAMILIES["bgc"] + ("imgfilter",)
    assert FAMILIES["bgcfn"] == FAMILIES["bgcf"] + ("noise",)
    assert FAMILIES["bgcfnc"] == FAMILIES["bgcfn"] + ("cutout",)
    used = {"blit": "geometry", "geom": "geometry", "color": "color", "filter": "gains", "noise": "noise"}
    used["cutout"] = "cutout"
    for family, field in used.items():
        result = Pipeline(family).sample(torch.empty(2, 3, 8, 8), ONE)
        present = {name for name in used.values() if getattr(result, name) is not None}
        assert present == {field}, family


def test_the_order_of_composition(monkeypatch):
    """Later transforms are applied to the results of earlier ones, so they are on the left."""
    assert [name for name, _ in pipeline.GEOMETRIC] == [
        "xflip", "rotate90", "xint", "scale", "rotate", "aniso", "rotate", "xfrac",
    ]  # fmt: skip
    assert [name for name, _ in pipeline.COLOR] == ["brightness", "contrast", "lumaflip", "hue", "saturation"]
    fixed = torch.randn(8, 1, 3, 3)
    steps = tuple((name, lambda rng, s, m=m: m) for (name, _), m in zip(pipeline.GEOMETRIC, fixed, strict=True))
    monkeypatch.setattr(pipeline, "GEOMETRIC", steps)
    expected = torch.eye(3)
    for matrix in fixed[:, 0]:
        expected = matrix @ expected
    found = Pipeline("bg").sample(torch.empty(1, 3, 8, 8), ONE).geometry[0]
    torch.testing.assert_close(found, expected)


def test_operations_come_in_the_published_order():
    images = torch.rand(2, 3, 16, 16)
    whole = Pipeline("bgcfnc").sample(images, ONE)
    step = images
    for field in ("geometry", "color", "gains", "noise", "cutout"):
        step = SampledAugment(strength=ONE, **{field: getattr(whole, field)})(step)
    assert torch.equal(whole(images), step)


def test_grey_images_have_no_hue():
    none = Pipeline("color", multipliers={"brightness": 0, "contrast": 0, "lumaflip": 0})
    assert none.sample(torch.empty(3, 1, 8, 8), ONE).color is None
    assert Pipeline("bgcfnc").sample(torch.rand(3, 1, 8, 8), ONE)(torch.rand(3, 1, 8, 8)).shape == (3, 1, 8, 8)


# --- as a whole -----------------------------------------------------------------------------------------------------


def test_p_0_is_exactly_the_identity_and_has_its_gradient():
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    result = Pipeline("bgcfnc").sample(images, torch.tensor(0.0))(images)
    assert torch.equal(result, images)
    factor = torch.randn_like(images)
    assert torch.equal(torch.autograd.grad((result * factor).sum(), images)[0], factor)


def test_micro_batches_get_what_the_batch_would():
    images = torch.randn(8, 3, 16, 16)
    whole = Pipeline("bgcfnc").sample(images, torch.tensor(0.8))
    for part in (torch.tensor([0, 5]), torch.tensor([7, 1, 2, 3])):
        torch.testing.assert_close(whole.take(part)(images[part]), whole(images)[part])


def test_the_same_seed_draws_the_same():
    def result(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return Pipeline("bgcfnc").sample(torch.ones(4, 3, 16, 16), ONE)(torch.ones(4, 3, 16, 16))

    assert torch.equal(result(1), result(1))
    assert not torch.equal(result(1), result(2))


def test_a_later_change_of_p_does_not_reach_a_batch_that_was_drawn():
    strength = torch.tensor(1.0)
    images = torch.randn(2, 3, 16, 16)
    result = Pipeline("bgc").sample(images, strength)
    strength.zero_()
    assert not torch.equal(result(images), images)


def test_the_whole_can_be_differentiated_twice():
    images = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    view = Pipeline("bgcfnc").sample(images, ONE)
    assert torch.autograd.gradgradcheck(lambda x: view(x).tanh(), images, fast_mode=True)


def test_no_constant_is_uploaded_for_a_second_batch(monkeypatch):
    """Otherwise the host would wait for the device in every phase of every step."""
    images = torch.randn(4, 3, 16, 16)
    Pipeline("bgcfnc").sample(images, ONE)(images)
    for name in ("tensor", "as_tensor", "from_numpy"):
        monkeypatch.setattr(torch, name, lambda *_, **__: pytest.fail("a constant was uploaded"))
    monkeypatch.setattr(torch.Tensor, "new_tensor", lambda *_, **__: pytest.fail("a constant was uploaded"))
    assert Pipeline("bgcfnc").sample(images, ONE)(images).isfinite().all()
