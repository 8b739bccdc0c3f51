"""Which transforms happen, how often and how strongly, against the published distributions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from wplus.errors import UserError
from wplus.training.augment import operations as matrices
from wplus.training.augment import pipeline as pipeline
from wplus.training.augment.pipeline import FAMILIES, Pipeline, SampledAugment

NUM, SIZE = 4000, 64
ONE = torch.tensor(1.0)


def drawn(name: str, *, p: float = 1.0, num: int = NUM, **strengths: float) -> SampledAugment:
    """Draws for many images in which `name` alone can happen."""
    others = dict.fromkeys(FAMILIES["bgcfnc"], 0.0)
    chosen = Pipeline("bgcfnc", multipliers={**others, name: 1.0}, strengths=strengths)
    return chosen.sample(torch.empty(num, 3, SIZE, SIZE // 2), torch.tensor(p))


def shares(values: torch.Tensor) -> dict[float, float]:
    found, counts = np.unique(values.numpy().round(4), return_counts=True)
    return dict(zip(found.tolist(), (counts / len(values)).tolist(), strict=True))


def follows(values: torch.Tensor, distribution) -> None:
    """Kolmogorov-Smirnov; the seed is fixed, and the level is such that no luck is needed."""
    assert stats.kstest(values.double().numpy(), distribution.cdf).pvalue > 1e-3


# One transform at a time, at p = 1


def test_half_of_the_images_are_flipped_at_p_1():
    assert shares(drawn("xflip").geometry[:, 0, 0]) == {
        -1: pytest.approx(0.5, abs=0.03),
        1: pytest.approx(0.5, abs=0.03),
    }


def test_quarter_turns_are_uniform():
    geometry = drawn("rotate90").geometry
    turns = torch.atan2(geometry[:, 1, 0], geometry[:, 0, 0]) / (math.pi / 2)
    found = shares(turns % 4)
    assert found.keys() == {0, 1, 2, 3}
    assert all(share == pytest.approx(0.25, abs=0.03) for share in found.values())


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


def test_isotropic_scaling_is_log_normal():
    geometry = drawn("scale").geometry
    assert torch.equal(geometry[:, 0, 0], geometry[:, 1, 1])
    follows(geometry[:, 0, 0].log2(), stats.norm(0, 0.2))


def test_anisotropic_scaling_keeps_the_area():
    geometry = drawn("aniso").geometry
    torch.testing.assert_close(geometry[:, 0, 0] * geometry[:, 1, 1], torch.ones(NUM))
    follows(geometry[:, 0, 0].log2(), stats.norm(0, 0.2))


def test_rotation_is_uniform_over_the_whole_turn():
    geometry = drawn("rotate").geometry
    follows(torch.atan2(geometry[:, 1, 0], geometry[:, 0, 0]), stats.uniform(-math.pi, 2 * math.pi))
    torch.testing.assert_close(torch.linalg.det(geometry), torch.ones(NUM))


def test_at_least_one_of_the_two_rotations_happens_with_probability_p():
    geometry = drawn("rotate", p=0.36).geometry
    assert (geometry[:, 1, 0] != 0).float().mean().item() == pytest.approx(0.36, abs=0.025)


def test_fractional_translation_is_normal():
    offsets = drawn("xfrac").geometry[:, :2, 2]
    follows(offsets[:, 0] / (SIZE // 2), stats.norm(0, 0.125))
    follows(offsets[:, 1] / SIZE, stats.norm(0, 0.125))


def test_brightness_and_contrast():
    offset = drawn("brightness").color[:, :3, 3]
    assert torch.equal(offset[:, 0], offset[:, 2])
    follows(offset[:, 0], stats.norm(0, 0.2))
    follows(drawn("contrast").color[:, 1, 1].log2(), stats.norm(0, 0.5))


def test_luma_flip_of_every_second_image():
    traces = drawn("lumaflip").color.diagonal(dim1=1, dim2=2).sum(dim=1)
    assert shares(traces) == {2: pytest.approx(0.5, abs=0.03), 4: pytest.approx(0.5, abs=0.03)}


def test_hue_is_uniform_over_the_whole_turn():
    colour = drawn("hue").color[:, :3, :3]
    first = torch.tensor([1.0, -1.0, 0.0]) / math.sqrt(2)  # two directions across the grey axis
    second = torch.tensor([1.0, 1.0, -2.0]) / math.sqrt(6)
    follows(torch.atan2(colour @ first @ second, colour @ first @ first), stats.uniform(-math.pi, 2 * math.pi))


def test_saturation_is_log_normal():
    colour = drawn("saturation").color
    follows((colour[:, 0, 0] - colour[:, 0, 1]).log2(), stats.norm(0, 1))


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


def test_noise_is_half_normal_in_its_deviation():
    noise = drawn("noise", num=1500).noise
    assert noise.shape == (1500, 3, SIZE, SIZE // 2)
    deviations = noise.std(dim=(1, 2, 3))
    follows(deviations, stats.halfnorm(0, 0.1))


def test_cutout_is_half_the_image_anywhere():
    windows = drawn("cutout", p=0.5).cutout
    assert shares(windows[:, 2]) == {0: pytest.approx(0.5, abs=0.03), 0.5: pytest.approx(0.5, abs=0.03)}
    follows(windows[:, 0], stats.uniform(0, 1))
    follows(windows[:, 1], stats.uniform(0, 1))


def test_what_the_strengths_change():
    follows(drawn("scale", scale_std=0.4).geometry[:, 0, 0].log2(), stats.norm(0, 0.4))
    assert drawn("xint", xint_max=0.5).geometry[:, 1, 2].abs().max() == SIZE / 2


# How often


@pytest.mark.parametrize("name", ["scale", "aniso", "xfrac", "contrast", "hue", "saturation", "brightness"])
def test_a_transform_happens_with_probability_p(name):
    result = drawn(name, p=0.3)
    matrix = result.geometry if result.geometry is not None else result.color
    moved = (matrix != torch.eye(matrix.shape[1])).flatten(1).any(dim=1)
    assert moved.float().mean().item() == pytest.approx(0.3, abs=0.03)


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
    used = {
        "blit": "geometry",
        "geom": "geometry",
        "color": "color",
        "filter": "gains",
        "noise": "noise",
        "cutout": "cutout",
    }
    for family, field in used.items():
        result = Pipeline(family).sample(torch.empty(2, 3, 8, 8), ONE)
        present = {name for name in used.values() if getattr(result, name) is not None}
        assert present == {field}, family


def test_the_order_of_composition(monkeypatch):
    """Later transforms are applied to what the earlier ones left: they stand on the left."""
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
    result = Pipeline("color", multipliers={"brightness": 0, "contrast": 0, "lumaflip": 0}).sample(
        torch.empty(3, 1, 8, 8), ONE
    )
    assert result.color is None
    assert Pipeline("bgcfnc").sample(torch.rand(3, 1, 8, 8), ONE)(torch.rand(3, 1, 8, 8)).shape == (3, 1, 8, 8)


# As a whole


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"transforms": "bcg"}, "transforms must be one of blit, geom, .*, got 'bcg'"),
        ({"multipliers": {"colour": 1}}, "A key of multipliers must be one of xflip, .*, got 'colour'"),
        ({"multipliers": {"hue": -1}}, "multipliers.hue must be .*, got -1"),
        ({"strengths": {"hue": 1}}, "A key of strengths must be one of xint_max, .*, got 'hue'"),
        ({"strengths": {"hue_max": "much"}}, "strengths.hue_max must be .*, got 'much'"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Pipeline(**arguments)


def test_no_constant_is_uploaded_for_a_second_batch(monkeypatch):
    """The host would wait for the device in every phase of every step."""
    images = torch.randn(4, 3, 16, 16)
    Pipeline("bgcfnc").sample(images, ONE)(images)
    for name in ("tensor", "as_tensor", "from_numpy"):
        monkeypatch.setattr(torch, name, lambda *_, **__: pytest.fail("a constant was uploaded"))
    monkeypatch.setattr(torch.Tensor, "new_tensor", lambda *_, **__: pytest.fail("a constant was uploaded"))
    assert Pipeline("bgcfnc").sample(images, ONE)(images).isfinite().all()
