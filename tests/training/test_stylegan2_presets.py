"""Every number of StyleGAN2-ADA's presets, as composed from the configuration with model=stylegan2."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from wplus.config import CONFIG_FOLDER, build, plain
from wplus.errors import UserError
from wplus.models import progan, stylegan1
from wplus.models.stylegan2 import Discriminator, Generator
from wplus.training.augment import NoAugment
from wplus.training.build import GanSpec
from wplus.training.validate import check_preset

PUBLISHED = {
    # resolution: batch, stddev group, channel base, learning rate, gamma, EMA kimg, ramp-up, mapping layers
    ("stylegan2", 1024): (32, 4, 32768, 0.002, 10, 10, None, 8),
    ("paper256", 256): (64, 8, 16384, 0.0025, 1, 20, None, 8),
    ("paper512", 512): (64, 8, 32768, 0.0025, 0.5, 20, None, 8),
    ("paper1024", 1024): (32, 4, 32768, 0.002, 2, 10, None, 8),
    ("cifar", 32): (64, 32, 32768, 0.0025, 0.01, 500, 0.05, 2),
    # the formulas of auto on one device: min(4096 // r, 32), 0.0002 r^2 / batch, batch 10/32
    ("auto", 32): (32, 4, 16384, 0.0025, 0.0064, 10, 0.05, 2),
    ("auto", 64): (32, 4, 16384, 0.0025, 0.0256, 10, 0.05, 2),
    ("auto", 256): (16, 4, 16384, 0.0025, 0.8192, 5, 0.05, 2),
    ("auto", 512): (8, 4, 32768, 0.0025, 6.5536, 2.5, 0.05, 2),
    ("auto", 1024): (4, 4, 32768, 0.002, 52.4288, 1.25, 0.05, 2),
}
NAMES = (
    "batch_size", "mbstd_group_size", "channel_base", "lr_generator", "gamma", "ema_kimg", "ema_rampup",
    "num_mapping_layers",
)  # fmt: skip
THE_SAME_FOR_ALL = {
    "channel_max": 512,
    "beta1": 0.0,
    "beta2": 0.99,
    "adam_eps": 1e-8,
    "r1_interval": 16,
    "pl_interval": 4,
    "pl_weight": 2.0,
    "pl_decay": 0.01,
    "pl_batch_shrink": 2,
    "style_mixing_prob": 0.9,
}


def settings(name: str, *overrides: str) -> GanSpec:
    """What `train.py training=<name>` would train with."""
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = compose("train", [f"training={name}", "run_dir=x", *overrides])
    cfg = {key: plain(cfg[key]) for key in ("model", "training")}
    parts = build(cfg["model"])
    chosen = build(cfg["training"]["preset"]) if cfg["training"]["preset"] else None
    return GanSpec(
        generator=parts["generator"],
        discriminator=parts["discriminator"],
        presets=[preset for preset in (parts["preset"], chosen) if preset is not None],
        hparams=cfg["training"]["hparams"],
        **parts["loss"],
    )


def values(name: str, resolution: int, *overrides: str) -> dict[str, Any]:
    return {key: value for key, (value, _) in settings(name, *overrides).resolve(resolution).items()}


@pytest.mark.parametrize(("preset", "expected"), PUBLISHED.items(), ids=lambda item: str(item[0]))
def test_the_published_numbers(preset, expected):
    found = values(*preset)
    assert {name: found[name] for name in NAMES} == pytest.approx(dict(zip(NAMES, expected, strict=True)))
    assert found["lr_discriminator"] == found["lr_generator"]
    same = {name: found[name] for name in THE_SAME_FOR_ALL}
    without = {"pl_weight": 0.0, "style_mixing_prob": 0.0} if preset[0] == "cifar" else {}
    assert same == THE_SAME_FOR_ALL | without


EXPERIMENTS = {
    # experiment: training, resolution, kimg, mirror, augmentation, architecture of D
    "ada_paper256": ("paper256", 256, 25_000, "x", "AdaptiveAugment", "resnet"),
    "ada_paper512": ("paper512", 512, 25_000, "x", "AdaptiveAugment", "resnet"),
    "ada_paper1024": ("paper1024", 1024, 25_000, "x", "AdaptiveAugment", "resnet"),
    "ada_cifar": ("cifar", 32, 100_000, "none", "AdaptiveAugment", "orig"),
    "stylegan2_config_f": ("stylegan2", 1024, 25_000, "x", "NoAugment", "resnet"),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_published_runs(name):
    """What the published command has besides the numbers, whichever data set is named beside the experiment."""
    training, resolution, kimg, mirror, augment, architecture = EXPERIMENTS[name]
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = compose("train", [f"experiment={name}", "data=zip", "data.path=x.zip"])
    assert cfg.training.preset["_target_"] == f"wplus.training.stylegan2_presets.{training}"
    assert (cfg.name, cfg.data.resolution, cfg.schedule.kimg, cfg.mirror) == (name, resolution, kimg, mirror)
    assert cfg.model.discriminator.architecture == architecture
    augmentation = build(plain(cfg.augment)) if cfg.augment else NoAugment()
    assert type(augmentation).__name__ == augment
    if augment == "AdaptiveAugment":
        assert (augmentation.target, augmentation.interval, augmentation.speed) == (0.6, 4, 500_000)
        assert cfg.augment.transforms == "bgc"
    batch = PUBLISHED[training, resolution][0]
    for interval in (cfg.schedule.log_kimg, cfg.schedule.snapshot_kimg):
        assert round(interval * 1000) % batch == 0
    assert cfg.model.generator["_target_"].endswith("stylegan2.Generator")
    assert all(value is None for value in cfg.training.hparams.values())


def test_a_batch_that_is_given_changes_nothing_else():
    given = values("paper512", 512, "training.hparams.batch_size=16")
    assert given == {**values("paper512", 512), "batch_size": 16}


@pytest.mark.parametrize(("name", "architecture"), [("cifar", "orig"), ("paper256", "resnet"), ("auto", "resnet")])
def test_the_networks_of_a_preset(name, architecture):
    chosen = settings(name)
    assert chosen.discriminator.keywords["architecture"] == architecture
    assert (chosen.generator.keywords["z_dim"], chosen.generator.keywords["w_dim"]) == (512, 512)
    assert chosen.generator.func is Generator


@pytest.mark.parametrize("name", ["stylegan2", "paper256", "paper512", "paper1024", "cifar"])
def test_they_are_for_stylegan2_alone(name):
    *_, preset = settings(name).presets
    check_preset(preset, Generator)
    for other in (progan.Generator, stylegan1.Generator):
        with pytest.raises(UserError, match=rf"^training={name} is refused with \w+: .* or model=stylegan2\.$"):
            check_preset(preset, other)


def test_a_preset_for_all_is_refused_with_none():
    for preset in settings("dcgan").presets:
        check_preset(preset, progan.Generator)


# The discriminator that cifar asks for


def small(architecture: str) -> Discriminator:
    make = partial(Discriminator, resolution=16, channel_base=128, channel_max=16, mbstd_group_size=2)
    return make(architecture=architecture)


def test_without_residual_branches_the_gain_is_1():
    """Without biases everything is homogeneous: with branches of weight 0 each of the two blocks gives 1/sqrt(2)."""
    torch.manual_seed(0)
    residual, plain_one = small("resnet"), small("orig")
    assert not any("skip" in name for name in plain_one.state_dict())
    state = residual.state_dict()
    plain_one.load_state_dict({name: value for name, value in state.items() if "skip" not in name})
    for name, parameter in residual.named_parameters():
        if "skip" in name:
            parameter.data.zero_()
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(plain_one(images) / 2, residual(images), rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_weight_of_it_twice():
    network, images = small("orig"), torch.randn(4, 3, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(images).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    named = {name: p.grad for name, p in network.named_parameters() if name.endswith("weight")}
    assert all(grad is not None and grad.abs().sum() > 0 for grad in named.values())
    assert Discriminator(**network.arguments).state_dict().keys() == network.state_dict().keys()


def test_an_unknown_architecture_is_refused():
    with pytest.raises(UserError, match=r"architecture=dense is not known; it must be resnet, orig or skip\."):
        small("dense")
