"""The presets' numbers, one by one."""

from __future__ import annotations

from typing import Any

import pytest

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
