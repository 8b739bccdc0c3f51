"""The study of translation: its commands compose, and its table matches the records."""

import json

import pytest
from hydra import compose, initialize_config_dir

from experiments.studies.translation import study
from wplus.__main__ import verbs
from wplus.config import CONFIG_FOLDER, plain
from wplus.data.cat_domains import TASKS as UNPAIRED
from wplus.data.cat_pairs import TASKS as PAIRED


def test_every_bundled_task_is_a_part():
    assert set(study.TASKS) == {*PAIRED, *UNPAIRED}


@pytest.mark.parametrize("task", ["outline", "hat"])
def test_every_command_composes(tmp_path, task):
    commands = list(study.commands(tmp_path, [task], 7, ["schedule.kimg=1"]))
    assert [command[0] for command in commands] == ["train", *["translate"] * len(study.TASKS[task][2])]
    for verb, *overrides in commands:
        assert verb in verbs()
        with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            assert plain(compose(verb, overrides))["data"]["task"] == task


def test_the_table(tmp_path):
    number = {"value": 0.125, "interval": [0.1, 0.15], "protocol": {"on_the_truth": 0.5}}
    values = {"translate/l1": number, "translate/changed_fur": number, "translate/kept_body": number}
    for direction in ("forward", "backward"):
        folder = study.folder_of(tmp_path, "fur", direction)
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps({"values": values}))
        (folder / "grid.png").write_bytes(b"x")
    study.write_tables(tmp_path, ["fur"])
    text = (tmp_path / "table.md").read_text()
    assert "| fur, backward | 0.125 (0.1 to 0.15) |" in text
    assert "| fur, forward | 0.12 (0.50) | changed: 0.12 (0.50) |" in text
    assert (tmp_path / "grid_fur-backward.png").is_file()
