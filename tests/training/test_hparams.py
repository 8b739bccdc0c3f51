"""Hyperparameters of a run: published ones as composed from the configuration, their precedence and display."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from tests.fakes import gans, penalties
from tests.training.trained import CPU, SMALL, model
from wplus.config import build, composed
from wplus.core.runtime import Runtime
from wplus.data import Batches
from wplus.losses.adversarial import critic_generator, nonsaturating_generator, wasserstein_discriminator
from wplus.models.stylegan2 import Discriminator, Generator
from wplus.training.augment.control import FixedAugment, NoAugment
from wplus.training.build import GanSpec, build_gan, gan_training
from wplus.training.hparams import Hparams, auto, explain, explain_config, override
from wplus.training.snapshot import SampleView

# --- published ------------------------------------------------------------------------------------------------------


def numbers(resolution: int, *overrides: str) -> dict[str, Any]:
    """Every hyperparameter that such a run would use."""
    config = composed("train", ["run_dir=x", f"data.resolution={resolution}", *overrides])
    return {name: value for name, (value, _) in explain_config(config).items()}


ADAM_0 = {"beta1": 0.0, "beta2": 0.99}
NO_STYLES = {"style_mixing_prob": 0.0, "pl_weight": 0.0}
SMALL_GAN = {
    "lr_generator": 2e-4, "lr_discriminator": 2e-4, "beta1": 0.5, "beta2": 0.999, "gamma": 0.0, "ema_kimg": 0.0,
    "ema_rampup": None, **NO_STYLES,
}  # fmt: skip
R3GAN = {
    "lr_generator": 2e-4, "lr_discriminator": 2e-4, "lr_end": 5e-5, "beta1": 0.0, "beta2": 0.9, "beta2_end": 0.99,
    "ema_kimg": 0.0, "decay_kimg": 20_000, "ema_rampup": None, "r1_interval": 1, **NO_STYLES,
}  # fmt: skip
GROWING = {
    "lr_generator": 0.001, "lr_discriminator": 0.001, **ADAM_0, "stable_kimg": 600, "fade_kimg": 600, "n_critic": 1,
    "r1_interval": 1, "ema_rampup": None, "mbstd_group_size": 4,
}  # fmt: skip
PROGAN = {**GROWING, "start_resolution": 4, "gp_weight": 10, "gamma": 0, **NO_STYLES}
STYLEGAN1 = {
    **GROWING, "start_resolution": 8, "gamma": 10, "ema_kimg": 10, "style_mixing_prob": 0.9, "pl_weight": 0,
    "num_mapping_layers": 8,
}  # fmt: skip
STYLEGAN2 = {
    "channel_max": 512, **ADAM_0, "adam_eps": 1e-8, "r1_interval": 16, "pl_interval": 4, "pl_weight": 2.0,
    "pl_decay": 0.01, "pl_batch_shrink": 2, "style_mixing_prob": 0.9, "n_critic": 1,
}  # fmt: skip


def stylegan2(batch: int, group: int, base: int, lr: float, gamma: float, ema: float, rampup: Any, layers: int) -> Any:
    return {
        **STYLEGAN2, "batch_size": batch, "mbstd_group_size": group, "channel_base": base, "lr_generator": lr,
        "lr_discriminator": lr, "gamma": gamma, "ema_kimg": ema, "ema_rampup": rampup, "num_mapping_layers": layers,
    }  # fmt: skip


PUBLISHED: list[tuple[int, str, dict[str, Any]]] = [
    (64, "model=mlp_gan", {**SMALL_GAN, "batch_size": 64}),
    (64, "model=dcgan", {**SMALL_GAN, "batch_size": 128}),
    (64, "model=mlp_gan training=dcgan", {**SMALL_GAN, "batch_size": 128}),
    (32, "model=r3gan", {**R3GAN, "batch_size": 512, "gamma": 0.05, "gamma_end": 0.005, "ema_kimg_end": 5000}),
    (64, "model=r3gan", {**R3GAN, "batch_size": 256, "gamma": 2, "gamma_end": 0.2, "ema_kimg_end": 500}),
    (128, "model=r3gan", {**R3GAN, "gamma": 17.3, "gamma_end": 1.73, "ema_kimg_end": 500}),  # sqrt(2 * 150)
    (256, "model=r3gan", {**R3GAN, "batch_size": 256, "gamma": 150, "gamma_end": 15}),
    (1024, "model=r3gan", {"batch_size": 256, "gamma": 150}),
    (8, "model=r3gan", {"batch_size": 512, "gamma": 0.05}),
    *((size, "model=progan", {**PROGAN, "batch_size": batch, "ema_kimg": pytest.approx(batch * 0.6928, rel=1e-3)})
      for size, batch in [(8, 256), (16, 128), (32, 64), (64, 32), (1024, 32)]),  # 0.999 per step
    (256, "model=stylegan1", {**STYLEGAN1, "batch_size": 32}),
    (8, "model=stylegan1 training.hparams.batch_size=2", {"mbstd_group_size": 2, "start_resolution": 8}),
    (1024, "training=stylegan2", stylegan2(32, 4, 32768, 0.002, 10, 10, None, 8)),
    (256, "training=paper256", stylegan2(64, 8, 16384, 0.0025, 1, 20, None, 8)),
    (512, "training=paper512", stylegan2(64, 8, 32768, 0.0025, 0.5, 20, None, 8)),
    (1024, "training=paper1024", stylegan2(32, 4, 32768, 0.002, 2, 10, None, 8)),
    (32, "training=cifar", {**stylegan2(64, 32, 32768, 0.0025, 0.01, 500, 0.05, 2), **NO_STYLES}),
    # the formulas of auto on one device: min(4096 // r, 32), 0.0002 r^2 / batch, batch 10/32
    (32, "training=auto", stylegan2(32, 4, 16384, 0.0025, 0.0064, 10, 0.05, 2)),
    (64, "training=auto", stylegan2(32, 4, 16384, 0.0025, 0.0256, 10, 0.05, 2)),
    (128, "training=auto", stylegan2(32, 4, 16384, 0.0025, 0.1024, 10, 0.05, 2)),
    (256, "training=auto", stylegan2(16, 4, 16384, 0.0025, 0.8192, 5, 0.05, 2)),
    (512, "training=auto", stylegan2(8, 4, 32768, 0.0025, 6.5536, 2.5, 0.05, 2)),
    (1024, "training=auto", stylegan2(4, 4, 32768, 0.002, 52.4288, 1.25, 0.05, 2)),
    (256, "training=auto training.hparams.batch_size=64", {"batch_size": 64, "gamma": 0.2048, "ema_kimg": 20}),
    (32, "training=auto training.hparams.batch_size=2", {"mbstd_group_size": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("resolution", "choices", "expected"), PUBLISHED, ids=lambda item: str(item)[:40])
def test_the_published_numbers(resolution, choices, expected):
    found = numbers(resolution, *choices.split())
    assert {name: found[name] for name in expected} == {
        name: value if value is None or isinstance(value, type(pytest.approx(1))) else pytest.approx(value)
        for name, value in expected.items()
    }


def test_a_batch_that_is_given_changes_nothing_else():
    given = numbers(512, "training=paper512", "training.hparams.batch_size=16")
    assert given == {**numbers(512, "training=paper512"), "batch_size": 16}


NETWORKS = {  # generator, discriminator (None: the preset's), loss of the generator
    "mlp_gan": (
        "z_dim: 100, width: 1200, num_layers: 2", "width: 240, num_pieces: 5, dropout_input: 0.2, dropout: 0.5",
        "nonsaturating",
    ),
    "dcgan": (
        "z_dim: 100, channel_base: 4096, channel_max: 1024", "channel_base: 4096, channel_max: 1024", "nonsaturating",
    ),
    "progan": (
        "z_dim: 512, channel_base: 16384, channel_max: 512",
        "channel_base: 16384, channel_max: 512, mbstd_group_size: None", "critic",
    ),
    "stylegan1": (
        "z_dim: 512, w_dim: 512, num_mapping_layers: None, channel_base: 16384, channel_max: 512",
        "channel_base: 16384, channel_max: 512, mbstd_group_size: None", "nonsaturating",
    ),
    "stylegan2": (
        "z_dim: 512, w_dim: 512, num_mapping_layers: None, channel_base: None, channel_max: None, use_noise: True",
        "channel_base: None, channel_max: None, mbstd_group_size: None, architecture: resnet, num_mapping_layers: 8",
        "nonsaturating",
    ),
    "r3gan": (
        "z_dim: 64, channel_base: 24576, channel_max: 768", "channel_base: 24576, channel_max: 768", "relativistic",
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", NETWORKS)
def test_the_published_networks_and_loss_of_a_choice_of_model(family):
    chosen = composed("train", [f"model={family}"])["model"]
    generator, discriminator, loss = NETWORKS[family]
    for role, expected in (("generator", generator), ("discriminator", discriminator)):
        found = {f"{name}: {value}" for name, value in chosen[role].items() if name[0] != "_"}
        assert found == set(expected.split(", "))
        assert chosen[role]["_target_"] == f"wplus.models.{family}.{role.title()}"
    assert chosen["loss"]["generator_loss"]["_target_"] == f"wplus.losses.adversarial.{loss}_generator"


RUNS = {
    # experiment: training, resolution, kimg, mirror, augmentation, architecture of D, batch
    "ada_paper256": ("paper256", 256, 25_000, "x", "AdaptiveAugment", "resnet", 64),
    "ada_paper512": ("paper512", 512, 25_000, "x", "AdaptiveAugment", "resnet", 64),
    "ada_paper1024": ("paper1024", 1024, 25_000, "x", "AdaptiveAugment", "resnet", 32),
    "ada_cifar": ("cifar", 32, 100_000, "none", "AdaptiveAugment", "orig", 64),
    "stylegan2_config_f": ("stylegan2", 1024, 25_000, "x", "NoAugment", "resnet", 32),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_published_runs(name):
    """Further settings of the published command, whichever data set is named beside the experiment."""
    training, resolution, kimg, mirror, augment, architecture, batch = RUNS[name]
    cfg = composed("train", [f"experiment={name}", "data=zip", "data.path=x.zip"])
    assert cfg["training"]["preset"]["name"] == training
    found = cfg["name"], cfg["data"]["resolution"], cfg["schedule"]["kimg"], cfg["mirror"]
    assert found == (name, resolution, kimg, mirror)
    assert cfg["model"]["discriminator"]["architecture"] == architecture
    augmentation = build(cfg["augment"]) if cfg.get("augment") else NoAugment()
    assert type(augmentation).__name__ == augment
    if augment == "AdaptiveAugment":
        assert (augmentation.target, augmentation.interval, augmentation.speed) == (0.6, 4, 500_000)
        assert cfg["augment"]["transforms"] == "bgc"
    for interval in (cfg["schedule"]["log_kimg"], cfg["schedule"]["snapshot_kimg"]):
        assert round(interval * 1000) % batch == 0
    assert cfg["model"]["generator"]["_target_"].endswith("stylegan2.Generator")
    assert all(value is None for value in cfg["training"]["hparams"].values())


CATS = {  # family -> experiment
    "mlp_gan": "mlp_gan_cats",
    "dcgan": "dcgan_cats",
    "progan": "progan_cats",
    "stylegan1": "stylegan1_cats",
    "stylegan2": "cats32",
    "r3gan": "r3gan_cats",
}


def test_every_family_has_an_experiment_with_the_cats():
    assert gans() == sorted(CATS)


@pytest.mark.parametrize("family", CATS)
def test_a_step_of_it(family, make_images):
    """Its own networks, loss and batch at the size of the cats; a growing one has grown before it ends."""
    config = composed("train", [f"experiment={CATS[family]}"])
    images = make_images(64, resolution=32)
    module = build(
        config["training"], model=partial(build, config["model"]), loss=None, augment=None,
        data=lambda split: images, runtime=CPU, seed=0, num_samples=4,
    ).module  # fmt: skip
    assert type(module.generator).__module__ == f"wplus.models.{family}"
    assert (config["data"]["_target_"], config["data"]["resolution"]) == ("wplus.data.cats.cat_images", 32)
    assert sum(parameter.numel() for parameter in module.generator.parameters()) < 2e6
    before = [parameter.detach().clone() for parameter in module.parameters()]
    module.run_step(*Batches(images, module.batch_size).at(0), optimizers=module.configure_optimizers())
    assert module.skipped.tolist() == [0, 0]
    assert all(tensor.isfinite().all() for tensor in module.state_dict().values())
    assert sum(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True)) > len(before) / 4
    end = round(config["schedule"]["kimg"] * 1000)
    assert module.growth is None or module.growth.lod(end * 2 // 3) == 0


# --- which number wins: Hparams' default, the loss, the model's preset, a chosen preset, what was given -------------


def spec(**changes: Any) -> GanSpec:
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
    assert spec().resolve(32)["n_critic"] == (1, "as published")
    with_loss = spec(hparams={"n_critic": 5, "gamma": 9.0}).resolve(32)
    assert with_loss["n_critic"] == (5, "the loss's")
    assert with_loss["gamma"][0] == pytest.approx(0.0064)  # the preset's
    chosen = spec(hparams={"n_critic": 5}, presets=[auto, calm]).resolve(32)
    assert (chosen["n_critic"], chosen["batch_size"]) == ((2, "calm"), (8, "calm"))
    assert chosen["lr_discriminator"][0] == 0.0025
    assert chosen["gamma"][0] == pytest.approx(0.0002 * 32**2 / 8)  # the model's follow the chosen preset's batch
    given = {"n_critic": 3, "lr_generator": None}
    found = spec(hparams={"n_critic": 5}, presets=[auto, calm], given=given).resolve(32)
    assert (found["n_critic"], found["lr_generator"]) == ((3, "given"), (1e-5, "calm"))
    assert override(auto(32, None), {"gamma": 0})["gamma"] == (0, "given")


def test_weights_of_penalties_that_the_loss_does_not_bring():
    numbers = spec(penalties=penalties("gradient_penalty"), given={"gamma": 0.5}).resolve(32)
    assert numbers["gamma"] == (0.0, "given as 0.5, but this loss has no penalty with this weight")
    assert numbers["gp_weight"] == (10.0, "as published")
    assert spec().resolve(32)["gp_weight"] == (0.0, "this loss has no penalty with this weight")


def test_a_module_of_them(make_images):
    choices = spec(penalties=penalties("gradient_penalty"), hparams={"r1_interval": 1}, given={"pl_weight": 0.0})
    module, numbers = build_gan(make_images(), choices, runtime=CPU)
    assert [phase.name for phase in module.phases()] == ["generator", "discriminator"]
    assert [penalty.name for penalty in module.penalties] == ["gradient_penalty"]
    assert module.generator.arguments["num_mapping_layers"] == numbers["num_mapping_layers"][0] == 2
    assert module.discriminator.arguments["mbstd_group_size"] == 4


@pytest.mark.parametrize("labels", [torch.eye(3)[[0, 0, 0, 0, 2]], torch.randn(5, 3) * 4, torch.ones(5, 3)])
def test_labels_of_the_data_go_with_the_networks(make_images, labels):
    data = replace(make_images(5), labels=labels)
    module, _ = build_gan(data, spec(), runtime=CPU)
    assert sorted(module.ema.data_labels.tolist()) == sorted(labels.tolist())
    drawn: list[list[float]] = []
    module.ema.register_forward_pre_hook(lambda net, given: drawn.extend(given[1].tolist()))
    SampleView(data, seed=1, num_samples=10).sample(module)
    if (labels.sum(dim=1) == 1).all():  # classes
        assert sorted(drawn[:3]) == sorted(torch.eye(3).tolist())
    else:
        assert sorted(drawn) == sorted(2 * labels.tolist())


def test_a_model_brings_its_loss_and_a_training_its_augmentation(make_images):
    loss = {"generator_loss": critic_generator, "discriminator_loss": wasserstein_discriminator}
    choices = {"preset": None, "hparams": {}, "micro_batch_size": None, "runtime": CPU, "seed": 0, "num_samples": 4}
    choices |= {"data": lambda split: make_images(), "model": lambda: {**model(**SMALL), "loss": loss}}
    plain = gan_training(loss=None, **choices).module
    assert plain.discriminator_loss is wasserstein_discriminator
    assert plain.run_fingerprint["augment"] is None
    assert not [name for name in plain.state_dict() if "augment" in name]
    other = {**loss, "generator_loss": nonsaturating_generator}
    module = gan_training(loss=lambda: other, augment=lambda: FixedAugment(0.3), **choices).module
    assert module.generator_loss is nonsaturating_generator
    assert module.augment.p.item() == pytest.approx(0.3)
    assert module.run_fingerprint["augment"] == {"p": 0.3}


def test_half_precision_where_a_network_has_it(make_images):
    gpu = Runtime(device=torch.device("cuda"), precision="bf16")
    assert build_gan(make_images(), spec(), runtime=gpu)[0].generator.synthesis.b8.compute_dtype == torch.bfloat16


def test_explain():
    text = explain({"gamma": (0.5, "given"), "lr": (2.5e-3, "below 1024 px"), "ema_rampup": (None, "no ramp-up")})
    assert text == "  gamma = 0.5  (given)\n  lr = 0.0025  (below 1024 px)\n  ema_rampup = none  (no ramp-up)"
    silent = {"gamma_end": (None, "as published"), "pl_decay": (0.01, "as published")}
    assert explain(silent) == "  pl_decay = 0.01  (as published)"


def test_numbers_that_move_go_on_a_cosine():
    numbers = {"batch_size": 4, "gamma": 2.0, "lr_generator": 2e-4, "lr_discriminator": 4e-4, "ema_kimg": 0.0}
    ends = {"beta2": 0.9, "gamma_end": 0.2, "lr_end": 5e-5, "beta2_end": 0.99}
    hparams = Hparams(**numbers, ema_rampup=None, decay_kimg=10.0, **ends)
    start, middle, end = hparams.at(0), hparams.at(5_000), hparams.at(25_000)
    assert (start.gamma, start.lr_generator, start.beta2) == (2.0, 2e-4, 0.9)
    assert (middle.gamma, middle.lr_discriminator) == pytest.approx((1.1, 2.25e-4))
    assert hparams.at(2_500).gamma == pytest.approx(2.0 - 1.8 * (1 - 2**-0.5) / 2)
    assert (end.gamma, end.lr_generator, end.lr_discriminator) == pytest.approx((0.2, 5e-5, 5e-5))
    assert (end.beta2, end.ema_kimg) == (pytest.approx(0.99), 0.0)
    still = Hparams(**numbers, ema_rampup=None, gamma_end=0.2)
    assert still.at(25_000) is still
