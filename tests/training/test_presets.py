"""The presets' numbers, one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from wplus.config import CONFIG_FOLDER, plain
from wplus.training import presets


def values(preset: str, resolution: int, batch_size: int | None = None) -> dict[str, Any]:
    return {name: value for name, (value, _) in getattr(presets, preset)(resolution, batch_size).items()}


@pytest.mark.parametrize(("preset", "batch"), [("mlp_gan", 64), ("dcgan", 128)])
def test_small_gans(preset, batch):
    assert values(preset, 64) == {
        "batch_size": batch,
        "lr_generator": 2e-4,
        "lr_discriminator": 2e-4,
        "beta1": 0.5,
        "beta2": 0.999,
        "gamma": 0.0,
        "ema_kimg": 0.0,
        "ema_rampup": None,
        "style_mixing_prob": 0.0,
        "pl_weight": 0.0,
    }
    assert values(preset, 64, 8)["batch_size"] == 8


@pytest.mark.parametrize(
    ("resolution", "gamma", "gamma_end", "ema_kimg_end", "batch"),
    [
        (32, 0.05, 0.005, 5000, 512),
        (64, 2, 0.2, 500, 256),
        (128, 17.3, 1.73, 500, 256),  # sqrt(2 * 150), for none was published
        (256, 150, 15, 500, 256),
    ],
)
def test_r3gan(resolution, gamma, gamma_end, ema_kimg_end, batch):
    found = values("r3gan", resolution)
    expected = {"batch_size": batch, "gamma": gamma, "gamma_end": gamma_end, "ema_kimg_end": ema_kimg_end}
    expected |= {"lr_generator": 2e-4, "lr_discriminator": 2e-4, "lr_end": 5e-5, "beta1": 0.0, "beta2": 0.9}
    expected |= {"beta2_end": 0.99, "ema_kimg": 0.0, "decay_kimg": 20_000, "ema_rampup": None}
    assert found == {**expected, "style_mixing_prob": 0.0, "pl_weight": 0.0}


@pytest.mark.parametrize(("resolution", "batch"), [(8, 256), (16, 128), (32, 64), (64, 32), (1024, 32)])
def test_progan(resolution, batch):
    found = values("progan", resolution)
    assert found["ema_kimg"] == pytest.approx(batch * 0.6928, rel=1e-3)  # 0.999 per step
    expected = {"batch_size": batch, "lr_generator": 0.001, "lr_discriminator": 0.001, "beta1": 0.0, "beta2": 0.99}
    expected |= {"start_resolution": 4, "stable_kimg": 600, "fade_kimg": 600, "n_critic": 1, "gp_weight": 10}
    expected |= {"gamma": 0, "ema_rampup": None, "mbstd_group_size": 4, "style_mixing_prob": 0.0, "pl_weight": 0.0}
    assert found == {**expected, "ema_kimg": found["ema_kimg"]}


def test_stylegan1():
    expected = {"batch_size": 32, "lr_generator": 0.001, "lr_discriminator": 0.001, "beta1": 0.0, "beta2": 0.99}
    expected |= {"start_resolution": 8, "stable_kimg": 600, "fade_kimg": 600, "gamma": 10, "r1_interval": 1}
    expected |= {"ema_kimg": 10, "ema_rampup": None, "mbstd_group_size": 4, "style_mixing_prob": 0.9, "pl_weight": 0}
    assert values("stylegan1", 256) == {**expected, "num_mapping_layers": 8, "n_critic": 1}


MAPS = {"channel_base": 16384, "channel_max": 512}
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # generator, discriminator (None: the preset's), loss of the generator
    "mlp_gan": (
        {"z_dim": 100, "width": 1200, "num_layers": 2},
        {"width": 240, "num_pieces": 5, "dropout_input": 0.2, "dropout": 0.5},
        "nonsaturating_generator",
    ),
    "dcgan": (
        {"z_dim": 100, "channel_base": 4096, "channel_max": 1024},
        {"channel_base": 4096, "channel_max": 1024},
        "nonsaturating_generator",
    ),
    "progan": ({"z_dim": 512, **MAPS}, {**MAPS, "mbstd_group_size": None}, "critic_generator"),
    "stylegan1": (
        {"z_dim": 512, "w_dim": 512, "num_mapping_layers": None, **MAPS},
        {**MAPS, "mbstd_group_size": None},
        "nonsaturating_generator",
    ),
    "stylegan2": (
        {"z_dim": 512, "w_dim": 512, "num_mapping_layers": None, "channel_base": None, "channel_max": None},
        {"channel_base": None, "channel_max": None, "mbstd_group_size": None, "architecture": "resnet"},
        "nonsaturating_generator",
    ),
    "r3gan": (
        {"z_dim": 64, "channel_base": 24576, "channel_max": 768},
        {"channel_base": 24576, "channel_max": 768},
        "relativistic_generator",
    ),
}


@pytest.mark.parametrize("family", NETWORKS)
def test_the_published_networks_and_loss_of_a_choice_of_model(family):
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        chosen = plain(compose("train", [f"model={family}"]))["model"]
    generator, discriminator, loss = NETWORKS[family]
    for role, expected in (("generator", generator), ("discriminator", discriminator)):
        assert {name: value for name, value in chosen[role].items() if name[0] != "_"} == expected
        assert chosen[role]["_target_"] == f"wplus.models.{family}.{role.title()}"
    assert chosen["loss"]["generator_loss"]["_target_"] == f"wplus.losses.adversarial.{loss}"
    assert chosen["preset"]["_target_"].rsplit(".", 1)[1] == ("auto" if family == "stylegan2" else family)
