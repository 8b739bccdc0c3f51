"""DiscriminatorBatch that make no sense are refused, each with its reason."""

import re
from functools import partial
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from tests.fakes import penalties
from wplus.config import CONFIG_FOLDER, build, plain
from wplus.errors import UserError
from wplus.losses.adversarial import (
    hinge_discriminator,
    least_squares_discriminator,
    logistic_discriminator,
    nonsaturating_generator,
    relativistic_discriminator,
    wasserstein_discriminator,
)
from wplus.models import mlp_gan
from wplus.models.network import Network
from wplus.training.augment.control import AdaptiveAugment, FixedAugment, NoAugment, ScheduledAugment
from wplus.training.build import GanSpec
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams, hparams_of
from wplus.training.penalties import R1, active_penalties
from wplus.training.validate import check_augment, check_effect, check_fit, check_micro_batches, check_options

R1_ALONE = (R1("gamma"),)
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


def check(
    generator: Any = Generator, discriminator: Any = Network, penalties_: Any = R1_ALONE, **numbers: float
) -> None:
    hparams = Hparams(**{**NUMBERS, **numbers})
    check_fit(generator, discriminator, hparams, active_penalties(penalties_, hparams))


REFUSED = [
    ({"style_mixing_prob": 0.9}, "style_mixing_prob=0.9", "has no styles"),
    ({"pl_weight": 2.0}, "pl_weight=2", "use training.hparams.pl_weight=0"),
    ({"generator": Once, "pl_weight": 2.0}, "pl_weight=2", "cannot be differentiated twice"),
    ({"discriminator": Mixing, "gamma": 0.5}, "gamma=0.5", "normalises over the batch"),
    ({"discriminator": Mixing, "penalties_": penalties("gradient_penalty")}, "gp_weight=10", "loss=nonsaturating"),
    (
        {"discriminator": Mixing, "penalties_": penalties("r1", "r2"), "gamma": 1.0},
        "gamma=1",
        "use training.hparams.gamma=0",
    ),
    ({"discriminator": Once, "gamma": 0.5}, "gamma=0.5", "cannot be differentiated twice"),
]


@pytest.mark.parametrize(("choices", "value", "reason"), REFUSED)
def test_nonsense_is_refused(choices, value, reason):
    with pytest.raises(UserError, match=f"{re.escape(value)}.*{re.escape(reason)}"):
        check(**choices)


def test_what_makes_sense_is_not():
    check()
    check(discriminator=Mixing)
    check(discriminator=Mixing, penalties_=penalties("r1", "r2"))
    check(generator=Network, gamma=1.0, pl_weight=2.0, style_mixing_prob=0.9)
    check(penalties_=penalties("gradient_penalty"))
    check_micro_batches([Generator, Network], 4)
    check_micro_batches([Mixing, Dropping], 1)
    check(decay_kimg=10.0, lr_end=1e-4)


def test_parts_of_a_batch_have_other_statistics():
    with pytest.raises(
        UserError, match=r"^micro_batch_size is refused with the mixing of test_validate: it normalises"
    ):
        check_micro_batches([Generator, Mixing], 2)
    with pytest.raises(UserError, match=r"^micro_batch_size is refused with the dropping of test_validate: it drops"):
        check_micro_batches([Generator, Dropping], 2)
    assert mlp_gan.Discriminator.drops_units


UNSIGNED = [(least_squares_discriminator, "to 1 and of generated ones to 0"),
            (partial(partial(wasserstein_discriminator), drift=0.001), "free up to a constant"),
            (relativistic_discriminator, "differences of logits alone")]  # fmt: skip


@pytest.mark.parametrize(("loss", "reason"), UNSIGNED)
def test_the_sign_that_ada_follows_must_say_real(loss, reason):
    with pytest.raises(UserError, match=rf"^augment=ada is refused with this loss: .*{reason}.* use augment=fixed"):
        check_augment(AdaptiveAugment(), loss)
    for augment in (NoAugment(), FixedAugment(0.2), ScheduledAugment(0.0, p_end=0.3, decay_kimg=1.0)):
        check_augment(augment, loss)


def test_ada_takes_losses_whose_boundary_is_at_zero():
    for loss in (logistic_discriminator, hinge_discriminator, partial(hinge_discriminator)):
        check_augment(AdaptiveAugment(), loss)


