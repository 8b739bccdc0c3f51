"""The sweeps of convergence: every run composes, is named by what it is, and trains."""

import pytest
import torch

import wplus
from wplus.config import CONFIG_FOLDER, composed
from wplus.sweeps.spec import read_spec, value_text
from wplus.training.hparams import explain_config

SPEC = read_spec(CONFIG_FOLDER / "sweep" / "convergence.yaml")
TRAIN = SPEC.stages[0]
TAUGHT = read_spec(CONFIG_FOLDER / "sweep" / "taught.yaml")


def overrides(point: dict) -> list[str]:
    return [*TRAIN.overrides, *(f"{key}={value_text(value)}" for key, value in point.items())]


@pytest.mark.parametrize("number", range(len(TRAIN.points)))
def test_every_method_composes_and_lasts_by_the_minute(number):
    config = composed("train", overrides({**TRAIN.points[number], "schedule.minutes": 2, "seed": 1}))
    assert config["schedule"]["kimg"] is None
    assert config["schedule"]["minutes"] == 2
    numbers = explain_config(config)
    assert numbers["batch_size"][0] == TRAIN.points[number].get("training.hparams.batch_size", 32)
    chosen = config.get("discriminator")
    assert (numbers["gamma"][0] == 0) == (chosen is not None and "loss" in chosen)


@pytest.mark.parametrize(("spec", "stage"), [(SPEC, 0), (TAUGHT, 1)], ids=["convergence", "taught"])
def test_no_method_is_judged_by_what_it_saw(spec, stage):
    folders = dict.fromkeys(("pixels", "goes_on", "train"), "x")
    config = composed("evaluate", [o.format(**folders) for o in spec.stages[stage + 1].overrides])
    judge = config["metrics"]["fd"]["extractor"]["_target_"]
    for point in spec.stages[stage].points:
        shared = [o.format(**folders) for o in spec.stages[stage].overrides]
        keys = [f"{key}={value_text(value)}" for key, value in point.items()]
        chosen = composed("train", [*shared, *keys]).get("discriminator")
        nets = chosen["network"].get("nets", []) if chosen else []
        assert not [net for net in nets if f".{net}." in judge]


def test_one_of_them_for_a_moment(tmp_path):
    """The command, small: heads learn beside the pixels, and the file says whom it cannot be judged by."""
    from wplus.__main__ import main

    small = ["data.num_images=64", "model.generator.channel_base=128", "schedule.kimg=0.064", "schedule.minutes=null"]
    small += ["discriminator.network.input_px=32", "num_samples=4", "tracking=local", f"run_dir={tmp_path}/run"]
    point = next(point for point in TRAIN.points if "discriminator.heads.target" in point)
    assert main(["train", *overrides(point), "trainer.threads=1", *small]) == 0
    found = wplus.load(tmp_path / "run" / "model.safetensors")
    assert found.saw == ("effnet_lite0",)
    assert found.discriminator(torch.zeros(4, 3, 32, 32)).shape == (4, 1)
