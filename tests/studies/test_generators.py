"""The study of generators: its commands compose, its table matches the folders, its speed is of full networks."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from experiments.studies.generators import speed, study, tables
from wplus.checkpoint import save
from wplus.config import CONFIG_FOLDER, plain
from wplus.core.runtime import Runtime
from wplus.models import mlp_gan
from wplus.models.progressive import Growth


@pytest.mark.parametrize("name", study.MODELS)
def test_every_command_composes(name, tmp_path):
    train, measure = study.commands(tmp_path, [name], kimg=40, num_images=500)
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        training = plain(compose("train", train[1:]))
        measuring = plain(compose("evaluate", measure[1:]))
    assert training["model"]["generator"]["_target_"] == f"wplus.models.{name}.Generator"
    assert training["schedule"]["kimg"] == 40
    assert set(measuring["metrics"]) == set(study.METRICS)
    assert measuring["checkpoint"] == f"{training['run_dir']}/model.safetensors"


def test_all_models_see_the_same_images(tmp_path):
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        seen = [compose("train", study.overrides(name, 40)) for name in study.MODELS]
    assert len({json.dumps(plain(config)["data"]) for config in seen}) == 1
    assert len({(config.mirror, config.schedule.kimg) for config in seen}) == 1


def test_numbers_follow_the_length_of_the_run():
    assert "training.hparams.decay_kimg=12.5" in study.overrides("r3gan", 12.5)


def folder_of(output: Path, values: dict[str, float]) -> Path:
    (output / "samples").mkdir(parents=True)
    (output / "measured").mkdir()
    for clock, grey in (("0000000.000", 0), ("0000040.000", 200)):
        Image.new("RGB", (64, 64), (grey,) * 3).save(output / "samples" / f"kimg-{clock}.png")
    entries = {name: {"value": value, "interval": [value - 1, value + 1]} for name, value in values.items()}
    (output / "measured" / "result.json").write_text(json.dumps({"values": entries}))
    (output / "result.json").write_text(json.dumps({"values": {"train/kimg": {"value": 40.0}}}))
    shape = {"resolution": 8, "width": 4}
    save(
        output / "model.safetensors",
        generator=mlp_gan.Generator(z_dim=4, **shape),
        discriminator=mlp_gan.Discriminator(**shape),
    )
    return output


def test_the_table_says_what_the_folders_say(tmp_path, capsys):
    values = {name: 10.0 + index for index, name in enumerate(tables.COLUMNS)}
    values["ppl_zfull_5000_effnet_lite0"] = values.pop("ppl_zfull")
    for name in study.MODELS:
        folder_of(tmp_path / name, values)
    tables.write_tables(tmp_path, dict.fromkeys(study.MODELS, 123.4))
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert len(lines) == 2 + len(study.MODELS)
    assert lines[2].startswith("| mlp_gan | 10 (9 to 11) | 11.00 (10.00 to 12.00) |")
    assert "| 14.0 (13.0 to 15.0) | 123 |" in lines[2]
    found = json.loads((tmp_path / "table.json").read_text())["mlp_gan"]
    assert found["ppl_zfull"]["name"] == "ppl_zfull_5000_effnet_lite0"
    grid = Image.open(tmp_path / "grid_mlp_gan.png")
    assert grid.size == (64, 32)
    assert grid.getpixel((0, 0)) == (200, 200, 200)  # of the last moment


def test_speed_is_measured_of_networks_that_have_grown():
    small = ["model.generator.channel_base=32", "model.generator.z_dim=8", "data.resolution=16"]
    small.append("training.hparams.batch_size=4")
    game, data = speed.build_gan([*study.overrides("progan", 40), *small], Runtime.prepare("cpu"))
    turn = speed.steps(game, data)
    before = [parameter.clone() for parameter in game.generator.parameters()]
    turn()
    levels = [part.value for part in game.modules() if isinstance(part, Growth)]
    assert levels
    assert not any(levels)
    moved = [not torch.equal(a, b) for a, b in zip(before, game.generator.parameters(), strict=True)]
    assert sum(moved) > len(moved) // 2