def test_an_end_needs_its_time_and_the_time_an_end():
    with pytest.raises(UserError, match=r"^gamma_end=0 has no effect without training\.hparams\.decay_kimg"):
        check(gamma=1.0, gamma_end=0.0)
    with pytest.raises(
        UserError, match=r"^decay_kimg=10 has no effect, .* training\.hparams\.gamma_end, .*ema_kimg_end\.$"
    ):
        check(decay_kimg=10.0)


def test_the_game_refuses_too(make_tiny, monkeypatch):
    game = make_tiny()
    monkeypatch.setattr(type(game.discriminator), "batch_norm", True)
    with pytest.raises(UserError, match=r"gamma=1\) is refused: the discriminator of stylegan2 normalises"):
        GanModule(
            game.generator,
            game.discriminator,
            generator_loss=nonsaturating_generator,
            discriminator_loss=logistic_discriminator,
            hparams=game.hp,
            penalties=game.penalties,
        )


def check_given(given: dict[str, Any], penalties_: Any = R1_ALONE, **numbers: float) -> None:
    hparams = Hparams(**{**NUMBERS, **numbers, **{name: value for name, value in given.items() if value is not None}})
    check_effect(given, hparams, active_penalties(penalties_, hparams))


IDLE = [  # given, the other numbers, why
    ({"pl_interval": 8}, {"gamma": 1.0}, "pl_interval=8 has no effect: with pl_weight=0"),
    ({"pl_decay": 0.1, "pl_weight": 0.0}, {}, "pl_decay=0.1 has no effect"),
    ({"pl_batch_shrink": 1}, {}, "pl_batch_shrink=1 has no effect"),
    ({"r1_interval": 16}, {}, "r1_interval=16 has no effect: there is no gradient penalty"),
    ({"r1_interval": 1}, {"gamma": 1.0, "penalties_": ()}, "r1_interval=1 has no effect"),
    ({"gamma_end": 0.5}, {"decay_kimg": 1.0}, "gamma_end=0.5 has no effect: .* gamma starts at 0"),
    ({"gamma_end": 0.5, "gamma": 1.0}, {"penalties_": penalties("gradient_penalty")}, "gamma_end=0.5 has no effect"),
    ({"ema_rampup": 0.05}, {"ema_kimg": 0.0}, "ema_rampup=0.05 has no effect: with ema_kimg=0"),
]


@pytest.mark.parametrize(("given", "others", "message"), IDLE)
def test_a_number_that_was_given_and_changes_nothing_is_refused(given, others, message):
    with pytest.raises(UserError, match=f"^{message}.*; use training\\.hparams\\.{message.split('=')[0]}=null\\.$"):
        check_given(given, **others)
    check_given({}, **{**others, **given})  # a preset's own


def test_numbers_that_change_something_are_not():
    check_given({"pl_interval": 8, "pl_decay": 0.1, "pl_batch_shrink": 1, "pl_weight": 2.0})
    check_given({"r1_interval": 4, "gamma": 1.0, "gamma_end": 0.1, "decay_kimg": 1.0})
    check_given({"r1_interval": 4}, penalties_=penalties("gradient_penalty"))
    check_given({"ema_rampup": 0.05})
    check_given({"ema_rampup": 0.05}, ema_kimg=0.0, ema_kimg_end=1.0)
    check_given({"pl_interval": None, "gamma": 0.5}, penalties_=penalties("gradient_penalty"))


EXPERIMENTS = sorted(path.stem for path in (CONFIG_FOLDER / "experiment").glob("*.yaml"))


def composed(experiment: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return plain(compose("train", [f"experiment={experiment}"]))


def test_no_experiment_gives_a_number_without_effect():
    generators = [config for config in map(composed, EXPERIMENTS) if config.get("model")]
    assert len(generators) > 5
    for config in generators:
        parts, given = build(config["model"]), config["training"]["hparams"]
        settings = GanSpec(**{**parts.pop("loss"), "presets": [parts.pop("preset")], **parts}, given=given)
        hparams = hparams_of(settings.resolve(64))
        check_effect(given, hparams, active_penalties(settings.penalties, hparams))


def test_an_option_of_another_model_is_refused_by_name():
    check_options("generator", partial(mlp_gan.Generator, width=8))
    message = r"^model.generator.w_dim is not an option of the generator of mlp_gan; it has z_dim, width, num_layers\.$"
    with pytest.raises(UserError, match=message):
        check_options("generator", partial(mlp_gan.Generator, w_dim=8))
