"""The sweeps of convergence: every run composes, has a descriptive name, and trains."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from PIL import Image

import wplus
from experiments.studies.convergence import curves
from wplus.commands.sweep import sweep
from wplus.config import CONFIG_FOLDER, composed
from wplus.sweeps.sizes import sized
from wplus.sweeps.spec import read_spec, value_text
from wplus.training.hparams import explain_config
from wplus.training.validate import check_options

SPEC = read_spec(CONFIG_FOLDER / "sweep" / "convergence.yaml")
TRAIN = SPEC.stages[0]
R3GAN = sized(SPEC, "r3gan")[0].stages[0]
TAUGHT = read_spec(CONFIG_FOLDER / "sweep" / "taught.yaml")


def recorded(folder: Path, values: list[float]) -> Path:
    """A run measured before it began, after two minutes and after ten, with the time in earlier rows."""
    rows: list[dict[str, Any]] = [{"progress/kimg": 0.0, "time": 1.0}]
    for kimg, minutes, value in zip((0.0, 10.0, 50.0), (0.0, 2.0, 10.0), values, strict=True):
        rows += [{"progress/kimg": kimg, "progress/minutes": minutes}] if kimg else []
        rows += [{"progress/kimg": kimg, "val/fd_mobilenet_v2": value}]
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def test_a_run_tells_of_all_shorter_ones(tmp_path):
    runs = [recorded(tmp_path / "0", [900.0, 500.0, 100.0]), recorded(tmp_path / "1", [900.0, 700.0, 300.0])]

    def row(moments: tuple[float, ...], axis: str, unit: float = 1.0, folders: list[Path] = runs) -> str:
        found = {"own": [curves.on_axis(folder, "val/fd_mobilenet_v2", axis, unit) for folder in folders]}
        return curves.table(found, moments, ".0f").splitlines()[-1]

    minutes, multiples, kimg = curves.MOMENTS
    expected = "| own | 750 (700 to 800) | 600 (500 to 700) | 450 (350 to 550) | 200 (100 to 300) |"
    assert row((1.0, 2.0, 5.0, 10.0), minutes) == expected
    assert row((0.5, 1.0, 2.5, 5.0), multiples, curves.minutes_of_unit(runs)) == expected  # 10,000 images in 2 minutes
    assert row((5.0, 10.0, 25.0, 50.0), kimg) == expected
    assert row((5.0, 10.0, 20.0), minutes, folders=runs[:1]) == "| own | 350 | 100 |"  # one seed, and no further
    with Image.open(curves.drawn({"own": runs}, tmp_path / "curves.png")) as image:
        assert image.width > 1000


def test_time_of_the_baseline_is_known_only_if_it_got_so_far(tmp_path):
    (tmp_path / "records.jsonl").write_text(json.dumps({"progress/kimg": 5.0, "progress/minutes": 2.0}))
    assert str(curves.minutes_of_unit([tmp_path])) == "nan"
    assert str(curves.minutes_of_unit([])) == "nan"


def test_methods_have_names_of_their_own():
    names = [curves.name_of(point) for point in TRAIN.points]
    assert names == [curves.BASELINE, *names[1:]]
    assert {*names, *(curves.name_of(point) for point in R3GAN.points)} == set(curves.TITLES.values())
    assert curves.name_of({"discriminator": "aided", "discriminator.heads.weight": 2.0}) == "aided, weight 2.0"


def overrides(point: dict) -> list[str]:
    return [*TRAIN.overrides, *(f"{key}={value_text(value)}" for key, value in point.items())]


def test_the_finals_share_the_first_seed(capsys, monkeypatch, tmp_path):
    """They would not if the methods differed by a preset, which then counts in the folder of every run."""
    monkeypatch.chdir(tmp_path)
    found = []
    for size in ("full", "finals"):
        assert sweep(["run", "convergence", f"size={size}", "--dry"]) == 0
        found.append(set(re.findall(r"runs/cats32-\w+", capsys.readouterr().out)))
    assert [len(each) for each in found] == [6, 9]
    assert len(found[0] & found[1]) == 3


@pytest.mark.parametrize("point", [*TRAIN.points, *R3GAN.points], ids=curves.name_of)
def test_every_method_composes_and_lasts_by_the_minute(point):
    config = composed("train", overrides({**point, "seed": 1}))
    assert config["schedule"]["kimg"] is None
    assert config["schedule"]["minutes"] == 12
    numbers = explain_config(config)
    assert numbers["batch_size"][0] == point.get("training.hparams.batch_size", 32)
    chosen = config.get("discriminator")
    assert (numbers["gamma"][0] == 0) == (chosen is not None and "loss" in chosen)
    for role in ("generator", "discriminator"):
        options = {key: value for key, value in config["model"][role].items() if not key.startswith("_")}
        check_options(role, partial(get_class(config["model"][role]["_target_"]), **options))


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
    small += [
        "discriminator.network.input_px=32",
        "num_samples=4",
        "tracking=local",
        f"run_dir={tmp_path}/run",
        "probes=[]",
    ]
    point = next(point for point in TRAIN.points if "discriminator.heads.floor" in point)
    plain = [each for each in overrides(point) if not each.startswith(("probes", "extractor"))]
    assert main(["train", *plain, *small]) == 0
    found = wplus.load(tmp_path / "run" / "model.safetensors")
    assert found.saw == ("effnet_lite0",)
    assert found.discriminator(torch.zeros(4, 3, 32, 32)).shape == (4, 1)
