"""Where inversions start."""

from __future__ import annotations

import pytest
import torch

from tests.fakes import LinearGenerator
from wplus.errors import UserError
from wplus.inversion.init import prior, start_codes
from wplus.inversion.objective import Objective, weights_by_name


def start(generator, targets, space, *, labels=None, how="mean", names=None, seed=0, num_candidates=50):
    weights = weights_by_name({"perceptual": 0.0})
    objective = Objective(generator, targets, space=space, perceptual=None, weights=weights, labels=labels)
    known = prior(generator, space, labels, len(targets), num_samples=2000)
    names = names or [str(i) for i in range(len(targets))]
    return start_codes(objective, known, start=how, seed=seed, names=names, num_candidates=num_candidates)


def test_prior_of_a_rotated_normal(linear):
    known = prior(linear, "w", None, 2)
    torch.testing.assert_close(known.mean, torch.full((2, 16), 0.1), atol=0.05, rtol=0)
    torch.testing.assert_close(known.std, torch.full((2,), 4.0), atol=0.05, rtol=0)  # sqrt(16 dimensions)
    assert prior(linear, "w+", None, 2).mean.shape == (2, 3, 16)


def test_prior_of_z_plus_is_that_of_z_for_every_layer(linear):
    one, many = prior(linear, "z", None, 2), prior(linear, "z+", None, 2)
    assert torch.equal(many.mean, one.mean[:, None].expand(-1, 3, -1))
    assert torch.equal(many.std, one.std)


def test_prior_of_z_is_the_sample_next_to_the_mean_w(linear):
    known = prior(linear, "z", None, 1)
    w = linear.mapping(known.mean)[:, 0]
    assert (w - 0.1).norm() < 2.0  # a random one is 4 away
    torch.testing.assert_close(known.std, torch.tensor([4.0]))


def test_prior_of_a_conditional_generator_is_that_of_the_label():
    generator, labels = LinearGenerator(c_dim=3), torch.eye(3)[[2, 0, 2]]
    means = prior(generator, "w", labels, 3).mean
    torch.testing.assert_close(means.mean(dim=1), torch.tensor([2.1, 0.1, 2.1]), atol=0.02, rtol=0)
    without = prior(generator, "w", None, 1).mean
    torch.testing.assert_close(without.mean(), torch.tensor(1.1), atol=0.02, rtol=0)


@pytest.mark.parametrize("space", ["z", "z+", "w", "w+"])
def test_seeded_starts_belong_to_the_image(linear, space):
    targets = torch.zeros(2, 1, 4, 4)
    both = start(linear, targets, space, how="seed", names=["a", "b"])
    assert torch.equal(start(linear, targets[:1], space, how="seed", names=["b"])[0], both[1])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(start(linear, targets, space, how="seed", names=["a", "b"], seed=1), both)


@pytest.mark.parametrize("space", ["z", "z+", "w", "w+"])
def test_best_of_finds_the_best_candidate(linear, space):
    targets = torch.randn(3, 1, 4, 4)
    few, many = (start(linear, targets, space, how="best_of", num_candidates=num) for num in (1, 500))
    codes = {"mean": start(linear, targets, space), "few": few, "many": many}
    objective = Objective(linear, targets, space=space, perceptual=None, weights=weights_by_name({"perceptual": 0.0}))
    losses = {how: objective.terms(objective.images([code]), [code])["loss"] for how, code in codes.items()}
    if space not in ("z", "z+"):  # z candidates are compared on their sphere
        assert (losses["few"] <= losses["mean"]).all()
    assert (losses["many"].mean() < losses["few"].mean()).all()


def test_best_of_does_not_depend_on_the_batch(linear):
    targets = torch.randn(3, 1, 4, 4)
    together = start(linear, targets, "w", how="best_of")
    alone = [start(linear, targets[i : i + 1], "w", how="best_of") for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_best_of_respects_labels():
    generator, labels = LinearGenerator(c_dim=3), torch.eye(3)[[2, 0]]
    targets = generator.synthesis(generator.mapping(torch.zeros(2, 16), labels))
    found = start(generator, targets, "w", how="best_of", labels=labels)
    torch.testing.assert_close(found.mean(dim=1), torch.tensor([2.1, 0.1]), atol=0.4, rtol=0)


def test_plus_starts_where_its_space_without_plus_starts(stylegan):
    targets = torch.randn(2, 3, 8, 8)
    for space in ("z", "w"):
        for how in ("mean", "seed", "best_of"):
            one, many = (start(stylegan, targets, each, how=how, num_candidates=5) for each in (space, space + "+"))
            assert torch.equal(many, one[:, None].expand(-1, stylegan.num_ws, -1))


def test_bad_choices(linear):
    with pytest.raises(UserError, match=r"'middle'.*mean, seed, best_of, encoder"):
        start(linear, torch.zeros(1, 1, 4, 4), "w", how="middle")
    with pytest.raises(UserError, match="num_candidates=0"):
        start(linear, torch.zeros(1, 1, 4, 4), "w", how="best_of", num_candidates=0)
