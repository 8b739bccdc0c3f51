"""Discriminator logits of three kinds of images; estimates against closed forms and repeated draws."""

from functools import partial

import numpy as np
import pytest
import torch

from tests.probes.conftest import make_images, numbers
from wplus.losses.adversarial import (
    critic_generator,
    least_squares_generator,
    minimax_generator,
    nonsaturating_generator,
    relativistic_generator,
)
from wplus.probes.logits import histograms, logits, mean_sign_estimate, overfitting_estimate, slope_estimate
from wplus.probes.quality import Estimate

BLUE, GREEN, ORANGE = (31, 111, 180), (58, 143, 77), (209, 98, 43)


def has(picture: torch.Tensor, colour: tuple[int, int, int]) -> bool:
    return bool((picture == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(dim=0).any())


def test_numbers_and_histograms_are_those_of_the_context(context):
    here = context(held_out=make_images(24))
    result = logits(here, num_images=32)
    for kind, num in {"train": 32, "held_out": 24, "generated": 32}.items():
        expected = here.logits(kind, 32)
        assert torch.equal(result.histograms[f"probe/logits/{kind}"], expected)
        assert len(expected) == num
        assert numbers(result)[f"probe/logits/{kind}_mean"] == pytest.approx(float(expected.mean()))
    assert "held-out images" in result.values["probe/logits/held_out_mean"][1].meaning
    assert all(has(result.pictures[0].image, colour) for colour in (BLUE, GREEN, ORANGE))
    without = logits(context(), num_images=8)
    assert without.histograms.keys() == {"probe/logits/train", "probe/logits/generated"}
    assert not has(without.pictures[0].image, GREEN)


def test_a_lost_discriminator_is_drawn_too():
    assert histograms({"train": torch.tensor([float("nan")] * 3), "generated": torch.ones(3)}).shape == (3, 360, 640)
    assert histograms({"train": torch.full((3,), float("nan"))}).dtype == torch.uint8


# --- estimates --------------------------------------------------------------------------------------------------------


def around(mean: float, num: int, seed: int) -> torch.Tensor:
    return mean + torch.randn(num, 16, generator=torch.Generator().manual_seed(seed))[:, 0]


def test_rv_is_0_without_overfitting_and_1_when_held_out_images_pass_for_generated_ones():
    train, generated = around(5, 400, 0), around(-5, 400, 1)
    found = partial(overfitting_estimate, train, generated=generated)
    same, none = found(around(5, 400, 2)), found(around(-5, 400, 3))
    assert abs(same.value) < 3 * same.error < 0.05
    assert abs(none.value - 1) < 3 * none.error < 0.05
    assert found(around(0, 400, 2)).value == pytest.approx(0.5, abs=0.03)


def test_the_error_of_rv_is_that_of_repeated_draws():
    def draw(seed: int) -> Estimate:
        train, held_out, generated = (around(mean, 60, 3 * seed + i) for i, mean in enumerate((4, 3, 0)))
        return overfitting_estimate(train, held_out, generated)

    draws = [draw(seed) for seed in range(300)]
    assert np.mean([found.error for found in draws]) == pytest.approx(np.std([found.value for found in draws]), rel=0.1)


def test_training_images_that_were_all_asked_leave_no_error():
    train, held_out, generated = (around(mean, 400, seed) for seed, mean in enumerate((4, 3, 0)))
    found = partial(overfitting_estimate, train, held_out, generated)
    of_many, of_all = found(), found(num_train=400)
    assert of_many.value == of_all.value
    margin, r_v = float(train.mean() - generated.mean()), of_all.value
    assert of_all.error == pytest.approx(
        np.hypot(float(held_out.std()), r_v * float(generated.std())) / 20 / margin, rel=1e-5
    )
    assert found(num_train=10**9).error == pytest.approx(of_many.error)


@pytest.mark.parametrize("means", [(0, 0, 0), (0.5, 0.2, 0.1)])
def test_without_a_margin_there_is_no_rv_and_who_is_losing_is_not_overfitted(means):
    train, held_out, generated = (around(mean, 400, seed) for seed, mean in enumerate(means))
    assert overfitting_estimate(train, held_out, generated) is None
    found, margin = overfitting_estimate(train, held_out, generated - 3), means[0] - means[2] + 3
    assert found.value == pytest.approx((means[0] - means[1]) / margin, abs=0.05)


def test_rt_is_the_mean_sign():
    assert mean_sign_estimate(torch.tensor([1.0, 2.0, 3.0, -1.0])).value == 0.5


@pytest.mark.parametrize(
    ("loss", "fake", "real", "expected"),
    [
        (minimax_generator, -4, 4, 2 / (1 + np.exp(4.0))),  # sigmoid(-4), over sigmoid(0): flat where D is sure
        (nonsaturating_generator, -4, 4, 2 / (1 + np.exp(-4.0))),
        (critic_generator, -4, 4, 1.0),
        (relativistic_generator, -1, 1, 2 / (1 + np.exp(-2.0))),  # of pairs
        (least_squares_generator, 0, 1, 2),  # 1 at generated images, 1/2 where they meet real ones
    ],
)
def test_slopes_are_over_those_in_the_middle_between_the_two_kinds_of_logits(loss, fake, real, expected):
    with torch.no_grad():  # as probes run
        found = slope_estimate(
            loss, torch.full((8,), float(fake)), torch.full((8,), float(real)),
            compares=loss is relativistic_generator,
        )  # fmt: skip
    assert found.value == pytest.approx(expected)
    assert found.error == pytest.approx(0, abs=1e-12)
