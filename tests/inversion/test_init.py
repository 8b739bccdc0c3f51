"""Initialisations of inversions."""

import pytest
import torch

from tests.fakes import LinearGenerator
from wplus.inversion.init import initial_latents, prior
from wplus.inversion.objective import Objective, all_loss_weights, synthesize
from wplus.inversion.task import InversionTask
from wplus.latents.space import space_named

every_space = pytest.mark.parametrize("space", ["z", "z+", "w", "w+", "pn", "pn+"])


def start(generator, targets, space, init="mean", *, num_candidates=50, **shared):
    task = InversionTask(generator, targets, space, **shared)
    known = prior(generator, space_named(space), task.labels, len(targets), num_samples=2000)
    weights = all_loss_weights(task, {"perceptual": 0.0})
    return initial_latents(task, known, init=init, num_candidates=num_candidates, weights=weights)


def test_prior_of_a_rotated_normal(linear):
    known = prior(linear, space_named("w"), None, 2)
    torch.testing.assert_close(known.mean, torch.full((2, 16), 0.1), atol=0.05, rtol=0)
    torch.testing.assert_close(known.std, torch.full((2,), 4.0), atol=0.05, rtol=0)  # sqrt(16 dimensions)
    assert prior(linear, space_named("w+"), None, 2).mean.shape == (2, 3, 16)


def test_prior_of_z_is_the_sample_next_to_the_mean_w_in_z_plus_for_every_layer(linear):
    one, many = prior(linear, space_named("z"), None, 2), prior(linear, space_named("z+"), None, 2)
    assert (linear.mapping(one.mean)[:, 0] - 0.1).norm(dim=1).max() < 2.0  # a random one is 4 away
    torch.testing.assert_close(one.std, torch.tensor([4.0, 4.0]))
    assert torch.equal(many.mean, one.mean[:, None].expand(-1, 3, -1))
    assert torch.equal(many.std, one.std)


def test_prior_of_a_conditional_generator_is_that_of_the_label():
    generator, labels = LinearGenerator(c_dim=3), torch.eye(3)[[2, 0, 2]]
    means = prior(generator, space_named("w"), labels, 3).mean
    torch.testing.assert_close(means.mean(dim=1), torch.tensor([2.1, 0.1, 2.1]), atol=0.02, rtol=0)
    without = prior(generator, space_named("w"), None, 1).mean
    torch.testing.assert_close(without.mean(), torch.tensor(1.1), atol=0.02, rtol=0)


@every_space
def test_seeded_starts_belong_to_the_image(linear, space):
    targets = torch.zeros(2, 1, 4, 4)
    both = start(linear, targets, space, "seed", names=["a", "b"])
    assert torch.equal(start(linear, targets[:1], space, "seed", names=["b"])[0], both[1])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(start(linear, targets, space, "seed", names=["a", "b"], seed=1), both)


@every_space
def test_best_of_n_finds_the_best_candidate(linear, space):
    targets = torch.randn(3, 1, 4, 4)
    task = InversionTask(linear, targets, space)
    latents = {num: start(linear, targets, space, "best_of_n", num_candidates=num) for num in (1, 500)}
    latents["mean"] = start(linear, targets, space)
    objective = Objective(task, all_loss_weights(task, {"perceptual": 0.0}))
    losses = {how: objective.terms(synthesize(task, [found]), [found])["loss"] for how, found in latents.items()}
    if space not in ("z", "z+"):  # z candidates are compared on their sphere
        assert (losses[1] <= losses["mean"]).all()
    assert (losses[500].mean() < losses[1].mean()).all()


def test_best_of_n_does_not_depend_on_the_batch_and_respects_labels(linear):
    targets = torch.randn(3, 1, 4, 4)
    alone = [start(linear, targets[i : i + 1], "w", "best_of_n") for i in range(3)]
    assert torch.equal(start(linear, targets, "w", "best_of_n"), torch.cat(alone))
    generator, labels = LinearGenerator(c_dim=3), torch.eye(3)[[2, 0]]
    targets = generator.synthesis(generator.mapping(torch.zeros(2, 16), labels))
    found = start(generator, targets, "w", "best_of_n", labels=labels)
    torch.testing.assert_close(found.mean(dim=1), torch.tensor([2.1, 0.1]), atol=0.4, rtol=0)


def test_plus_starts_where_its_space_without_plus_starts(stylegan):
    targets = torch.randn(2, 3, 8, 8)
    for space in ("z", "w"):
        for init in ("mean", "seed", "best_of_n"):
            one, many = (start(stylegan, targets, each, init, num_candidates=5) for each in (space, space + "+"))
            assert torch.equal(many, one[:, None].expand(-1, stylegan.num_ws, -1))
