"""Pairs that make no sense are refused, each with its reason."""

from __future__ import annotations

import re
from typing import Any

import pytest

from wplus.errors import UserError
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.models import mlp_gan
from wplus.models.network import Network
from wplus.training import GanGame, Recipe
from wplus.training.checks import check_fit, check_micro_batches
from wplus.training.penalties import active_penalties

NUMBERS = {
    "batch_size": 4, "gamma": 0.0, "lr_generator": 1e-3, "lr_discriminator": 1e-3, "ema_kimg": 1.0, "ema_rampup": None,
    "pl_weight": 0.0, "style_mixing_prob": 0.0,
}  # fmt: skip


class Generator(Network):
    """Without styles."""

    num_ws = 1


class Once(Network):
    """Differentiable once."""

    second_order = False


class Dropping(Network):
    """With dropout."""

    drops_units = True


class Mixing(Network):
    """With batch normalisation."""

    batch_norm = True


def check(generator: Any = Generator, discriminator: Any = Network, penalties: Any = ("r1",), **numbers: float) -> None:
    recipe = Recipe(**{**NUMBERS, **numbers})
    check_fit(generator, discriminator, recipe, active_penalties(penalties, recipe))


REFUSED = [
    ({"style_mixing_prob": 0.9}, "style_mixing_prob=0.9", "has no styles"),
    ({"pl_weight": 2.0}, "pl_weight=2", "use training.recipe.pl_weight=0"),
    ({"generator": Once, "pl_weight": 2.0}, "pl_weight=2", "cannot be differentiated twice"),
    ({"discriminator": Mixing, "gamma": 0.5}, "gamma=0.5", "normalises over the batch"),
    ({"discriminator": Mixing, "penalties": ["gradient_penalty"]}, "gp_weight=10", "loss=nonsaturating"),
    ({"discriminator": Mixing, "penalties": ["r1", "r2"], "gamma": 1.0}, "gamma=1", "use training.recipe.gamma=0"),
    ({"discriminator": Once, "gamma": 0.5}, "gamma=0.5", "cannot be differentiated twice"),
]


@pytest.mark.parametrize(("choices", "value", "reason"), REFUSED)
def test_nonsense_is_refused(choices, value, reason):
    with pytest.raises(UserError, match=f"{re.escape(value)}.*{re.escape(reason)}"):
        check(**choices)


def test_what_makes_sense_is_not():
    check()
    check(discriminator=Mixing)
    check(discriminator=Mixing, penalties=["r1", "r2"])
    check(generator=Network, gamma=1.0, pl_weight=2.0, style_mixing_prob=0.9)
    check(penalties=["gradient_penalty"])
    check_micro_batches([Generator, Network], 4)
    check_micro_batches([Mixing, Dropping], 1)
    check(decay_kimg=10.0, lr_end=1e-4)


def test_parts_of_a_batch_have_other_statistics():
    with pytest.raises(UserError, match=r"^micro_batch_size is refused with the mixing of test_checks: it normalises"):
        check_micro_batches([Generator, Mixing], 2)
    with pytest.raises(UserError, match=r"^micro_batch_size is refused with the dropping of test_checks: it drops"):
        check_micro_batches([Generator, Dropping], 2)
    assert mlp_gan.Discriminator.drops_units


def test_an_end_needs_its_time_and_the_time_an_end():
    with pytest.raises(UserError, match=r"^gamma_end=0 has no effect without training\.recipe\.decay_kimg"):
        check(gamma=1.0, gamma_end=0.0)
    with pytest.raises(
        UserError, match=r"^decay_kimg=10 has no effect, .* training\.recipe\.gamma_end, .*ema_kimg_end\.$"
    ):
        check(decay_kimg=10.0)


def test_the_game_refuses_too(make_tiny, monkeypatch):
    game = make_tiny()
    monkeypatch.setattr(type(game.discriminator), "batch_norm", True)
    with pytest.raises(UserError, match=r"gamma=1\) is refused: the discriminator of stylegan2 normalises"):
        GanGame(
            game.generator,
            game.discriminator,
            generator_loss=nonsaturating_generator,
            discriminator_loss=logistic_discriminator,
            recipe=game.recipe,
        )
