"""The study of the monitor: its commands compose, and it prints and draws the content of the folders."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from experiments.studies.collapse import study
from wplus.__main__ import verbs
from wplus.config import CONFIG_FOLDER, plain
from wplus.tracking.local import open_tracker


@pytest.mark.parametrize("name", study.RUNS)
def test_every_command_composes(name, tmp_path):
    script, *overrides = study.command(tmp_path, name, num_images=256)
    assert script in verbs()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = plain(compose("train", overrides))
    assert list(config["probes"]) == ["monitor"]
    assert config["probes"]["monitor"]["num_images"] == 256
    assert all(Path(path).is_file() for path in config["transfer"]["checkpoint"])
    assert config["schedule"]["kimg"] > 2 * config["schedule"]["snapshot_kimg"]


def test_only_the_healthy_run_is_left_as_it_is():
    assert [name for name, changes in study.RUNS.items() if not changes] == ["healthy"]


def test_what_was_said_is_told_and_drawn(tmp_path):
    for name in study.RUNS:
        with open_tracker(output_dir=tmp_path / name, job_type="train", name=name) as tracker:
            if name == "collapse":
                tracker.log_message("Recall fell.", level="warning", kimg=0.5)
            tracker.summary({"probe/health": "alarm" if name == "collapse" else "well"})
        rows = [
            {"kimg": kimg, "measures": {measure: {"value": 0.5, "error": 0.1} for measure in study.PANELS.values()}}
            for kimg in (0.0, 0.5)
        ]
        del rows[0]["measures"]["r_v"]
        (tmp_path / name / "health.json").write_text(json.dumps({"readings": rows}))
    assert study.told(tmp_path / "collapse") == "collapse, at the end: alarm\n  at 0.5 kimg: Recall fell."
    assert study.told(tmp_path / "healthy") == "healthy, at the end: well\n  nothing was said"
    assert study.series(tmp_path / "overfit", "r_v") == ([0.5], [0.5], [0.1])
    assert study.bars("recall", [0.05, 0.9], [0.1, 0.02]) == [[0.05, 0.06], pytest.approx([0.3, 0.06])]
    assert study.bars("r_v", [0.05], [0.1]) == [pytest.approx([0.3])] * 2
    with Image.open(study.draw(tmp_path)) as picture:
        assert picture.width > 2 * picture.height
