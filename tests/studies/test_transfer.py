"""The study of transfer: its commands compose, and the arms differ only in their initialisation."""

import json

import pytest
from hydra import compose, initialize_config_dir

from experiments.studies.transfer import study
from wplus.__main__ import verbs
from wplus.config import CONFIG_FOLDER, plain
from wplus.training.transfer import Transfer


def config(primary, command):
    script, *overrides = command
    assert script in verbs()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return plain(compose(primary, overrides))


@pytest.mark.parametrize("name", study.ARMS)
def test_every_arm_composes(name, tmp_path):
    ours, scratch = (config("train", study.train(arm, tmp_path, 2.0)) for arm in (name, "scratch"))
    transfer = Transfer(**ours.pop("transfer"))
    assert all(path.is_file() for path in transfer.files)
    assert bool(transfer.files) == (name != "scratch")
    assert transfer.freeze_discriminator == (4 if name == "frozen" else 0)
    assert ours.pop("run_dir") != scratch.pop("run_dir") or name == "scratch"
    scratch.pop("transfer")
    assert ours == scratch


def test_what_is_measured_is_the_domain_with_other_cats(tmp_path):
    trained = config("train", study.train("both", tmp_path, 2.0))["data"]
    measured = config("evaluate", study.measure(study.SOURCE, tmp_path))["data"]
    changed = {key for key in trained if trained[key] != measured[key]}
    assert changed == {"num_images", "seed"}


def test_the_table(tmp_path):
    for name, value, mark in (("as it was", 0.25, "_seen"), ("scratch", 0.012, "")):
        folder = study.folder(tmp_path, name)
        folder.mkdir(parents=True)
        entry = {"value": value, "interval": [value - 0.001, value + 0.001]}
        (folder / "result.json").write_text(json.dumps({"values": {f"evaluate/kd_effnet_lite0{mark}": entry}}))
    lines = study.write_table(tmp_path, ["as it was", "scratch"]).read_text().splitlines()
    assert lines[2:] == ["| as it was (seen) | 250.0 | 249.0 to 251.0 |", "| scratch | 12.0 | 11.0 to 13.0 |"]
