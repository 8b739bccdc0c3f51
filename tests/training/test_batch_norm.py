"""Networks with batch normalisation: what is normalised together, and what the moving average keeps."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from wplus.data import Batches
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.models.dcgan import Discriminator, Generator
from wplus.training import GanGame, Recipe
from wplus.training.penalties import Pairs

SIZE = {"resolution": 8, "channel_base": 64, "channel_max": 8}


@pytest.fixture
def game() -> GanGame:
    torch.manual_seed(0)
    recipe = Recipe(
        batch_size=4, gamma=0.0, lr_generator=0.01, lr_discriminator=0.01, ema_kimg=0.02, ema_rampup=None,
        pl_weight=0.0, style_mixing_prob=0.0,
    )  # fmt: skip
    losses = {"generator_loss": nonsaturating_generator, "discriminator_loss": logistic_discriminator}
    return GanGame(Generator(z_dim=4, **SIZE), Discriminator(**SIZE), recipe=recipe, **losses)


def test_real_and_generated_images_are_normalised_apart(game):
    pairs = Pairs(
        torch.randn(4, 3, 8, 8), torch.zeros(4, 0), torch.randn(4, 3, 8, 8) + 3, torch.zeros(4, 0), torch.ones(4)
    )
    real, _ = game._both_logits(pairs)
    assert torch.equal(real, game.discriminator(pairs.real))


def test_the_average_has_the_statistics_of_the_generator(game, make_images):
    optimizers = game.configure_optimizers()
    for batch in itertools.islice(Batches(make_images(), 4), 3):
        game.run_step(*batch, optimizers=optimizers)
    ours, theirs = dict(game.ema.named_buffers()), dict(game.generator.named_buffers())
    assert any(name.endswith("running_var") for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert game.ema.synthesis.norms[0].running_var.sum() != 8
    assert not any(module.training for module in game.ema.modules())
    z = torch.randn(4, 4)
    torch.testing.assert_close(game.ema(z)[:1], game.ema(z[:1]))


def test_without_a_half_life_the_average_is_the_generator(game, make_images):
    game.now = dataclasses.replace(game.recipe, ema_kimg=0.0)
    game.run_step(*Batches(make_images(), 4).at(0), optimizers=game.configure_optimizers())
    for ours, theirs in zip(game.ema.parameters(), game.generator.parameters(), strict=True):
        assert torch.equal(ours, theirs)
