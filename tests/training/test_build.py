"""Which number wins: the hparams's default, the loss, the model's preset, a chosen preset, what was given."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from tests.fakes import penalties
from wplus.core.runtime import Runtime
from wplus.errors import UserError
from wplus.losses.adversarial import critic_generator, nonsaturating_generator, wasserstein_discriminator
from wplus.models import progan
from wplus.models.network import Network
from wplus.models.stylegan2 import Discriminator, Generator
from wplus.training.augment.control import AdaptiveAugment
from wplus.training.build import GanSpec, build_gan, gan_training, set_precision
from wplus.training.hparams import auto
from wplus.training.snapshot import SampleView

CPU = Runtime(device=torch.device("cpu"))
SMALL = {"channel_base": 64, "channel_max": 8}


class Batched(Network):
    """A discriminator with batch normalisation."""

    batch_norm = True


def settings(**changes: Any) -> GanSpec:
    return GanSpec(
        **{
            "generator": partial(Generator, z_dim=4, w_dim=4, num_mapping_layers=None, **SMALL),
            "discriminator": partial(Discriminator, mbstd_group_size=None, **SMALL),
            "generator_loss": critic_generator,
            "discriminator_loss": wasserstein_discriminator,
            "penalties": penalties("r1"),
            "presets": [auto],
            **changes,
        }
    )


def calm(resolution: int, batch_size: int | None) -> dict[str, tuple[Any, str]]:
    """A preset that follows another."""
    return {"batch_size": (batch_size or 8, "calm"), "lr_generator": (1e-5, "calm"), "n_critic": (2, "calm")}


def test_each_stands_over_the_one_before():
    assert settings().resolve(32)["n_critic"] == (1, "as published")
    with_loss = settings(hparams={"n_critic": 5, "gamma": 9.0}).resolve(32)
    assert with_loss["n_critic"] == (5, "the loss's")
    assert with_loss["gamma"][0] == pytest.approx(0.0064)  # the preset's
    chosen = settings(hparams={"n_critic": 5}, presets=[auto, calm])
    assert chosen.resolve(32)["n_critic"] == (2, "calm")
    assert chosen.resolve(32)["lr_discriminator"][0] == 0.0025
    given = settings(hparams={"n_critic": 5}, presets=[auto, calm], given={"n_critic": 3, "lr_generator": None})
    assert given.resolve(32)["n_critic"] == (3, "given")
    assert given.resolve(32)["lr_generator"] == (1e-5, "calm")


def test_the_models_numbers_follow_the_chosen_presets_batch():
    numbers = settings(presets=[auto, calm]).resolve(32)
    assert numbers["batch_size"] == (8, "calm")
    assert numbers["gamma"][0] == pytest.approx(0.0002 * 32**2 / 8)


def test_weights_of_penalties_that_the_loss_does_not_bring():
    numbers = settings(penalties=penalties("gradient_penalty"), given={"gamma": 0.5}).resolve(32)
    assert numbers["gamma"] == (0.0, "given as 0.5, but this loss brings no penalty of this weight")
    assert numbers["gp_weight"] == (10.0, "as published")
    assert settings().resolve(32)["gp_weight"] == (0.0, "this loss brings no penalty of this weight")


def test_a_game_of_them(make_images):
    choices = settings(penalties=penalties("gradient_penalty"), hparams={"r1_interval": 1}, given={"pl_weight": 0.0})
    game, numbers = build_gan(make_images(), choices, runtime=CPU)
    assert [phase.name for phase in game.phases()] == ["generator", "discriminator"]
    assert [penalty.name for penalty in game.penalties] == ["gradient_penalty"]
    assert game.generator.arguments["num_mapping_layers"] == numbers["num_mapping_layers"][0] == 2
    assert game.discriminator.arguments["mbstd_group_size"] == 4


@pytest.mark.parametrize("labels", [torch.eye(3)[[0, 0, 0, 0, 2]], torch.randn(5, 3) * 4, torch.ones(5, 3)])
def test_labels_of_the_data_go_with_the_networks(make_images, labels):
    data = replace(make_images(5), labels=labels)
    game, _ = build_gan(data, settings(), runtime=CPU)
    assert sorted(game.ema.data_labels.tolist()) == sorted(labels.tolist())
    drawn: list[list[float]] = []
    game.ema.register_forward_pre_hook(lambda net, given: drawn.extend(given[1].tolist()))
    SampleView(data, seed=1, num_samples=10).sample(game)
    is_one_hot = bool((labels.sum(dim=1) == 1).all())
    assert (
        sorted(drawn[:3]) == sorted(torch.eye(3).tolist())
        if is_one_hot
        else sorted(drawn) == sorted(2 * labels.tolist())
    )


def test_nonsense_is_refused_before_data_is_read():
    def data(**_: Any) -> None:
        pytest.fail("data was read")

    model = {"generator": settings().generator, "discriminator": partial(Batched), "preset": auto, "loss": {}}
    loss = {
        "generator_loss": critic_generator,
        "discriminator_loss": wasserstein_discriminator,
        "penalties": penalties("r1"),
    }
    choices = {"preset": None, "hparams": {}, "micro_batch_size": None, "runtime": CPU, "seed": 0, "num_samples": 4}
    with pytest.raises(UserError, match=r"^The penalty r1 \(gamma=.*\) is refused: the batched of test_build"):
        gan_training(data=data, model=lambda: dict(model), loss=lambda: dict(loss), **choices)
    unbounded = {**choices, "hparams": {"gp_weight": 0.0}}
    penalised = {**loss, "penalties": penalties("gradient_penalty")}
    with pytest.raises(UserError, match=r"^gp_weight=0 is refused with a loss that brings gradient_penalty"):
        gan_training(data=data, model=lambda: dict(model), loss=lambda: dict(penalised), **unbounded)
    model["discriminator"] = settings().discriminator
    with pytest.raises(UserError, match=r"^augment=ada is refused with this loss: .* free up to a constant"):
        gan_training(data=data, model=lambda: dict(model), loss=lambda: dict(loss), augment=AdaptiveAugment, **choices)
    growing = {**choices, "hparams": {"stable_kimg": 2.0}}
    with pytest.raises(UserError, match=r"^stable_kimg=2 has no effect: stylegan2 does not grow"):
        gan_training(data=data, model=lambda: dict(model), loss=lambda: dict(loss), **growing)
    with pytest.raises(UserError, match=r"needs a choice of model, such as model=stylegan2\.$"):
        gan_training(data=data, model=None, loss=None, **choices)


def test_half_precision_is_refused_where_no_network_has_it():
    gpu, size = Runtime(device=torch.device("cuda"), precision="bf16"), {"resolution": 16, **SMALL}
    with pytest.raises(UserError, match=r"^precision=bf16 is refused with the generator of progan: it computes in"):
        set_precision([progan.Generator(**size), progan.Discriminator(**size)], gpu)
    set_precision([progan.Generator(**size)], replace(gpu, precision="auto"))
    generator = Generator(**size)
    set_precision([generator], gpu)
    assert generator.synthesis.b16.compute_dtype == torch.bfloat16


def test_a_model_brings_its_loss(make_images):
    loss = {"generator_loss": critic_generator, "discriminator_loss": wasserstein_discriminator}
    parts = {"generator": settings().generator, "discriminator": settings().discriminator, "preset": auto, "loss": loss}
    choices = {"preset": None, "hparams": {}, "micro_batch_size": None, "runtime": CPU, "seed": 0, "num_samples": 4}
    training = gan_training(data=lambda split: make_images(), model=lambda: parts, loss=None, **choices)
    assert training.module.discriminator_loss is wasserstein_discriminator
    other = {**loss, "generator_loss": nonsaturating_generator}
    training = gan_training(data=lambda split: make_images(), model=lambda: parts, loss=lambda: other, **choices)
    assert training.module.generator_loss is nonsaturating_generator
