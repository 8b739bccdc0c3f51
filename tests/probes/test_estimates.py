"""Numbers of one moment: closed forms, and errors that are those of repeated draws."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from wplus.losses.adversarial import (
    critic_generator,
    least_squares_generator,
    minimax_generator,
    nonsaturating_generator,
    relativistic_generator,
)
from wplus.probes import estimates
from wplus.probes.estimates import Estimate


def normal(num: int, seed: int, *, scale: float = 1.0, dim: int = 16) -> torch.Tensor:
    return scale * torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))


def test_over_is_division_with_both_errors():
    found = Estimate(2.0, 0.3).over(Estimate(4.0, 0.2))
    assert found.value == 0.5
    assert found.error == pytest.approx(0.5 * np.hypot(0.3 / 2, 0.2 / 4))
    assert Estimate(0.0, 0.1).over(Estimate(2.0, 0.5)) == Estimate(0.0, 0.05)


def test_diversity_is_1_for_equal_sets_0_for_one_image_and_linear():
    real = normal(50, 0)
    assert estimates.diversity(real, real).value == 1
    assert estimates.diversity(real[:1].expand(50, -1), real) == Estimate(0.0, 0.0)
    assert estimates.diversity(3 * real, real).value == pytest.approx(3)
    assert estimates.diversity(real, real[:1].expand(50, -1)) is None


def test_the_error_of_diversity_is_that_of_repeated_draws():
    draws = [estimates.mean_distance(estimates.distances(normal(40, seed, dim=3))) for seed in range(300)]
    spread = np.std([draw.value for draw in draws], ddof=1)
    assert np.mean([draw.error for draw in draws]) == pytest.approx(spread, rel=0.1)


def test_the_jackknife_is_that_of_leaving_images_out():
    rows = normal(12, 1)
    left = [float(torch.nn.functional.pdist(rows[torch.arange(12) != i].double()).mean()) for i in range(12)]
    expected = np.sqrt(11 / 12 * np.sum((np.array(left) - np.mean(left)) ** 2))
    assert estimates.mean_distance(estimates.distances(rows)).error == pytest.approx(expected)


@pytest.mark.parametrize("num_kinds", [1, 4, 20])
def test_distinct_counts_the_kinds_that_there_are(num_kinds):
    real = normal(200, 0)
    kinds = normal(num_kinds, 1)[torch.arange(200) % num_kinds] + 0.01 * normal(200, 2)
    found = estimates.distinct(kinds, real)
    kept = estimates.num_distinct(estimates.distances(real), _reach(real))
    assert kept > 185
    assert found.value == pytest.approx(num_kinds / kept)
    assert estimates.distinct(real, real).value == 1


def test_real_images_that_are_there_twice_do_not_blind_distinct():
    real = normal(100, 0).repeat(2, 1)
    assert estimates.distinct(normal(1, 1).expand(200, -1), real).value < 0.02
    assert estimates.distinct(real, real[:1].expand(200, -1)) is None


def _reach(real: torch.Tensor) -> float:
    return float(estimates.distances(real).fill_diagonal_(torch.inf).amin(dim=1).quantile(0.05))


def test_a_share_knows_an_error_at_none_and_all():
    assert estimates.share(0, 100).error == pytest.approx(estimates.share(100, 100).error)
    assert estimates.share(0, 100).error > 0.02
    assert estimates.share(50, 100).error == pytest.approx(0.5 / np.sqrt(54))


def test_precision_and_recall_are_those_of_the_metric_in_their_order():
    real = normal(40, 0)
    assert [side.value for side in estimates.manifolds(real, real)] == [1, 1]
    assert [side.value for side in estimates.manifolds(real + 100, real)] == [0, 0]
    one = real[:1] + 1e-3 * normal(40, 1)  # an image that is real, again and again
    precision, recall = estimates.manifolds(one, real)
    assert precision.value == 1
    assert recall.value < 0.05


def test_rv_is_0_without_overfitting_and_1_when_held_out_images_pass_for_generated_ones():
    train, generated = 5 + normal(400, 0)[:, 0], normal(400, 1)[:, 0] - 5
    found = partial(estimates.overfitting, train, generated=generated, sure=3)
    same, none = found(5 + normal(400, 2)[:, 0]), found(normal(400, 3)[:, 0] - 5)
    assert abs(same.value) < 3 * same.error < 0.05
    assert abs(none.value - 1) < 3 * none.error < 0.05
    assert found(normal(400, 2)[:, 0]).value == pytest.approx(0.5, abs=0.03)


def test_the_error_of_rv_is_that_of_repeated_draws():
    def draw(seed: int) -> Estimate:
        train, held_out, generated = (mean + normal(60, 3 * seed + i, dim=1) for i, mean in enumerate((4, 3, 0)))
        return estimates.overfitting(train, held_out, generated, sure=3)

    draws = [draw(seed) for seed in range(300)]
    assert np.mean([found.error for found in draws]) == pytest.approx(np.std([found.value for found in draws]), rel=0.1)


def test_training_images_that_were_all_asked_leave_no_error():
    train, held_out, generated = (mean + normal(400, seed)[:, 0] for seed, mean in enumerate((4, 3, 0)))
    found = partial(estimates.overfitting, train, held_out, generated, sure=3)
    of_many, of_all = found(), found(num_train=400)
    assert of_many.value == of_all.value
    margin, r_v = float(train.mean() - generated.mean()), of_all.value
    assert of_all.error == pytest.approx(
        np.hypot(float(held_out.std()), r_v * float(generated.std())) / 20 / margin, rel=1e-5
    )
    assert found(num_train=10**9).error == pytest.approx(of_many.error)


def test_without_a_margin_there_is_no_rv():
    assert estimates.overfitting(*(normal(100, seed)[:, 0] for seed in range(3)), sure=3) is None


def test_a_discriminator_that_is_losing_does_not_count_as_overfitted():
    train, held_out, generated = (mean + normal(400, seed)[:, 0] for seed, mean in enumerate((0.5, 0.2, 0.1)))
    assert estimates.overfitting(train, held_out, generated, sure=3) is None
    assert estimates.overfitting(train, held_out, generated - 3, sure=3).value == pytest.approx(0.1, abs=0.05)


def test_rt_is_the_mean_sign():
    assert estimates.signs(torch.tensor([1.0, 2.0, 3.0, -1.0])).value == 0.5


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (minimax_generator, 2 / (1 + np.exp(4.0))),  # sigmoid(-4), over sigmoid(0)
        (nonsaturating_generator, 2 / (1 + np.exp(-4.0))),
        (critic_generator, 1.0),
    ],
)
def test_the_minimax_loss_is_flat_where_the_discriminator_is_sure(loss, expected):
    found = estimates.pull(loss, torch.full((8,), -4.0), torch.full((8,), 4.0), compares=False)
    assert found.value == pytest.approx(expected)
    assert found.error == pytest.approx(0, abs=1e-12)


def test_the_slope_of_a_loss_of_pairs():
    found = estimates.pull(relativistic_generator, torch.full((8,), -1.0), torch.full((8,), 1.0), compares=True)
    assert found.value == pytest.approx(2 / (1 + np.exp(-2.0)))


def test_undecided_is_the_middle_between_the_two_kinds_of_logits():
    """LSGAN's are drawn to 0 and 1: its slope is 1 at generated images, and 1/2 where they meet."""
    found = estimates.pull(least_squares_generator, torch.zeros(8), torch.ones(8), compares=False)
    assert found.value == pytest.approx(2)


def test_the_slope_is_taken_where_gradients_are_off():
    with torch.no_grad():
        assert estimates.pull(minimax_generator, torch.zeros(4), torch.zeros(4), compares=False).value == 1
