"""The published numbers of every family and of StyleGAN2-ADA's presets, as composed from the configuration."""

from typing import Any

import pytest

from wplus.config import build, composed
from wplus.errors import UserError
from wplus.models import progan, stylegan1
from wplus.models.stylegan2 import Generator
from wplus.training.augment.control import NoAugment
from wplus.training.hparams import explain_config
from wplus.training.validate import check_preset


def numbers(resolution: int, *overrides: str) -> dict[str, Any]:
    """Every number that such a run would use."""
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
    *(
        (
            resolution,
            "model=progan",
            {**PROGAN, "batch_size": batch, "ema_kimg": pytest.approx(batch * 0.6928, rel=1e-3)},
        )
        for resolution, batch in [(8, 256), (16, 128), (32, 64), (64, 32), (1024, 32)]  # 0.999 per step
    ),
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
]


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
        "z_dim: 512, w_dim: 512, num_mapping_layers: None, channel_base: None, channel_max: None",
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


EXPERIMENTS = {
    # experiment: training, resolution, kimg, mirror, augmentation, architecture of D, batch
    "ada_paper256": ("paper256", 256, 25_000, "x", "AdaptiveAugment", "resnet", 64),
    "ada_paper512": ("paper512", 512, 25_000, "x", "AdaptiveAugment", "resnet", 64),
    "ada_paper1024": ("paper1024", 1024, 25_000, "x", "AdaptiveAugment", "resnet", 32),
    "ada_cifar": ("cifar", 32, 100_000, "none", "AdaptiveAugment", "orig", 64),
    "stylegan2_config_f": ("stylegan2", 1024, 25_000, "x", "NoAugment", "resnet", 32),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_published_runs(name):
    """What the published command has besides the numbers, whichever data set is named beside the experiment."""
    training, resolution, kimg, mirror, augment, architecture, batch = EXPERIMENTS[name]
    cfg = composed("train", [f"experiment={name}", "data=zip", "data.path=x.zip"])
    assert cfg["training"]["preset"]["name"] == training
    assert (cfg["name"], cfg["data"]["resolution"], cfg["schedule"]["kimg"], cfg["mirror"]) == (
        name, resolution, kimg, mirror,
    )  # fmt: skip
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


@pytest.mark.parametrize("name", ["stylegan2", "paper256", "paper512", "paper1024", "cifar"])
def test_those_of_stylegan2_are_for_it_alone(name):
    preset = composed("train", [f"training={name}"])["training"]["preset"]
    check_preset(preset, Generator)
    for other in (progan.Generator, stylegan1.Generator):
        with pytest.raises(UserError, match=rf"^training={name} is refused with \w+: .* or model=stylegan2\.$"):
            check_preset(preset, other)


def test_one_for_all_is_refused_with_none():
    check_preset(composed("train", ["training=dcgan"])["training"]["preset"], progan.Generator)
